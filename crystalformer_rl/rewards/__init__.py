"""What a crystal is worth: figures turned into a reward by an algebra that the configuration writes down."""
