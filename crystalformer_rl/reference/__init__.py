"""Known crystals and energies, read: computed entries, corrections, scale, elements, files."""
