"""Which formulas the models learned from, kept as a few bytes each."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np


def fingerprints(formulas: Iterable[str]) -> np.ndarray:
    """Sorted distinct fingerprints (m,) uint32 of reduced formulas: the first four bytes of their SHA-256."""
    return np.unique(np.array([_fingerprint(formula) for formula in formulas], np.uint32))


def seen(formulas: Sequence[str], known: np.ndarray) -> np.ndarray:
    """Whether each reduced formula (n,) is among those with the fingerprints `known`; another is taken for one once in 100,000."""
    return np.isin(np.array([_fingerprint(formula) for formula in formulas], np.uint32), known)


def _fingerprint(formula: str) -> int:
    return int.from_bytes(hashlib.sha256(formula.encode()).digest()[:4], "little")
