"""All that the stages say of one policy's crystals, joined into one table, a row a crystal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from crystalformer_rl.crystal.coverage import template_name
from crystalformer_rl.crystal.distances import shortest_distance
from crystalformer_rl.crystal.prototype import template
from crystalformer_rl.crystal.structure import SHORTEST_DISTANCE, Crystal, crystal_status, crystals_from_table
from crystalformer_rl.crystal.vacuum import is_low_dimensional
from crystalformer_rl.discovery.charge import charge_balanced
from crystalformer_rl.hull.stability import STABLE_BELOW, is_stable
from crystalformer_rl.tables.column import table_of_rows
from crystalformer_rl.tables.discovery_columns import EVALUATED, JUDGED_CRYSTALS, KNOWN_COMPOUND
from crystalformer_rl.tables.rows import rows_in_order, unique_ids
from crystalformer_rl.tables.status import OK, Status

_Row = dict[str, Any]


@dataclass(frozen=True)
class StageTables:
    """The tables of the stages on the same crystals; `properties` may be absent."""

    relaxed: pa.Table
    hull: pa.Table
    novelty: pa.Table
    properties: pa.Table | None = None


def evaluated(crystals: pa.Table, stages: StageTables, policy: str, stable_below: float = STABLE_BELOW) -> pa.Table:
    """The EVALUATED table: rows of `crystals` (as sampled) in their order, joined with the stages' by id.

    `stable_below`: eV/atom. A crystal is stable where it is at most that far above the
    hull. Its `status` is that of the
    first stage that failed. Raises InputError where ids repeat or the tables hold
    different crystals.
    """
    ids = unique_ids(crystals, "the crystals")
    relaxed = rows_in_order(stages.relaxed, ids, "relaxed")
    hull = rows_in_order(stages.hull, ids, "hull")
    novelty = rows_in_order(stages.novelty, ids, "novelty")
    properties = rows_in_order(stages.properties, ids, "properties") if stages.properties is not None else [{} for _ in ids]
    given = crystals.select([name for name in crystals.column_names if name in _FROM_SAMPLE]).to_pylist()
    found, statuses = crystals_from_table(crystals)
    at_rest, _ = crystals_from_table(stages.relaxed)
    rows = []
    for i, name in enumerate(ids):
        row: _Row = {"id": name, "policy": policy} | _as_sampled(given[i], found[i], statuses[i])
        row |= _taken(properties[i]) | _taken(hull[i]) | _taken(novelty[i]) | _taken(relaxed[i])
        row |= _first_failure([statuses[i], *(table[i].get("status", OK) for table in (relaxed, hull, novelty))])
        row["properties_status"] = properties[i].get("status")
        row["template"] = _template(relaxed[i])
        row["low_dimensional"] = _low_dimensional(at_rest[i] or (found[i] if statuses[i] == OK else None))
        rows.append(row | _judgement(row, stable_below))
    return table_of_rows(EVALUATED, rows)


def with_judged(table: pa.Table, judged: pa.Table) -> pa.Table:
    """An EVALUATED table with what a JUDGED_CRYSTALS table says of some of its crystals, by policy and id."""
    rows = {(row["policy"], row["id"]): row for row in judged.to_pylist()}
    keys = list(zip(table.column("policy").to_pylist(), table.column("id").to_pylist(), strict=True))
    for column in JUDGED_CRYSTALS[_KEYS:]:
        if column.name not in table.column_names:
            continue
        place = table.column_names.index(column.name)
        before = table.column(column.name).to_pylist()
        values = [rows[key][column.name] if key in rows else old for key, old in zip(keys, before, strict=True)]
        table = table.set_column(place, table.schema.field(place), pa.array(values, column.type))
    return table


_KEYS = 3  # id, policy and formula, which both tables have
_FROM_SAMPLE = ("formula", "space_group", "log_prob", "note")
_STAGES = ("sample", "relax", "hull", "novelty")


def _taken(row: _Row) -> _Row:
    """The values that a stage's row contributes; nulls do not overwrite what an earlier stage knew."""
    return {name: value for name, value in row.items() if value is not None and name not in ("id", "status")}


def _as_sampled(given: _Row, crystal: Crystal | None, status: str) -> _Row:
    row = dict(given)
    if crystal is not None and status not in (Status.UNKNOWN_ELEMENT, Status.BAD_LATTICE, Status.BAD_COORDINATES):
        row["formula"] = crystal.formula
        row["shortest_distance"] = shortest_distance(crystal)
        row["charge_balanced"] = charge_balanced(crystal.atomic_numbers)
    row["valid"] = status == OK and row["shortest_distance"] > SHORTEST_DISTANCE
    return row


def _template(relaxed: _Row) -> str | None:
    letters = relaxed.get("wyckoff")
    return template_name(template(relaxed["space_group"], letters)) if letters else None


def _low_dimensional(crystal: Crystal | None) -> bool | None:
    return None if crystal is None or crystal_status(crystal) != OK else is_low_dimensional(crystal)


def _first_failure(statuses: Sequence[str | None]) -> _Row:
    """`status` and `failed_stage` from the statuses of the stages in their order."""
    for stage, status in zip(_STAGES, statuses, strict=True):
        if status not in (OK, None):
            return {"status": status, "failed_stage": stage}
    return {"status": OK, "failed_stage": None}


def _judgement(row: _Row, stable_below: float) -> _Row:
    """Stable before and after relaxation, and S.U.N.; null where a figure they need is missing."""
    before, after = row.get("e_above_hull_initial"), row.get("e_above_hull")
    judged: _Row = {}
    if before is not None:
        judged["stable_initial"] = is_stable(before, stable_below)
    if after is not None:
        judged["stable"] = is_stable(after, stable_below)
    if "stable" in judged and row.get("unique") is not None:
        judged["sun"] = judged["stable"] and row["unique"] and row["novel"]
        judged["sun_new_formula"] = judged["sun"] and row["known_level"] not in KNOWN_COMPOUND
    return judged
