"""How readily one element takes another's place, learned from the compounds that share a prototype."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

_PRIOR = 0.5  # pairs; what is never seen together is unlike, not impossible
_ITSELF = 4.0
"""Of an element with itself, in nats; about what the likest pairs of elements reach."""


def likeness(families: Iterable[Sequence[Sequence[int]]]) -> np.ndarray:
    """(119, 119) pointwise mutual information, in nats, of two elements in one role of two compounds of one prototype.

    families: for each prototype, the elements by role (atomic numbers) of each of its compounds. A role with n compounds counts n
    times, not n² times, so that no large family decides alone. Row and column 0 are empty.
    """
    together = np.zeros((119, 119))
    for family in families:
        if len(family) < 2:
            continue
        for role in zip(*family, strict=True):
            numbers = Counter(role)
            others = sum(numbers.values()) - 1
            for a, n in numbers.items():
                for b, m in numbers.items():
                    together[a, b] += (n * (n - 1) if a == b else n * m) / others
    single = together.sum(1)
    expected = np.outer(single, single) / max(together.sum(), 1.0)
    found = np.log((together + _PRIOR) / (expected + _PRIOR))
    np.fill_diagonal(found, _ITSELF)
    return found
