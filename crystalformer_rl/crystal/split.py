"""Which crystals are held out of training: a twentieth of the formulas, the same everywhere and always."""

from __future__ import annotations

import hashlib


def held_out(formula: str) -> bool:
    """Whether crystals of this reduced formula are held out (about 5 % of formulas)."""
    return hashlib.sha256(formula.encode()).digest()[0] % 20 == 0
