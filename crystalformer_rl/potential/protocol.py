"""What a potential is: crystals in; energies, forces, stresses and embeddings out.

Units everywhere: energies eV/atom (total energy divided by the number of atoms),
forces eV/Å, stresses eV/Å³ with tension positive (σ = dE/dε / V), lengths Å.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from crystalformer_rl.crystal.distances import shortest_distance
from crystalformer_rl.crystal.structure import SHORTEST_DISTANCE, Crystal, crystal_status
from crystalformer_rl.reference.identity import PotentialIdentity
from crystalformer_rl.tables.status import Status

EV_PER_A3_IN_GPA = 160.21766208
"""1 eV/Å³ in GPa."""

SMALLEST_VOLUME_PER_ATOM = 2.0
"""Å³; denser cells (diamond has 5.7) have overlapping atoms and enormous neighbour lists."""

MOST_ATOMS = 200
"""Default limit on the atoms of one cell, which keeps the memory of a batch bounded."""


@dataclass(frozen=True)
class Evaluation:
    """What a potential says of one crystal of N atoms.

    energy: total energy, eV/atom; forces: (N, 3) eV/Å; stress: (3, 3) symmetric, eV/Å³,
    tension positive. Forces and stress are None where they were not asked for.
    """

    energy: float
    forces: np.ndarray | None = None
    stress: np.ndarray | None = None


Outcome = Evaluation | str
"""An evaluation, or the status (tables.status) that says why there is none."""


@runtime_checkable
class Potential(Protocol):
    """A machine-learned or classical potential.

    Two energies may be compared only when they come from potentials of equal `identity`.
    """

    @property
    def identity(self) -> PotentialIdentity: ...

    def evaluate(self, crystals: Sequence[Crystal], *, forces: bool = True) -> list[Outcome]:
        """One outcome for each crystal, in order; a crystal that fails leaves the others as they were."""
        ...

    def embed(self, crystals: Sequence[Crystal]) -> np.ndarray:
        """Frozen features, (number of crystals, d): statistics over the atoms; NaN for a crystal that fails.

        Raises InputError where the potential has none.
        """
        ...


def screen(crystal: Crystal, *, supported: frozenset[int] | None = None, most_atoms: int = MOST_ATOMS) -> str:
    """`ok`, or the status that keeps a crystal from being evaluated at all.

    Cheap tests only, so that absurdly dense cells never reach a neighbour search; distances are
    for whoever makes the neighbour list, or for `screen_distances`.
    """
    if len(crystal) > most_atoms:
        return Status.TOO_LARGE
    status = crystal_status(crystal)
    if status != Status.OK:
        return status
    if supported is not None and not supported.issuperset(np.asarray(crystal.atomic_numbers).tolist()):
        return Status.UNSUPPORTED_ELEMENT
    return Status.OVERLAPPING_ATOMS if crystal.volume < SMALLEST_VOLUME_PER_ATOM * len(crystal) else Status.OK


def screen_distances(crystal: Crystal) -> str:
    """`overlapping_atoms` where two atoms are nearer than 0.5 Å, else `ok`; after `screen`."""
    return Status.OVERLAPPING_ATOMS if shortest_distance(crystal) < SHORTEST_DISTANCE else Status.OK


def checked(evaluation: Evaluation) -> Outcome:
    """The evaluation itself, or `potential_failed` where a number in it is not finite."""
    arrays = (evaluation.energy, evaluation.forces, evaluation.stress)
    return evaluation if all(np.all(np.isfinite(a)) for a in arrays if a is not None) else Status.POTENTIAL_FAILED
