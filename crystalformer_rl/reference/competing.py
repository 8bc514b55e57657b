"""Which energy of a composition competes for the hull: the potential's, or density-functional theory's with the potential's bias.

A reference knows some compositions by crystals that the potential relaxed, and many more by the DFT energy of their lowest known
phase alone. Both kinds stand on one hull because they share a scale and the potential's bias against it was measured.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from crystalformer_rl.crystal.elements import elemental_id
from crystalformer_rl.reference.bias import Bias

POLYMORPH = 0.02
"""eV/atom; a relaxed entry whose DFT energy is further above its composition's lowest is another polymorph than the ground state."""

OUTLIER = 4.0
"""Standard deviations of the bias; a phase whose energies in potential and DFT differ by more says nothing of another phase."""


class EnergyFrom(StrEnum):
    """Where the energy of a phase comes from."""

    RELAXED = "relaxed"
    SINGLE_POINT = "single_point"
    DFT = "dft"
    GIVEN = "given"


@dataclass(frozen=True)
class Phase:
    """A row of a reference: composition {atomic number: atoms} and formation energies, eV/atom; NaN where there is none.

    energy: in the potential; dft_energy: on the scale.
    """

    id: str
    composition: Mapping[int, int]
    energy: float = math.nan
    dft_energy: float = math.nan
    energy_from: str = EnergyFrom.GIVEN


@dataclass(frozen=True)
class Entry:
    """A phase that competes: composition {atomic number: atoms}, formation energy in eV/atom, and where that comes from."""

    id: str
    composition: Mapping[int, int]
    formation_energy: float
    energy_from: str = EnergyFrom.GIVEN


def competing(composition: Mapping[int, int], phases: Iterable[Phase], bias: Bias | None = None) -> Entry | None:
    """The entry that stands for a reduced composition, of all its phases; None where none has an energy.

    With an energy of the potential, the lowest of those. Where that phase's DFT energy is more than `POLYMORPH` above the
    lowest known of the composition, the ground state is another phase, and the entry goes down by as much, or to the DFT energy plus
    bias where potential and DFT are further apart for it than `OUTLIER`. Without an
    energy of the potential, the lowest DFT energy plus the potential's bias. An element has the energy zero besides, from
    which formation energies count: the scale's where there is a bias, the potential's own where there is none. Equal energies
    are settled by the smaller id.
    """
    phases = list(phases)
    if len(composition) == 1:
        phases.append(_zero(composition, bias is not None))
    own = [p for p in phases if math.isfinite(p.energy)]
    lowest = min((p for p in phases if math.isfinite(p.dft_energy)), key=lambda p: (p.dft_energy, p.id), default=None)
    if not own:
        if lowest is None:
            return None
        shift = bias.of(composition) if bias is not None else 0.0
        return Entry(lowest.id, lowest.composition, lowest.dft_energy + shift, lowest.energy_from)
    best = min(own, key=lambda p: (p.energy, p.id))
    return Entry(best.id, best.composition, _ground_state(best, lowest, bias), best.energy_from)


def _ground_state(best: Phase, lowest: Phase | None, bias: Bias | None) -> float:
    """The potential's energy of the composition's ground state, from its best phase and the lowest one known to DFT."""
    if lowest is None or bias is None:
        return best.energy
    if not math.isfinite(best.dft_energy):  # nobody knows which polymorph it is
        return min(best.energy, lowest.dft_energy + bias.of(best.composition))
    if best.dft_energy - lowest.dft_energy <= POLYMORPH:
        return best.energy
    shift, usual = best.energy - best.dft_energy, bias.of(best.composition)
    # a potential that far from a phase's label says nothing of another phase: label or potential is wrong there
    if abs(shift - usual) > OUTLIER * bias.std(best.composition):
        shift = usual
    return lowest.dft_energy + shift


def _zero(composition: Mapping[int, int], of_scale: bool) -> Phase:
    (z,) = composition
    name = elemental_id(z)
    if of_scale:
        return Phase(name, {z: 1}, dft_energy=0.0, energy_from=EnergyFrom.DFT)
    return Phase(name, {z: 1}, energy=0.0, energy_from=EnergyFrom.GIVEN)
