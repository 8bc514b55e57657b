"""The energies of a reference file: its phases, the elements from which it counts, whose energies they are, and their bias."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from crystalformer_rl.crystal.elements import ATOMIC_NUMBERS
from crystalformer_rl.errors import InputError
from crystalformer_rl.reference.bias import Bias
from crystalformer_rl.reference.formation_energy import by_number
from crystalformer_rl.reference.identity import PotentialIdentity
from crystalformer_rl.reference.phases import Phases
from crystalformer_rl.tables.column import pick
from crystalformer_rl.tables.energy_columns import REFERENCE
from crystalformer_rl.tables.parquet import read_table
from crystalformer_rl.tables.provenance import read_provenance
from crystalformer_rl.tables.role import Role
from crystalformer_rl.tables.status import OK

_NEEDED = ("id", "formula", "energy", "formation_energy")
_USED = ("role", "chemical_system", "dft_formation_energy", "energy_from", "status")


@dataclass(frozen=True)
class ReferenceEnergies:
    """All that a hull needs of a reference: its phases, {symbol: eV/atom} of its elements, the identity of both, and the bias of
    that potential against the scale of the DFT energies, where it was measured.
    """

    phases: Phases
    elemental_energies: dict[str, float]
    identity: PotentialIdentity
    bias: Bias | None


def read_energies(path: str | Path) -> ReferenceEnergies:
    """The energies of a REFERENCE file: rows of status ok with an energy of the potential or of DFT, but for recovered structures.

    DFT energies are read where the file records the potential's bias against them, and not otherwise. Raises InputError where the
    file lacks the potential's identity or the elemental energies, or where an id is missing or occurs twice.
    """
    # no other columns: geometries are most of a reference
    table = read_table(path, pick(REFERENCE, *_NEEDED), optional=pick(REFERENCE, *_USED))
    record = read_provenance(path)
    for key, meaning in (("potential", "identity of the potential"), ("elemental_energies", "elemental reference energies")):
        if not record.get(key) or not isinstance(record[key], dict):
            raise InputError(f"{path} does not record the {meaning} ('{key}'); build it with `crystalformer-rl reference`.")
    elemental = _elemental_energies(record["elemental_energies"], path)
    identity = PotentialIdentity.from_record(record["potential"])
    if identity is None:
        raise InputError(f"{path} does not record the name of its potential; build it with `crystalformer-rl reference`.")
    bias = Bias.from_record(record.get("bias"))
    table = _usable(table, with_dft=bias is not None)
    return ReferenceEnergies(Phases(table, by_number(elemental), str(path)), elemental, identity, bias)


def _usable(table: pa.Table, with_dft: bool) -> pa.Table:
    sources = ["energy", "formation_energy", *(["dft_formation_energy"] if with_dft else [])]
    kept = pc.is_valid(table.column("formula"))
    if "role" in table.column_names:
        # a structure that an energy was taken for is no second energy
        kept = pc.and_(kept, pc.fill_null(pc.not_equal(table.column("role"), Role.RECOVERED), True))
    if "status" in table.column_names:
        kept = pc.and_(kept, pc.fill_null(pc.equal(table.column("status"), OK.value), True))
    known = None
    for name in sources:
        if name in table.column_names:
            finite = pc.fill_null(pc.is_finite(table.column(name)), False)
            known = finite if known is None else pc.or_(known, finite)
    table = table.filter(pc.and_(kept, known))
    return table if with_dft or "dft_formation_energy" not in table.column_names else table.drop(["dft_formation_energy"])


def _elemental_energies(recorded: dict[str, Any], path: str | Path) -> dict[str, float]:
    numbers = all(isinstance(energy, int | float) and math.isfinite(energy) for energy in recorded.values())
    if not numbers or not set(recorded) <= set(ATOMIC_NUMBERS):
        raise InputError(f"{path}: 'elemental_energies' must map element symbols to eV/atom; build the reference again.")
    return {symbol: float(energy) for symbol, energy in recorded.items()}
