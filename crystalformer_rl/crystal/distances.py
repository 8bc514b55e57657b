"""Distances between the atoms of a crystal and their images, in cells however oblique."""

from __future__ import annotations

import numpy as np

from crystalformer_rl.crystal.structure import Crystal


def reduction(lattice: np.ndarray) -> np.ndarray:
    """(3, 3) whole numbers that turn lattice vectors (rows) into short, nearly orthogonal ones of the same lattice (LLL)."""
    from pymatgen.core import Lattice

    return np.rint(Lattice(lattice).get_lll_reduced_lattice().matrix @ np.linalg.inv(lattice))


def shortest_distance(crystal: Crystal) -> float:
    """The shortest distance (Å) between two atoms or an atom and its own image.

    Searched in a reduced cell, whose vectors are short and nearly at right angles, so that few images reach however
    oblique the given one is; exact below 4 Å and below the shortest lattice vector. Memory grows with the number of atoms.
    """
    given = np.asarray(crystal.lattice, float)
    change = reduction(given)
    lattice = change @ given
    heights = crystal.volume / np.linalg.norm(np.cross(np.roll(lattice, -1, 0), np.roll(lattice, -2, 0)), axis=1)
    reach = min(4.0, float(np.linalg.norm(lattice, axis=1).min()))
    spans = [np.arange(-k, k + 1) for k in np.maximum(np.floor(reach / heights + 0.5), 1).astype(int)]
    images = np.stack(np.meshgrid(*spans, indexing="ij"), -1).reshape(-1, 3)
    shortest = float(np.linalg.norm(images[np.any(images != 0, axis=1)] @ lattice, axis=1).min())
    frac = np.asarray(crystal.frac_coords, float) @ np.linalg.inv(change)
    for i in range(len(frac) - 1):
        delta = frac[i + 1 :] - frac[i]
        delta -= np.rint(delta)
        shortest = min(shortest, float(np.linalg.norm((delta[:, None] + images) @ lattice, axis=-1).min()))
    return shortest
