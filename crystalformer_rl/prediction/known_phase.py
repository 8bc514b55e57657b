"""What a reference knows of a formula."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from crystalformer_rl.hull.convex_hull import Hull
from crystalformer_rl.reference.competing import EnergyFrom


@dataclass(frozen=True)
class KnownPhase:
    """The phase that competes for the hull at a formula: its id, formation energy in the potential and height above the hull, eV/atom.

    structure: whether its structure is known; else its energy is that of density-functional theory, moved by the potential's bias.
    """

    id: str
    formation_energy: float
    e_above_hull: float
    structure: bool


def known_phase(counts: Mapping[int, int], hull: Hull) -> KnownPhase | None:
    """Of a reduced composition {atomic number: atoms}; None where the reference has no energy of it."""
    found = next((e for e in hull.entries(tuple(sorted(counts))) if _fractions(e.composition) == _fractions(counts)), None)
    if found is None:
        return None
    numbers = [z for z, n in counts.items() for _ in range(n)]
    height = hull.distance(numbers, found.formation_energy).e_above_hull
    return KnownPhase(found.id, found.formation_energy, height, found.energy_from != EnergyFrom.DFT)


def _fractions(counts: Mapping[int, int]) -> dict[int, float]:
    total = sum(counts.values())
    return {z: round(n / total, 9) for z, n in sorted(counts.items())}
