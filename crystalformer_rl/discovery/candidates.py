"""The crystals of all policies as one ranked list, each structure once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

from crystalformer_rl.crystal.structure import crystals_from_table
from crystalformer_rl.discovery.cif import cif_text
from crystalformer_rl.discovery.matching import MatchError, composition_key, reduced_structure
from crystalformer_rl.discovery.novelty_table import Distinct
from crystalformer_rl.tables.column import table_of_rows
from crystalformer_rl.tables.discovery_columns import CANDIDATES
from crystalformer_rl.tables.status import OK

_Row = dict[str, Any]

RULES = {
    "e_above_hull": "by rising energy above hull",
    "fom": "stable crystals first, by falling figure of merit; then the others by rising energy above hull",
    "fom_total": "the same by the figure of merit with the total dielectric constant",
}
"""Orders of the ranking. Suspect crystals stand last in all."""


def candidates(
    evaluated: Sequence[pa.Table], by: str = "e_above_hull", advance: Callable[[int], object] | None = None
) -> pa.Table:
    """The CANDIDATES table of several policies' EVALUATED tables.

    Crystals that passed all stages, best first by the rule `by` (one of `RULES`). Of
    crystals that match, the best ranked stands for all; `found_by` and `found_count` say
    who else found it. Equal figures are ordered by policy (as given) and id.
    """
    order = {name: place for place, table in enumerate(evaluated) for name in set(table.column("policy").to_pylist())}
    table = pa.concat_tables(list(evaluated))
    crystals, _ = crystals_from_table(table)
    rows = table.to_pylist()
    usable = [i for i, row in enumerate(rows) if row["status"] == OK and row["e_above_hull"] is not None]
    usable.sort(key=lambda i: (*_rank_key(rows[i], by), order[rows[i]["policy"]], rows[i]["id"]))
    leader: dict[str, int] = {}
    groups: dict[int, list[int]] = {}
    distinct = Distinct()
    for i in usable:
        crystal = crystals[i]
        assert crystal is not None  # a row that passed relaxation holds a crystal
        earlier = _earlier(distinct, str(i), crystal)
        leader[str(i)] = i if earlier is None else leader[earlier]
        groups.setdefault(leader[str(i)], []).append(i)
        if advance is not None:
            advance(1)
    ranked = []
    for rank, (first, members) in enumerate(groups.items(), start=1):
        crystal = crystals[first]
        assert crystal is not None
        found_by = sorted({rows[i]["policy"] for i in members}, key=order.__getitem__)
        more = {"rank": rank, "found_by": found_by, "found_count": len(members), "verdict": verdict(rows[first])}
        name = f"{rank}_{crystal.formula}_{rows[first]['space_group']}"
        ranked.append(rows[first] | more | {"cif": cif_text(crystal, name)})
    return table_of_rows(CANDIDATES, ranked)


def verdict(row: _Row) -> str:
    """`retrieved` from the pretraining set, `rediscovered` from the held-out set, or `new`."""
    if not row["novel"]:
        return "retrieved"
    return "rediscovered" if row["rediscovered"] else "new"


def _rank_key(row: _Row, by: str) -> tuple[float, ...]:
    suspect, height = bool(row["suspect"]), row["e_above_hull"]
    if by != "e_above_hull":
        merit = row[by] if row["stable"] and row[by] is not None else float("-inf")
        return suspect, not row["stable"], -merit, height
    return suspect, height


def _earlier(distinct: Distinct, name: str, crystal: Any) -> str | None:
    """Name of an earlier crystal that matches; a pair that cannot be compared is taken for two structures."""
    try:
        return distinct.add(name, composition_key(crystal.atomic_numbers), reduced_structure(crystal))
    except MatchError:
        return None
