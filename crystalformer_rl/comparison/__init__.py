"""Ways to fine-tune side by side at the same number of evaluations: one table, curves, a picture, a document."""
