"""The volume of a crystal from its composition, for cells whose elements were exchanged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

_RIDGE = 0.5


def atomic_volumes(compositions: Sequence[Mapping[int, int]], volumes: Sequence[float]) -> np.ndarray:
    """(119,) Å³ an atom of each element, by ridge regression of the volume of crystals on their compositions.

    compositions: {atomic number: atoms} of each; volumes: Å³ of as many atoms. An element that is not seen has the mean.
    """
    fractions = np.zeros((len(compositions), 119))
    per_atom = np.empty(len(compositions))
    for k, (counts, volume) in enumerate(zip(compositions, volumes, strict=True)):
        total = sum(counts.values())
        per_atom[k] = volume / total
        for z, n in counts.items():
            fractions[k, z] = n / total
    mean = float(per_atom.mean())
    gram = fractions.T @ fractions + _RIDGE * np.eye(119)
    return mean + np.linalg.solve(gram, fractions.T @ (per_atom - mean))


def ratio(volumes: np.ndarray, new: Mapping[int, int], old: Mapping[int, int]) -> float:
    """By how much a cell of the composition `old` must grow to hold as many atoms of `new`."""
    return _per_atom(volumes, new) / _per_atom(volumes, old)


def _per_atom(volumes: np.ndarray, counts: Mapping[int, int]) -> float:
    return max(sum(n * volumes[z] for z, n in counts.items()) / sum(counts.values()), 3.0)
