"""Structures for compositions whose energy is known: prototypes, exchanged elements, energies, and a probability to be right."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from itertools import groupby
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from crystalformer_rl.crystal.structure import crystal_columns
from crystalformer_rl.crystal.tokens import token_columns
from crystalformer_rl.errors import InputError
from crystalformer_rl.potential import load
from crystalformer_rl.potential.potential_registry import fingerprint
from crystalformer_rl.potential.shards import maybe_round, rounded, rounded_sites
from crystalformer_rl.recovery.acceptance import FEATURES, features, groups, has_second, probabilities
from crystalformer_rl.recovery.attempt import Attempt, Means, Tried, attempts
from crystalformer_rl.recovery.prototypes import Prototypes
from crystalformer_rl.recovery.recover_settings import RecoverSettings
from crystalformer_rl.recovery.second_opinion import SecondOpinion
from crystalformer_rl.recovery.targets import Wanted, wanted
from crystalformer_rl.reference.compatibility import check_same_potential
from crystalformer_rl.reference.energies import read_energies
from crystalformer_rl.reference.formation_energy import by_number
from crystalformer_rl.tables.column import FLOATS, Column, table_of_rows
from crystalformer_rl.tables.parquet import atomic_path, read_table, write_table
from crystalformer_rl.tables.provenance import digest_json, provenance, sha256, with_record
from crystalformer_rl.tables.recovery_columns import RECOVERED
from crystalformer_rl.tables.role import Role
from crystalformer_rl.tables.status import OK, Status

SHARD = 64
"""Compositions a file in the working folder."""

_PART = (*RECOVERED, Column("features", FLOATS, "", "what the acceptance judges; null without a structure"))
"""Columns of a finished part: a row a structure, without a verdict, so that another calibration needs no new energies."""


@dataclass(frozen=True)
class Plan:
    """What every process needs to know: the reference, the potential's name, where to compute, how to attempt."""

    reference: str
    potential: str
    device: str
    settings: RecoverSettings

    def means(self) -> Means:
        """Prototypes and potentials, loaded."""
        energies = read_energies(self.reference)
        potential = load(self.potential, device=self.device)
        check_same_potential(f"the potential '{self.potential}'", potential.identity, self.reference, energies.identity)
        second = None
        name = self.settings.second
        if name is not None:
            second = SecondOpinion.of(energies, load(name, device=self.device), name, self.reference)
        elemental = by_number(energies.elemental_energies)
        prototypes = Prototypes.from_reference(self.reference, self.settings.max_atoms)
        return Means(prototypes, potential, elemental, self.settings, second)


def recover(
    compositions: pa.Table,
    plan: Plan,
    work: Path,
    *,
    processes: int = 1,
    source: str = "the compositions",
    advance: Callable[[int], object] | None = None,
) -> pa.Table:
    """The RECOVERED table: a row a composition, those nearest to the hull first.

    compositions: see `recovery.targets.wanted`. The pretraining entries of the plan's reference are the prototypes; held-out and
    reserved formulas get no structure. work: folder for finished parts, from which a killed run goes on. Compositions beyond the limits of the
    plan's settings are not attempted. Raises InputError for energies of another potential, and for parts of one.
    """
    asked = wanted(compositions, read_energies(plan.reference), known_formulas(plan.reference), source)
    near = sorted((one for one in asked if one.target is not None), key=lambda one: (one.height or 0.0, one.formula))
    low = [one for one in near if (one.height or 0.0) <= plan.settings.max_e_above_hull]
    beyond, near = [*low[plan.settings.limit :], *near[len(low) :]], low[: plan.settings.limit]
    _check_folder(work, plan)
    parts = [list(near[k : k + SHARD]) for k in range(0, len(near), SHARD)]
    rows = list(_attempted(parts, plan, work, processes, advance))
    rows += [_refused(replace(one, status=Status.NOT_ATTEMPTED, note=_beyond(one, plan.settings))) for one in beyond]
    rows += [_refused(one) for one in asked if one.target is None]
    return with_record(table_of_rows(RECOVERED, rows), {"stage": "recover"})


def structures_of(attempt: Attempt, height: float | None) -> list[dict[str, Any]]:
    """Rows of all structures of an attempt, in the order of `groups`, with their features and no verdict; one without a structure where there is none."""
    target = attempt.target
    shared: dict[str, Any] = {
        "id": f"recovered-{target.formula}",
        "formula": target.formula,
        "dft_formation_energy": target.dft,
        "expected_formation_energy": round(target.expected, 6),
        "dft_e_above_hull": None if height is None else round(height, 6),
        "n_entries": target.entries,
        "candidates": attempt.candidates,
        "relaxed": len(attempt.tried),
        "evaluations": attempt.evaluations,
    }
    if not attempt.tried:
        none = attempt.candidates == 0
        note = None if none else "no candidate could be relaxed"
        return [shared | {"status": Status.NO_PROTOTYPE if none else Status.NOT_ACCEPTED, "note": note}]
    lowest = min(one.formation_energy for one in attempt.tried)
    described = features(attempt, has_second(attempt)).tolist()
    return [
        shared | _structure_row(group[0], lowest) | {"features": own}
        for group, own in zip(groups(attempt), described, strict=True)
    ]


def _structure_row(one: Tried, lowest: float) -> dict[str, Any]:
    tokens = token_columns([rounded_sites(one.sites)], coords_name="site_frac_coords")
    columns = crystal_columns([rounded(one.crystal)]) | tokens
    return {name: values[0] for name, values in columns.items()} | {
        "energy": round(one.energy, 6),
        "formation_energy": round(one.formation_energy, 6),
        "force_max": one.force_max,
        "stress_max": one.stress_max,
        "residual": round(one.residual, 6),
        "second_residual": maybe_round(one.second_residual, 6),
        "above_lowest": round(one.formation_energy - lowest, 6),
        "donor": one.candidate.donor,
        "exchange": one.candidate.exchange,
        "score": round(one.candidate.score, 4),
        "score_rank": one.rank,
        "status": OK,
    }


def judged(structures: Sequence[dict[str, Any]], settings: RecoverSettings) -> dict[str, Any]:
    """The RECOVERED row of one composition: the likeliest of its structures, accepted or not."""
    if structures[0]["features"] is None:
        return structures[0] | {"weight": 0.0}
    chances = probabilities(np.array([row["features"] for row in structures], float))
    place = int(chances.argmax())
    p = float(chances[place])
    return structures[place] | {
        "p_right": round(p, 4),
        "weight": round(p, 4) if p >= settings.learned_from else 0.0,
        "status": OK if p >= settings.accepted_from else Status.NOT_ACCEPTED,
    }


def known_formulas(reference: str | Path) -> set[str]:
    """Formulas whose structure the reference has; those that were recovered before are looked for again."""
    table = read_table(reference)
    recovered = pc.equal(table.column("role"), Role.RECOVERED)
    kept = table.filter(pc.and_not(pc.is_valid(table.column("atomic_numbers")), recovered))
    return set(kept.column("formula").to_pylist())


def _beyond(one: Wanted, settings: RecoverSettings) -> str:
    if (one.height or 0.0) > settings.max_e_above_hull:
        return f"more than {settings.max_e_above_hull} eV/atom above the hull (max_e_above_hull)"
    return f"not among the {settings.limit} nearest to the hull (limit)"


def _refused(one: Wanted) -> dict[str, Any]:
    return {"id": f"recovered-{one.formula}", "formula": one.formula, "weight": 0.0, "status": one.status, "note": one.note}


# --- in parts, in processes -------------------------------------------------------


def _attempted(
    parts: Sequence[Sequence[Wanted]], plan: Plan, work: Path, processes: int, advance: Callable[[int], object] | None
) -> Iterator[dict[str, Any]]:
    """The rows of all attempts, in order, from parts that lie in the working folder or are computed."""
    settings = plan.settings.model_dump(
        exclude={"accepted_from", "learned_from", "compositions", "limit", "max_e_above_hull", "second"}
    )
    content = [sha256(plan.reference), plan.potential, plan.settings.second, settings]
    paths = [work / f"recovered_{digest_json([content, [_key(one) for one in part]])[:16]}.parquet" for part in parts]
    missing = [(part, path) for part, path in zip(parts, paths, strict=True) if not path.is_file()]
    told = advance or (lambda n: None)
    told(sum(map(len, parts)) - sum(len(part) for part, _ in missing))
    if processes <= 1 or len(missing) <= 1:
        if missing:
            _start(plan)
        for part, path in missing:
            _compute(part, path)
            told(len(part))
    else:
        with ProcessPoolExecutor(min(processes, len(missing)), get_context("spawn"), _start, (plan,)) as pool:
            futures = [(part, pool.submit(_compute, part, path)) for part, path in missing]
            for part, future in futures:
                future.result()
                told(len(part))
    for path in paths:
        for _, rows in groupby(read_table(path).to_pylist(), key=lambda row: row["id"]):
            yield judged(list(rows), plan.settings)


def _check_folder(work: Path, plan: Plan) -> None:
    """Finished parts are of these very potentials and features, not of others under the same names. Raises InputError."""
    names = [plan.potential, *([plan.settings.second] if plan.settings.second else [])]
    made_by = {"potentials": {name: fingerprint(name) for name in names}, "features": [*FEATURES]}
    record = work / "made_by.json"
    if not record.is_file():
        with atomic_path(record) as temporary:
            temporary.write_text(json.dumps(made_by, sort_keys=True) + "\n", encoding="utf-8")
    elif json.loads(record.read_text(encoding="utf-8")) != json.loads(json.dumps(made_by)):
        raise InputError(
            f"{work} holds parts of other potentials, or of another version; choose another folder for finished parts."
        )


def _key(one: Wanted) -> list[Any]:
    assert one.target is not None
    return [one.formula, one.target.dft, one.target.entries, one.height]


_process: list[Means] = []


def _start(plan: Plan) -> None:
    _process[:] = [plan.means()]


def _compute(part: Sequence[Wanted], path: Path) -> None:
    means = _process[0]
    found = attempts([one.target for one in part if one.target is not None], means)
    rows = [row for attempt, one in zip(found, part, strict=True) for row in structures_of(attempt, one.height)]
    write_table(path, table_of_rows(_PART, rows), provenance("recover part", {}))
