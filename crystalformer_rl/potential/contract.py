"""What every potential must satisfy, as one function: `measure_laws`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from crystalformer_rl.crystal.structure import Crystal
from crystalformer_rl.potential.protocol import Evaluation, Potential

_STEP = 5e-3
"""Å, or strain: long enough for a single-precision energy, short enough for a central difference."""


@dataclass(frozen=True)
class Deviations:
    """The largest deviation from each law.

    extensive: eV/atom between a crystal and its 2×1×1 supercell; forces: eV/Å from minus the gradient; stress: eV/Å³ from
    the strain derivative; rotation, permutation: eV/atom, and eV/Å for turned or exchanged forces (the larger);
    batch: eV/atom and eV/Å between a crystal alone and in a batch; energy_only: eV/atom without and with forces.
    """

    extensive: float
    forces: float
    stress: float
    rotation: float
    permutation: float
    batch: float
    energy_only: float

    def broken(self, energy: float = 1e-4, force: float = 2e-2, stress: float = 2e-3) -> dict[str, float]:
        """The laws broken: by more than `energy` (eV/atom), `force` (eV/Å) or `stress` (eV/Å³)."""
        limits = dict.fromkeys(asdict(self), energy) | {"forces": force, "stress": stress}
        return {name: value for name, value in asdict(self).items() if not value <= limits[name]}


def measure_laws(potential: Potential, crystals: Sequence[Crystal], seed: int = 0) -> Deviations:
    """Measure how far `potential` is from the laws on `crystals`, which it must be able to evaluate.

    The crystals should lie off their minimum, so that forces and stress are not zero by symmetry.
    """
    rng = np.random.default_rng(seed)
    batch = _evaluate(potential, crystals)
    worst = dict.fromkeys(Deviations.__dataclass_fields__, 0.0)

    def note(name: str, *values: float) -> None:
        worst[name] = float(np.max([worst[name], *values]))  # unlike Python's, keeps what is not a number

    for crystal, found in zip(crystals, batch, strict=True):
        forces, stress = _derivatives(found)
        (alone,) = _evaluate(potential, [crystal])
        note("batch", abs(alone.energy - found.energy), np.abs(_derivatives(alone)[0] - forces).max())
        note("energy_only", abs(_energy(potential, crystal) - found.energy))
        note("extensive", abs(_energy(potential, _doubled(crystal)) - found.energy))

        turn = _random_rotation(rng)
        (turned,) = _evaluate(potential, [Crystal(crystal.atomic_numbers, crystal.frac_coords, crystal.lattice @ turn.T)])
        note("rotation", abs(turned.energy - found.energy), np.abs(_derivatives(turned)[0] - forces @ turn.T).max())

        order = rng.permutation(len(crystal))
        (permuted,) = _evaluate(
            potential, [Crystal(crystal.atomic_numbers[order], crystal.frac_coords[order], crystal.lattice)]
        )
        note("permutation", abs(permuted.energy - found.energy), np.abs(_derivatives(permuted)[0] - forces[order]).max())

        direction = rng.normal(size=(len(crystal), 3))
        direction /= np.linalg.norm(direction)
        slope = _slope(potential, [_moved(crystal, sign * _STEP * direction) for sign in (1, -1)])
        note("forces", abs(slope + (forces * direction).sum()))

        strain = rng.normal(size=(3, 3))
        strain = (strain + strain.T) / np.linalg.norm(strain + strain.T)
        slope = _slope(potential, [_strained(crystal, sign * _STEP * strain) for sign in (1, -1)])
        note("stress", abs(slope / crystal.volume - (stress * strain).sum()))
    return Deviations(**worst)


def _evaluate(potential: Potential, crystals: Sequence[Crystal]) -> list[Evaluation]:
    outcomes = potential.evaluate(crystals, forces=True)
    failed = [outcome for outcome in outcomes if isinstance(outcome, str)]
    if failed:
        raise ValueError(f"the potential cannot evaluate a crystal of the check: {failed[0]}")
    return [outcome for outcome in outcomes if isinstance(outcome, Evaluation)]


def _derivatives(evaluation: Evaluation) -> tuple[np.ndarray, np.ndarray]:
    if evaluation.forces is None or evaluation.stress is None:
        raise ValueError("the potential gave no forces or no stress although they were asked for")
    return evaluation.forces, evaluation.stress


def _energy(potential: Potential, crystal: Crystal) -> float:
    (outcome,) = potential.evaluate([crystal], forces=False)
    if isinstance(outcome, str):
        raise ValueError(f"the potential cannot evaluate a crystal of the check: {outcome}")
    return outcome.energy


def _slope(potential: Potential, pair: Sequence[Crystal]) -> float:
    """Central difference of the total energy (eV) over the two displaced crystals."""
    plus, minus = (_energy(potential, crystal) * len(crystal) for crystal in pair)
    return (plus - minus) / (2 * _STEP)


def _moved(crystal: Crystal, displacement: np.ndarray) -> Crystal:
    return Crystal(
        crystal.atomic_numbers, crystal.frac_coords + displacement @ np.linalg.inv(crystal.lattice), crystal.lattice
    )


def _strained(crystal: Crystal, strain: np.ndarray) -> Crystal:
    return Crystal(crystal.atomic_numbers, crystal.frac_coords, crystal.lattice @ (np.eye(3) + strain))


def _doubled(crystal: Crystal) -> Crystal:
    first = crystal.frac_coords * [0.5, 1, 1]
    second = first + np.array([0.5, 0, 0])
    lattice = crystal.lattice * np.array([[2.0], [1.0], [1.0]])
    return Crystal(np.tile(crystal.atomic_numbers, 2), np.concatenate([first, second]), lattice)


def _random_rotation(rng: np.random.Generator) -> np.ndarray:
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return q * np.sign(np.linalg.det(q))
