"""The structures of the elements: prototypes that a reference made of compounds lacks."""

from __future__ import annotations

import numpy as np

from crystalformer_rl.crystal.encode import symmetrize
from crystalformer_rl.crystal.lattice import lattice_matrix
from crystalformer_rl.crystal.structure import Crystal
from crystalformer_rl.crystal.tokens import Sites

_ATOMS: dict[str, tuple[int, tuple[float, ...], list[tuple[float, ...]]]] = {
    "fcc Cu": (29, (3.615, 3.615, 3.615, 90, 90, 90), [(0, 0, 0), (0, 0.5, 0.5), (0.5, 0, 0.5), (0.5, 0.5, 0)]),
    "bcc W": (74, (3.165, 3.165, 3.165, 90, 90, 90), [(0, 0, 0), (0.5, 0.5, 0.5)]),
    "hcp Mg": (12, (3.209, 3.209, 5.211, 90, 90, 120), [(1 / 3, 2 / 3, 0.25), (2 / 3, 1 / 3, 0.75)]),
    "dhcp La": (57, (3.774, 3.774, 12.171, 90, 90, 120),
                [(0, 0, 0), (0, 0, 0.5), (1 / 3, 2 / 3, 0.25), (2 / 3, 1 / 3, 0.75)]),
    "simple cubic Po": (84, (3.359, 3.359, 3.359, 90, 90, 90), [(0, 0, 0)]),
    "tetragonal In": (49, (3.253, 3.253, 4.947, 90, 90, 90), [(0, 0, 0), (0.5, 0.5, 0.5)]),
    "diamond Ge": (32, (4.0008, 4.0008, 4.0008, 60, 60, 60), [(0, 0, 0), (0.25, 0.25, 0.25)]),
    "white Sn": (50, (5.831, 5.831, 3.182, 90, 90, 90), [(0, 0, 0), (0.5, 0.5, 0.5), (0, 0.5, 0.25), (0.5, 0, 0.75)]),
    "graphite C": (6, (2.464, 2.464, 6.711, 90, 90, 120),
                   [(0, 0, 0.25), (0, 0, 0.75), (1 / 3, 2 / 3, 0.25), (2 / 3, 1 / 3, 0.75)]),
    "rhombohedral Sb": (51, (4.506, 4.506, 4.506, 57.11, 57.11, 57.11), [(0.2335,) * 3, (0.7665,) * 3]),
    "black P": (15, (3.314, 10.478, 4.376, 90, 90, 90),
                [(x, y, z) for dx, dy in ((0, 0), (0.5, 0.5))
                 for x, y, z in ((dx, 0.1017 + dy, 0.0806), (dx, 0.8983 + dy, 0.9194), (dx, 0.3983 + dy, 0.5806), (dx, 0.6017 + dy, 0.4194))]),
    "trigonal Se": (34, (4.366, 4.366, 4.954, 90, 90, 120), [(0.2254, 0, 1 / 3), (0, 0.2254, 2 / 3), (0.7746, 0.7746, 0)]),
}  # fmt: skip
"""Atomic number, cell (Å, degrees) and atoms, from W. B. Pearson, A Handbook of Lattice Spacings and Structures of Metals and Alloys (1967)."""


def common_types() -> list[tuple[str, Sites]]:
    """Name and sites of each, in the standard description."""
    found = []
    for name, (z, cell, atoms) in _ATOMS.items():
        crystal = Crystal(np.full(len(atoms), z), np.array(atoms, float) % 1.0, lattice_matrix(np.array(cell, float)))
        found.append((name, symmetrize(crystal)))
    return found
