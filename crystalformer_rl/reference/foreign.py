"""A reference for a potential that is not its own."""

from __future__ import annotations

import dataclasses

import pyarrow.compute as pc

from crystalformer_rl.errors import InputError
from crystalformer_rl.reference.bias import Bias
from crystalformer_rl.reference.competing import EnergyFrom
from crystalformer_rl.reference.energies import ReferenceEnergies
from crystalformer_rl.reference.identity import PotentialIdentity
from crystalformer_rl.reference.phases import Phases


def for_potential(energies: ReferenceEnergies, identity: PotentialIdentity, bias: Bias | None = None) -> ReferenceEnergies:
    """The same reference for another potential on its scale: DFT energies alone compete, with that potential's `bias`.

    Without one nothing is added to them, and no standard deviation is known. Raises InputError for a reference without
    DFT energies on a scale.
    """
    if energies.bias is None:
        raise InputError(f"{energies.phases.source} has no DFT energies on a scale; build a reference of {identity}.")
    table = energies.phases.table
    kept = [name for name in table.column_names if name not in ("energy", "formation_energy")]
    known = table.filter(pc.is_valid(table.column("dft_formation_energy"))).select(kept)
    given = pc.equal(known.column("energy_from"), EnergyFrom.GIVEN.value)
    origin = pc.if_else(pc.fill_null(given, False), EnergyFrom.GIVEN.value, EnergyFrom.DFT.value)
    known = known.set_column(known.column_names.index("energy_from"), "energy_from", origin)
    phases = Phases(known, energies.phases.elemental, energies.phases.source)
    return dataclasses.replace(energies, phases=phases, identity=identity, bias=bias or Bias(energies.bias.scale))
