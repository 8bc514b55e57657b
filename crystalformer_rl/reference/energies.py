"""The energies of a reference file: what competes for the hull, from which elements it counts, and whose energies they are."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crystalformer_rl.crystal.elements import ATOMIC_NUMBERS, parse_formula
from crystalformer_rl.errors import InputError
from crystalformer_rl.reference.formation_energy import by_number, formation_energy
from crystalformer_rl.reference.identity import PotentialIdentity
from crystalformer_rl.tables.column import pick
from crystalformer_rl.tables.energy_columns import REFERENCE
from crystalformer_rl.tables.parquet import read_table
from crystalformer_rl.tables.provenance import read_provenance
from crystalformer_rl.tables.status import OK

_SCALE_TOLERANCE = 1e-3  # eV/atom; energies and formation energies of a reference further apart are on two scales


@dataclass(frozen=True)
class Entry:
    """A phase of the reference: composition {atomic number: atoms} and formation energy in eV/atom."""

    id: str
    composition: Mapping[int, int]
    formation_energy: float


@dataclass(frozen=True)
class ReferenceEnergies:
    """All that a hull needs of a reference: its entries, {symbol: eV/atom} of its elements, and the identity of both."""

    entries: list[Entry]
    elemental_energies: dict[str, float]
    identity: PotentialIdentity


def read_energies(path: str | Path) -> ReferenceEnergies:
    """The energies of a REFERENCE file: rows of status ok with an energy, whose elements all have one.

    Raises InputError where the file lacks the potential's identity or the elemental energies, or where energy and formation
    energy of a row are on different scales.
    """
    names = ("id", "formula", "energy", "formation_energy")
    table = read_table(path, pick(REFERENCE, *names))
    record = read_provenance(path)
    for key, meaning in (("potential", "identity of the potential"), ("elemental_energies", "elemental reference energies")):
        if not record.get(key) or not isinstance(record[key], dict):
            raise InputError(f"{path} does not record the {meaning} ('{key}'); build it with `crystalformer-rl reference`.")
    data = {name: table.column(name).to_pylist() for name in names}
    data["status"] = table.column("status").to_pylist() if "status" in table.column_names else [OK] * table.num_rows
    elemental = _elemental_energies(record["elemental_energies"], path)
    identity = PotentialIdentity.from_record(record["potential"])
    if identity is None:
        raise InputError(f"{path} does not record the name of its potential; build it with `crystalformer-rl reference`.")
    return ReferenceEnergies(_entries_of_rows(data, by_number(elemental), path), elemental, identity)


def _elemental_energies(recorded: dict[str, Any], path: str | Path) -> dict[str, float]:
    numbers = all(isinstance(energy, int | float) and math.isfinite(energy) for energy in recorded.values())
    if not numbers or not set(recorded) <= set(ATOMIC_NUMBERS):
        raise InputError(f"{path}: 'elemental_energies' must map element symbols to eV/atom; build the reference again.")
    return {symbol: float(energy) for symbol, energy in recorded.items()}


def _entries_of_rows(data: Mapping[str, list[Any]], elemental: Mapping[int, float], path: str | Path) -> list[Entry]:
    entries = []
    parsed: dict[str, dict[int, int]] = {}
    seen: set[str | None] = {None}
    for name, formula, energy, formation, status in zip(*data.values(), strict=True):
        if status not in (OK, None) or formula is None or not (_finite(energy) or _finite(formation)):
            continue
        # a decomposition names its phases, and one name for two would add their amounts up
        if name in seen:
            raise InputError(f"{path}: the id '{name}' is missing or occurs twice; give each entry an id of its own.")
        seen.add(name)
        if formula not in parsed:
            parsed[formula] = _parsed(formula, name, path)
        if not parsed[formula].keys() <= elemental.keys():
            continue
        if _finite(energy):
            expected = formation_energy(parsed[formula], energy, elemental)
            assert expected is not None  # all its elements have an energy
            if not _finite(formation):
                formation = expected
            elif abs(formation - expected) > _SCALE_TOLERANCE:
                raise InputError(
                    f"{path}, row '{name}': its formation_energy {formation:.4f} is not energy less the elemental "
                    f"energies ({expected:.4f} eV/atom); build the reference again on one energy scale."
                )
        entries.append(Entry(name, parsed[formula], float(formation)))
    return entries


def _parsed(formula: str, name: str, path: str | Path) -> dict[int, int]:
    try:
        return parse_formula(formula)
    except InputError as error:
        raise InputError(f"{path}, row '{name}': {error}") from error


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
