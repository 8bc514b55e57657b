"""Crystals as a generator would give them: near their structure, not at rest."""

from __future__ import annotations

import numpy as np

from crystalformer_rl.crystal.structure import Crystal

DISTORTIONS = ((0.01, 0.02), (0.03, 0.0), (0.03, 0.1))
"""Strains, the largest component, and displacements (Å), a standard deviation along each axis, at which errors are measured."""


def distorted(crystals: list[Crystal], strain: float, displacement: float, seed: int = 0) -> list[Crystal]:
    """Each crystal under a random strain, its components uniform up to ± `strain`, with atoms displaced at random (Å)."""
    found = []
    for i, crystal in enumerate(crystals):
        random = np.random.default_rng([seed, i])
        lower = np.tril(random.uniform(-strain, strain, (3, 3)))
        symmetric = lower + np.tril(lower, -1).T
        lattice = np.asarray(crystal.lattice, float) @ (np.eye(3) + symmetric)
        moved = random.normal(0.0, displacement, (len(crystal), 3)) @ np.linalg.inv(lattice)
        found.append(Crystal(crystal.atomic_numbers, np.asarray(crystal.frac_coords, float) + moved, lattice))
    return found
