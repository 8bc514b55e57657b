"""The tables that pass between stages: columns with unit and meaning, status, atomic Parquet, provenance."""
