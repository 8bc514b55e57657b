"""A crystal in the plainest terms: atomic numbers, fractional coordinates, lattice."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from crystalformer_rl.crystal.elements import reduced_formula
from crystalformer_rl.tables.status import Status

MOST_ATOMS = 10_000
"""In the cell given. A file with more is no crystal of this kind, and its distances would take minutes."""

LONGEST_VECTOR = 2_000.0
"""Å; no crystal repeats after more."""

SHORTEST_DISTANCE = 0.5
"""Å; two atoms nearer than this are one mistake, not a bond."""

_PAIRS_AT_ONCE = 1 << 16


@dataclass(frozen=True)
class Crystal:
    """A periodic crystal.

    atomic_numbers: (N,) int; frac_coords: (N, 3) float; lattice: (3, 3) float, row vectors in Å.
    """

    atomic_numbers: np.ndarray
    frac_coords: np.ndarray
    lattice: np.ndarray

    def __len__(self) -> int:
        return len(self.atomic_numbers)

    @property
    def volume(self) -> float:
        """Å³."""
        return float(abs(np.linalg.det(self.lattice)))

    @property
    def formula(self) -> str:
        return reduced_formula(self.atomic_numbers)


def crystal_status(crystal: Crystal) -> str:
    """`ok`, or the status that names why this cannot be a crystal."""
    if len(crystal) == 0:
        return Status.EMPTY_CRYSTAL
    if len(crystal) > MOST_ATOMS:
        return Status.TOO_LARGE
    numbers = np.asarray(crystal.atomic_numbers)
    if numbers.min() < 1 or numbers.max() > 118:
        return Status.UNKNOWN_ELEMENT
    if not np.all(np.isfinite(crystal.lattice)) or np.linalg.norm(crystal.lattice, axis=1).max() > LONGEST_VECTOR:
        return Status.BAD_LATTICE
    if crystal.volume < 0.1 * len(crystal):
        return Status.BAD_LATTICE
    if not np.all(np.isfinite(crystal.frac_coords)):
        return Status.BAD_COORDINATES
    return Status.OK if overlap(crystal) is None else Status.OVERLAPPING_ATOMS


def overlap(crystal: Crystal, limit: float = SHORTEST_DISTANCE) -> tuple[int, int] | None:
    """Two atoms nearer to each other than `limit` (Å), periodic images among them, or an atom twice where its own image is; None for none.

    Exact in any cell: a vector shorter than the limit has no component beyond limit / height along an axis, so that one
    image is enough unless the cell is thinner than twice the limit.
    """
    lattice, frac = np.asarray(crystal.lattice, float), np.asarray(crystal.frac_coords, float)
    reach = limit * np.linalg.norm(np.linalg.inv(lattice), axis=0)  # limit / height of each axis
    spans = [
        np.arange(-k, k + 1) if r >= 0.5 else np.zeros(1)
        for r, k in zip(reach, np.ceil(reach + 0.5).astype(int), strict=True)
    ]
    images = np.stack(np.meshgrid(*spans, indexing="ij"), -1).reshape(-1, 3)
    own = images[np.any(images != 0, axis=1)] @ lattice
    if len(own) and np.linalg.norm(own, axis=1).min() < limit:
        return 0, 0
    step = max(1, _PAIRS_AT_ONCE // (len(frac) * len(images)))
    for start in range(0, len(frac), step):
        delta = frac[start : start + step, None] - frac
        delta -= np.rint(delta)
        near = (np.linalg.norm((delta[:, :, None] + images) @ lattice, axis=-1) < limit).any(-1)
        near &= np.arange(len(frac)) > np.arange(start, start + len(near))[:, None]
        if near.any():
            first, second = np.argwhere(near)[0]
            return start + int(first), int(second)
    return None


def crystal_columns(crystals: Sequence[Crystal | None]) -> dict[str, list[Any]]:
    """The columns formula, atomic_numbers, frac_coords, lattice of the crystals table; None gives nulls."""
    return {
        "formula": [c.formula if c is not None and len(c) else None for c in crystals],
        "atomic_numbers": [None if c is None else np.asarray(c.atomic_numbers).tolist() for c in crystals],
        "frac_coords": [None if c is None else np.asarray(c.frac_coords, float).ravel().tolist() for c in crystals],
        "lattice": [None if c is None else np.asarray(c.lattice, float).ravel().tolist() for c in crystals],
    }


def crystals_from_table(table: pa.Table) -> tuple[list[Crystal | None], list[str]]:
    """The crystals of a crystals table and a status for each row; None where the row holds none.

    A row whose own `status` is not ok keeps that status. Lengths that do not fit
    together are `bad_coordinates` or `bad_lattice`.
    """
    columns: Iterable[Any] = zip(
        *(table.column(name).to_pylist() for name in ("atomic_numbers", "frac_coords", "lattice")), strict=True
    )
    given = table.column("status").to_pylist() if "status" in table.column_names else [Status.OK] * table.num_rows
    crystals: list[Crystal | None] = []
    statuses: list[str] = []
    for (numbers, coords, lattice), status in zip(columns, given, strict=True):
        crystal, found = _crystal_of_row(numbers, coords, lattice)
        crystals.append(crystal)
        statuses.append(status if status not in (None, Status.OK) else found)
    return crystals, statuses


def _crystal_of_row(numbers: Any, coords: Any, lattice: Any) -> tuple[Crystal | None, str]:
    if not numbers:
        return None, Status.EMPTY_CRYSTAL
    if lattice is None or len(lattice) != 9 or any(x is None for x in lattice):
        return None, Status.BAD_LATTICE
    if any(z is None for z in numbers):
        return None, Status.UNKNOWN_ELEMENT
    if coords is None or len(coords) != 3 * len(numbers) or any(x is None for x in coords):
        return None, Status.BAD_COORDINATES
    crystal = Crystal(np.array(numbers, int), np.array(coords, float).reshape(-1, 3), np.array(lattice, float).reshape(3, 3))
    return crystal, crystal_status(crystal)
