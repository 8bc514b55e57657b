"""Wyckoff positions of the 230 space groups, standard setting of the International Tables.

Letters count from 1 (a) to 26 (z) and 27 (A); 0 stands for no site. The operations
act on the representative x of an orbit that satisfies x = op₀(x) mod 1; atom j of
the orbit sits at R_j x + t_j (fractional, conventional cell).

The file `wyckoff.npz` is made by `scripts/make_wyckoff_table.py`. It is read at the
first use, not at import.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from crystalformer_rl.errors import InputError

N_SPACE_GROUPS = 230
N_LETTERS = 27
LETTERS = "abcdefghijklmnopqrstuvwxyzA"


def letter_name(w: int) -> str:
    """`1` → `a`."""
    return LETTERS[w - 1]


def check_space_group(g: int) -> int:
    """`g` itself if it is a space group's number; InputError otherwise."""
    if not 1 <= g <= N_SPACE_GROUPS:
        raise InputError(f"There is no space group {g}; give a number from 1 to {N_SPACE_GROUPS}.")
    return g


@dataclass(frozen=True)
class WyckoffTable:
    """All positions. Index arrays by [space group, letter]; row 0 and column 0 are padding.

    multiplicities: (231, 28) int; letters: (231,) int, number of positions of the group;
    no_freedom: (231, 28) bool, a position that holds one orbit only; free: (231, 28, 3) bool,
    the coordinates that vary (rows of op₀ that are not zero); independent: those of them that the ones
    before do not determine (columns of op₀ that are not zero): y is not in (x, 2x, z).
    """

    offsets: np.ndarray
    all_operations: np.ndarray
    multiplicities: np.ndarray
    letters: np.ndarray
    no_freedom: np.ndarray
    free: np.ndarray
    independent: np.ndarray

    def operations(self, g: int, w: int) -> np.ndarray:
        """(M, 3, 4) float: rotation parts and, in the last column, translations."""
        start, stop = self.offsets[g, w], self.offsets[g, w + 1]
        if start == stop:
            raise InputError(f"Space group {g} has no Wyckoff letter {w}; it has letters 1 to {self.letters[g]}.")
        return self.all_operations[start:stop]

    def multiplicity(self, g: int, w: int) -> int:
        return int(self.multiplicities[g, w])

    def n_letters(self, g: int) -> int:
        return int(self.letters[g])


@cache
def wyckoff_table() -> WyckoffTable:
    """The table, read once."""
    with np.load(Path(__file__).with_name("wyckoff.npz")) as stored:
        offsets, rotations, translations = stored["offsets"], stored["rotations"], stored["translations"]
    operations = np.concatenate([rotations, translations[:, :, None] / 24.0], axis=2).astype(float)
    multiplicities = np.diff(offsets, axis=1).astype(int)
    first = rotations[np.minimum(offsets[:, :-1], len(rotations) - 1)]
    first[multiplicities == 0] = 0
    return WyckoffTable(
        offsets=offsets,
        all_operations=operations,
        multiplicities=multiplicities,
        letters=(multiplicities > 0).sum(1),
        no_freedom=(multiplicities > 0) & ~first.any(axis=(2, 3)),
        free=first.any(axis=3),
        independent=first.any(axis=2),
    )


def atoms_in_cell(g: int, letters: np.ndarray) -> int:
    """Atoms in the conventional cell of a crystal with these Wyckoff letters (0 counts nothing)."""
    return int(wyckoff_table().multiplicities[g, np.asarray(letters, int)].sum())


@cache
def centring_vectors(g: int) -> np.ndarray:
    """(k, 3) lattice points in the conventional cell, the origin first, fractional."""
    rotations, translations = _general_operations(g)
    pure = np.abs(rotations - np.eye(3)).max(axis=(1, 2)) == 0
    points = translations[pure] % 1.0
    return points[np.lexsort(points.T[::-1])]


@cache
def point_group_order(g: int) -> int:
    """Symmetry operations of a space group, translations of the lattice not counted: 48 for 225."""
    return len(_general_operations(g)[0]) // len(centring_vectors(g))


def _general_operations(g: int) -> tuple[np.ndarray, np.ndarray]:
    table = wyckoff_table()
    operations = table.operations(check_space_group(g), table.n_letters(g))
    return operations[:, :, :3], operations[:, :, 3]
