"""Empty space that tells a layer, a chain or a molecule in a box from a crystal that fills its cell."""

from __future__ import annotations

import numpy as np

from crystalformer_rl.crystal.distances import reduction
from crystalformer_rl.crystal.structure import Crystal

VACUUM = 7.0
"""Å; a slab between parallel planes of atoms, empty and this thick, is vacuum. Layers of bulk crystals are nearer to each other."""


def widest_gap(crystal: Crystal) -> float:
    """Å; the thickest slab without the centre of an atom, parallel to two short lattice vectors.

    Of a crystal of one atom in the primitive cell this is the distance of its lattice planes.
    """
    given = np.asarray(crystal.lattice, float)
    change = reduction(given)
    lattice = change @ given
    heights = 1 / np.linalg.norm(np.linalg.inv(lattice), axis=0)
    frac = np.sort(np.asarray(crystal.frac_coords, float) @ np.linalg.inv(change) % 1.0, axis=0)
    gaps = np.diff(np.concatenate([frac, frac[:1] + 1.0]), axis=0).max(0)
    return float((gaps * heights).max())


def vacuum(crystal: Crystal) -> float | None:
    """Å of `widest_gap` where that is vacuum; None for a crystal that fills its cell."""
    if np.linalg.norm(crystal.lattice, axis=1).max() <= VACUUM:  # no gap is wider than a lattice vector is long
        return None
    gap = widest_gap(crystal)
    return gap if gap > VACUUM else None


def is_low_dimensional(crystal: Crystal) -> bool:
    """Whether there is vacuum in the cell: the crystal is a layer, a chain or a molecule in a box, and no bulk."""
    return vacuum(crystal) is not None


def vacuum_words(crystal: Crystal) -> str | None:
    """What a reader should know of the vacuum in a crystal; None where there is none."""
    gap = vacuum(crystal)
    return (
        None if gap is None else f"low_dimensional: {gap:.0f} Å of vacuum, so a layer, chain or molecule and no bulk crystal"
    )
