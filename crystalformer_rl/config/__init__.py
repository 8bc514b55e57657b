"""The configuration of a run: sections that stand beside what they configure, assembled, read and explained here."""
