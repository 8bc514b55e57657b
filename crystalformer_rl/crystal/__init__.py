"""What a crystal is: elements, symmetry tables, tokens, structure to tokens and back."""
