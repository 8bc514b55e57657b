"""What a notebook calls: stages on structures in memory, DataFrames out. Potentials answer from a process of their own."""
