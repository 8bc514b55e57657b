"""Fine-tune a space-group-aware crystal generator on what machine-learned potentials say of its crystals."""

__version__ = "0.1.0"
