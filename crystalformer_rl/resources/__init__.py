"""What a run reads from elsewhere: the registry of named resources, and how they are fetched."""
