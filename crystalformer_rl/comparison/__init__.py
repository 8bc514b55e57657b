"""Ways to fine-tune side by side at the same number of scored crystals: one table, curves, a picture, a document."""
