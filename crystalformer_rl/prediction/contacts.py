"""Whether atoms of a candidate are nearer to each other than atoms in crystals are."""

from __future__ import annotations

import numpy as np

from crystalformer_rl.crystal.structure import Crystal

NEAREST = 0.6
"""Of the sum of two covalent radii; real crystals have no shorter distances."""

_IMAGES = np.stack(np.meshgrid(*[np.arange(-1, 2)] * 3, indexing="ij"), -1).reshape(-1, 3)


def closest_contact(crystal: Crystal) -> float:
    """The shortest distance of a crystal's atoms, in units of the sum of the two covalent radii (B. Cordero et al., Dalton Trans. 2832, 2008).

    Images one cell away are looked at, which is enough in cells that are not very oblique.
    """
    from ase.data import covalent_radii

    frac = np.asarray(crystal.frac_coords, float)
    delta = frac[:, None] - frac[None]
    delta -= np.rint(delta)
    distances = np.linalg.norm((delta[:, :, None] + _IMAGES) @ np.asarray(crystal.lattice, float), axis=-1)
    itself = np.all(_IMAGES == 0, axis=1) & np.eye(len(frac), dtype=bool)[..., None]
    radii = covalent_radii[np.asarray(crystal.atomic_numbers)]
    contact = distances / (radii[:, None] + radii)[..., None]
    return float(contact[~itself].min())
