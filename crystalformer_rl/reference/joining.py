"""Several references as one."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from crystalformer_rl.crystal.elements import composition, reduced_formula
from crystalformer_rl.errors import InputError
from crystalformer_rl.reading.entries import read_entries
from crystalformer_rl.reading.files import stem
from crystalformer_rl.reference.competing import EnergyFrom
from crystalformer_rl.reference.energies import ReferenceEnergies, read_energies
from crystalformer_rl.reference.formation_energy import by_number, formation_energy, is_plausible
from crystalformer_rl.reference.given import given_reference
from crystalformer_rl.reference.identity import Corrections, Functional, PotentialIdentity
from crystalformer_rl.reference.phases import Phases
from crystalformer_rl.reference.scale import is_dft
from crystalformer_rl.tables.column import pick
from crystalformer_rl.tables.energy_columns import REFERENCE, RELAXED
from crystalformer_rl.tables.parquet import read_table
from crystalformer_rl.tables.provenance import read_provenance, sha256
from crystalformer_rl.tables.status import OK

_ROW = ("id", "formula", "energy", "formation_energy", "dft_formation_energy", "energy_from")
_ZERO_TOLERANCE = 1e-6  # eV/atom


def read_references(paths: Sequence[str | Path]) -> ReferenceEnergies:
    """The energies of the first reference, with the phases of the others beside them.

    The first is a REFERENCE file. Each of the others may be: another REFERENCE file, or a table of `relax`, in the same potential;
    a REFERENCE file of DFT energies on the first one's scale; JSON of computed entries (PBE, to which MP2020 corrections are
    added). DFT energies compete with the potential's bias. Ids of further references have the file's name before them where
    they occur already. Raises InputError for energies that cannot stand on the first one's hull.
    """
    first, *others = paths
    energies = read_energies(first)
    if not others:
        return energies
    parts = [energies.phases.table]
    for path in others:
        parts.append(_renamed(_more(path, energies, str(first)), parts, path))
    table = pa.concat_tables(
        [part.select([n for n in part.column_names if n in _ROW]) for part in parts], promote_options="default"
    )
    source = ", ".join(str(path) for path in paths)
    return dataclasses.replace(energies, phases=Phases(table, energies.phases.elemental, source))


def _more(path: str | Path, energies: ReferenceEnergies, first: str) -> pa.Table:
    """The rows of a further reference, with formation energies from the first one's elements."""
    if Path(path).suffix.lower() in (".json", ".gz", ".bz2"):
        return _computed(path, energies, first)
    record = read_provenance(path) if Path(path).is_file() else {}
    identity = PotentialIdentity.from_record(record.get("potential"))
    names = pq.read_schema(path).names if Path(path).is_file() else []
    if "role" not in names:
        return _relaxed(path, identity, energies, first)
    if identity is not None and is_dft(identity):
        _check_scale(path, identity, energies, first)
        other = read_energies(path)
        return _as_dft(other.phases.table, other, energies, path)
    if identity != energies.identity:
        raise _other(path, identity, energies, first)
    other = read_energies(path)
    _check_zero(path, other, energies, first)
    table = other.phases.table
    if energies.bias is not None:
        return table
    # without a bias on the first one's hull no DFT energy may compete
    own = pc.or_(pc.is_valid(table.column("energy")), pc.is_valid(table.column("formation_energy")))
    return table.filter(own).drop(["dft_formation_energy"])


def _relaxed(path: str | Path, identity: PotentialIdentity | None, energies: ReferenceEnergies, first: str) -> pa.Table:
    """Crystals that `relax` brought to rest in the same potential, those aside that it took where no compound can be."""
    table = read_table(path, pick(RELAXED, "id", "atomic_numbers", "energy"))
    if identity != energies.identity:
        raise _other(path, identity, energies, first)
    zero = by_number(energies.elemental_energies)
    rows = [
        {"id": str(i), "formula": reduced_formula(numbers), "energy": energy}
        for i, numbers, energy, status in zip(
            *(table.column(name).to_pylist() for name in ("id", "atomic_numbers", "energy")),
            table.column("status").to_pylist() if "status" in table.column_names else [OK] * table.num_rows,
            strict=True,
        )
        if status in (OK, None) and numbers and energy is not None and math.isfinite(energy)
        if is_plausible(formation_energy(composition(numbers), energy, zero) or 0.0)
    ]
    return _table(rows, EnergyFrom.RELAXED)


def _computed(path: str | Path, energies: ReferenceEnergies, first: str) -> pa.Table:
    """DFT energies of computed entries, with MP2020 corrections."""
    if energies.bias is None and not is_dft(energies.identity):
        raise InputError(
            f"{first} does not record the bias of its potential against DFT, so the computed entries of {path} cannot stand on its "
            "hull; build it with DFT energies, or relax the structures and give that table."
        )
    built, record = given_reference(
        read_entries([path]),
        digest=sha256(path),
        source=stem(Path(path).name),
        elemental_energies=energies.elemental_energies,
    )
    identity = PotentialIdentity.from_record(record["potential"])
    assert identity is not None  # it was just made
    _check_scale(path, identity, energies, first)
    good = built.filter(pc.equal(built.column("status"), OK.value))
    rows = [
        {"id": i, "formula": f, "formation_energy": e}
        for i, f, e in zip(*(good.column(n).to_pylist() for n in ("id", "formula", "formation_energy")), strict=True)
    ]
    return _given(rows, energies)


def _as_dft(table: pa.Table, other: ReferenceEnergies, energies: ReferenceEnergies, path: str | Path) -> pa.Table:
    """Rows of a reference of DFT energies: as DFT's, not the potential's."""
    zero = by_number(energies.elemental_energies)
    names = ("id", "formula", "energy", "formation_energy")
    rows = []
    for name, formula, energy, formation in zip(*(table.column(n).to_pylist() for n in names), strict=True):
        rows.append({"id": name, "formula": formula, "energy": energy, "formation_energy": formation})
    if any(row["energy"] is None for row in rows) and other.phases.elemental != zero:
        raise InputError(
            f"{path} gives formation energies from elements of its own, without total energies; add the column 'energy'."
        )
    counted = [row | ({"formation_energy": None} if row["energy"] is not None else {}) for row in rows]
    built = Phases(_table(counted, EnergyFrom.GIVEN), zero, str(path))
    return _given([{"id": p.id, "formula": _formula(p.composition), "formation_energy": p.energy} for p in built], energies)


def _given(rows: list[dict[str, Any]], energies: ReferenceEnergies) -> pa.Table:
    """Rows with DFT formation energies; on a hull of DFT energies these are its own."""
    if energies.bias is None:
        return _table(rows, EnergyFrom.GIVEN)
    moved = [{"id": row["id"], "formula": row["formula"], "dft_formation_energy": row["formation_energy"]} for row in rows]
    return _table(moved, EnergyFrom.GIVEN)


def _table(rows: list[dict[str, Any]], origin: EnergyFrom) -> pa.Table:
    types = {column.name: column.type for column in REFERENCE}
    data = {name: pa.array([row.get(name) for row in rows], types[name]) for name in _ROW if name != "energy_from"}
    return pa.table(data | {"energy_from": pa.array([origin.value] * len(rows), pa.string())})


def _renamed(table: pa.Table, before: Sequence[pa.Table], path: str | Path) -> pa.Table:
    """The rows with ids that no earlier table has."""
    taken = pa.chunked_array([chunk for part in before for chunk in part.column("id").chunks] or [pa.array([], pa.string())])
    if not pc.any(pc.is_in(table.column("id"), value_set=taken)).as_py():
        return table
    ids = [f"{Path(path).name}:{name}" for name in table.column("id").to_pylist()]
    return table.set_column(table.column_names.index("id"), "id", pa.array(ids, pa.string()))


def _check_scale(path: str | Path, identity: PotentialIdentity, energies: ReferenceEnergies, first: str) -> None:
    own = energies.identity if is_dft(energies.identity) else None
    scale = (own.functional, own.corrections) if own else (Functional.PBE, Corrections.MP2020)
    if (identity.functional, identity.corrections) != scale:
        raise InputError(
            f"{path} holds energies of {identity}, but the hull of {first} is of {scale[0]} energies with corrections {scale[1]}; "
            "bring them to that scale."
        )


def _check_zero(path: str | Path, other: ReferenceEnergies, energies: ReferenceEnergies, first: str) -> None:
    for symbol, energy in other.elemental_energies.items():
        if abs(energies.elemental_energies.get(symbol, energy) - energy) > _ZERO_TOLERANCE:
            raise InputError(
                f"{path} and {first} count formation energies from different energies of {symbol}; build one of them again with the "
                "elemental energies of the other."
            )


def _other(path: str | Path, identity: PotentialIdentity | None, energies: ReferenceEnergies, first: str) -> InputError:
    who = f"energies of {identity}" if identity is not None else "energies of a potential that it does not name"
    return InputError(
        f"{path} holds {who}, but {first} those of {energies.identity}; relax its structures with that potential."
    )


def _formula(counts: Mapping[int, int]) -> str:
    return reduced_formula([z for z, n in counts.items() for _ in range(n)])
