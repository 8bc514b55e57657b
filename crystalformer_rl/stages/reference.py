"""A reference: what a hull and a novelty search compare with, its energies all from one potential.

Entries near the hull and small enough to be trained on are relaxed and kept with crystal
and tokens (roles `pretraining` and `held_out`); the others only hold the hull up: formula and
energy, no geometry (role `hull_only`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from crystalformer_rl.crystal.elements import composition
from crystalformer_rl.crystal.split import held_out
from crystalformer_rl.crystal.structure import Crystal, crystals_from_table
from crystalformer_rl.errors import InputError
from crystalformer_rl.potential import load
from crystalformer_rl.potential.devices import CPU
from crystalformer_rl.potential.elemental import elemental_energies, recorded
from crystalformer_rl.potential.protocol import Potential
from crystalformer_rl.potential.recompute import check_single_points
from crystalformer_rl.potential.relax_settings import RelaxSettings
from crystalformer_rl.potential.shards import LABELS, maybe_round, run_shards, shards_of
from crystalformer_rl.reference.bias import LEAST_ENTRIES
from crystalformer_rl.reference.competing import EnergyFrom
from crystalformer_rl.reference.dft_completion import completed
from crystalformer_rl.reference.dft_rows import dft_rows
from crystalformer_rl.reference.formation_energy import by_number, formation_energy, is_plausible
from crystalformer_rl.reference.identity import Corrections, Functional, PotentialIdentity
from crystalformer_rl.reference.scale import MP2020_SCALE
from crystalformer_rl.tables.column import make_table, table_of_rows
from crystalformer_rl.tables.energy_columns import REFERENCE
from crystalformer_rl.tables.role import Role
from crystalformer_rl.tables.status import OK, Status


@dataclass(frozen=True)
class Selection:
    """Which entries a policy is trained on: near the DFT hull (eV/atom) and small (atoms in the cell given); or none."""

    max_atoms: int = 20
    max_e_above_hull: float = 0.1
    hull_only: bool = False

    def role(self, crystal: Crystal, dft_e_above_hull: float | None) -> str:
        """`pretraining`, `held_out` or `hull_only`; an entry without a DFT label is `hull_only`."""
        if self.hull_only:
            return Role.HULL_ONLY
        if dft_e_above_hull is None or not dft_e_above_hull <= self.max_e_above_hull or len(crystal) > self.max_atoms:
            return Role.HULL_ONLY
        return Role.HELD_OUT if held_out(crystal.formula) else Role.PRETRAINING


def reference(
    table: pa.Table,
    potential_name: str,
    zero: Mapping[str, float] | None,
    work: Path,
    *,
    settings: RelaxSettings,
    selection: Selection | None = None,
    single_points: Mapping[str, float] | None = None,
    dft_energies: pa.Table | None = None,
    processes: int = 1,
    device: str = CPU,
    advance: Callable[[int], object] | None = None,
) -> tuple[pa.Table, dict[str, Any]]:
    """The reference of the crystals in `table`, and what its provenance must say of the potential.

    table: crystals with `id`, and `dft_formation_energy`, `dft_e_above_hull`, `dft_band_gap` and `source` where known.
    zero: {symbol: eV/atom}, the elements' energies; None takes the lowest elemental entries, see `potential.elemental`.
    single_points: {id: eV/atom in this very potential} for entries that are not relaxed; those that it lacks are
    computed, and a few of those that it has are checked. dft_energies: formula and dft_formation_energy (eV/atom) on the scale
    that the potential learned, as the crystals' own dft_formation_energy; they are kept as entries for the hull alone, with
    the potential's bias. work: folder of the finished shards; device: where the potential computes, cpu or gpu.
    """
    read, statuses = crystals_from_table(table)
    # what is made of no element has no formula, by which entries are sorted
    crystals = [None if status == Status.UNKNOWN_ELEMENT else c for c, status in zip(read, statuses, strict=True)]
    ids = table.column("id").to_pylist()
    if len(set(ids)) != len(ids):
        raise InputError("two crystals have the same id; give each its own, since a hull names its entries by them.")
    labels = {name: _column(table, name) for name in (*LABELS, "source")}
    selection = selection or Selection()
    roles = [
        Role.HULL_ONLY if c is None else selection.role(c, label)
        for c, label in zip(crystals, labels["dft_e_above_hull"], strict=True)
    ]
    known = dict(single_points or {})
    potential = load(potential_name, device=device)
    if known:
        check_single_points(potential, {i: c for i, c in zip(ids, crystals, strict=True) if c is not None}, known)

    sound = [k for k, status in enumerate(statuses) if status == OK]
    to_relax = [k for k in sound if roles[k] != Role.HULL_ONLY]
    to_evaluate = [k for k in sound if roles[k] == Role.HULL_ONLY and ids[k] not in known]
    rows: dict[int, dict[str, Any]] = {}
    shards = [
        *shards_of("relaxed", to_relax, ids, crystals, settings.model_dump(), potential.identity),
        *shards_of("single_points", to_evaluate, ids, crystals, None, potential.identity),
    ]
    for shard, result in run_shards(shards, work, potential_name, potential, processes, device):
        rows.update(zip(shard.rows, result.to_pylist(), strict=True))
        if advance is not None:
            advance(len(shard.rows))
    found = [rows.get(k) or _known_row(c, statuses[k], known.get(ids[k])) for k, c in enumerate(crystals)]
    found_zero = _recorded_zero(zero, potential, ids, crystals, found)
    elemental = by_number(found_zero["elemental_energies"])
    entries = []
    for k, (crystal, row) in enumerate(zip(crystals, found, strict=True)):
        row |= {"id": ids[k], "role": roles[k]} | {name: values[k] for name, values in labels.items()}
        entries.append(_with_formation_energy(row, crystal, elemental))
    used = sum(1 for k, i in enumerate(ids) if roles[k] == Role.HULL_ONLY and i in known)
    origins = {
        "pretraining and held_out": f"relaxed with the space group kept, at most {settings.max_evaluations} "
        f"evaluations, to {settings.fmax} eV/Å and {settings.smax} GPa; force_max and stress_max say what remains",
        "hull_only": f"single points on the geometries given, {used} of them from a table that was spot-checked",
    }
    if selection.hull_only:
        del origins["pretraining and held_out"]
    record = {"potential": potential.identity.as_record(), **found_zero, "energies": origins}
    built = table_of_rows(REFERENCE, entries)
    if dft_energies is None:
        return built, record
    return _with_dft(built, dft_energies, potential.identity, record)


def _with_dft(
    built: pa.Table, dft_energies: pa.Table, identity: PotentialIdentity, record: dict[str, Any]
) -> tuple[pa.Table, dict[str, Any]]:
    """The reference with rows of DFT, and the bias in its record. Raises InputError where they are on no scale together."""
    if (identity.functional, identity.corrections) != (Functional.PBE, Corrections.MP2020):
        raise InputError(
            f"{identity} did not learn PBE energies with MP2020 corrections, so DFT energies of that scale cannot stand beside its own; "
            "leave them out."
        )
    table, bias = completed(built, dft_rows(dft_energies, "DFT"), MP2020_SCALE)
    if bias is None:
        raise InputError(
            f"fewer than {LEAST_ENTRIES} relaxed entries near the hull have a dft_formation_energy and a dft_e_above_hull, so the "
            "potential's bias against DFT cannot be measured; give more of them, or leave the DFT energies out."
        )
    return table, record | {"bias": bias.as_record()}


def _column(table: pa.Table, name: str) -> list[Any]:
    return table.column(name).to_pylist() if name in table.column_names else [None] * table.num_rows


def _recorded_zero(
    given: Mapping[str, float] | None,
    potential: Potential,
    ids: list[str],
    crystals: Sequence[Crystal | None],
    rows: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """The elemental energies as the provenance records them: those given, or the lowest of this very potential."""
    if given is not None:
        return {"elemental_energies": dict(given)}
    sound = [
        (name, np.asarray(c.atomic_numbers).tolist(), row["energy"])
        for name, c, row in zip(ids, crystals, rows, strict=True)
        if c is not None and row["status"] == OK
    ]
    return recorded(elemental_energies(potential, {z for _, numbers, _ in sound for z in numbers}, sound))


def compact(table: pa.Table) -> pa.Table:
    """The reference without what a hull does not ask: energies to 1e-5 eV/atom, no DFT labels, no counts of atoms."""
    data: dict[str, Any] = {name: table.column(name).to_pylist() for name in ("id", "formula", "role", "source", "status")}
    for name in ("energy", "formation_energy"):
        data[name] = [maybe_round(value, 5) for value in table.column(name).to_pylist()]
    return make_table(REFERENCE, data)


def _known_row(crystal: Crystal | None, status: str, energy: float | None) -> dict[str, Any]:
    """A row for an entry that was not computed: its energy was given, or it failed when read."""
    formula = crystal.formula if crystal is not None and len(crystal) else None
    row: dict[str, Any] = {"formula": formula, "n_atoms": len(crystal) if crystal is not None else None, "evaluations": 0}
    if status != OK:
        return row | {"status": status}
    if energy is None or not math.isfinite(energy):
        return row | {"status": Status.POTENTIAL_FAILED}
    return row | {"status": OK, "energy": round(energy, 6), "energy_from": EnergyFrom.SINGLE_POINT.value}


def _with_formation_energy(row: dict[str, Any], crystal: Crystal | None, elemental: Mapping[int, float]) -> dict[str, Any]:
    if row["status"] != OK or crystal is None:
        return row
    formation = formation_energy(composition(crystal.atomic_numbers), row["energy"], elemental)
    if formation is None:
        return row | {"status": Status.NO_REFERENCE_ENERGY}
    status = OK if is_plausible(formation) else Status.IMPLAUSIBLE_ENERGY
    return row | {"formation_energy": round(formation, 6), "status": status}
