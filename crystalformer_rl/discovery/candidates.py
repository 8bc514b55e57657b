"""The crystals of all policies as one ranked list, each structure once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from crystalformer_rl.crystal.structure import Crystal, crystals_from_table
from crystalformer_rl.discovery.cif import cif_text
from crystalformer_rl.discovery.distinct import Distinct
from crystalformer_rl.discovery.matching import MatchError, composition_key, reduced_structure, same_either_way
from crystalformer_rl.discovery.ranking import Ranking
from crystalformer_rl.discovery.verdicts import verdict
from crystalformer_rl.tables.column import table_of_rows
from crystalformer_rl.tables.discovery_columns import CANDIDATES
from crystalformer_rl.tables.status import OK

if TYPE_CHECKING:
    from pymatgen.core import Structure

_Row = dict[str, Any]


def candidates(
    evaluated: Sequence[pa.Table],
    ranking: Ranking | None = None,
    advance: Callable[[int], object] | None = None,
    *,
    rewards: Sequence[float] | None = None,
) -> pa.Table:
    """The CANDIDATES table of several policies' EVALUATED tables.

    Crystals that passed all stages, best first by `ranking`; those that it leaves out come last and say why. Of
    crystals that match, the best ranked stands for all; `found_by` and `found_count` say
    who else found it. Equal figures are ordered by policy (as given) and id. rewards: of all rows, where the ranking is
    by reward.
    """
    ranking = ranking or Ranking()
    order = {name: place for place, table in enumerate(evaluated) for name in set(table.column("policy").to_pylist())}
    table = pa.concat_tables(list(evaluated))
    crystals, _ = crystals_from_table(table)
    rows = [row | {"reward": None} for row in table.to_pylist()]
    for row, reward in zip(rows, rewards or (), strict=False):
        row["reward"] = reward
    usable = [i for i, row in enumerate(rows) if row["status"] == OK and row["e_above_hull"] is not None]
    one_formula = len({rows[i]["formula"] for i in usable}) == 1
    usable.sort(key=lambda i: (*ranking.key(rows[i], one_formula), order[rows[i]["policy"]], rows[i]["id"]))
    judged = {i for i in usable if rows[i]["judge"] is not None}
    groups = _groups(usable, crystals, judged, advance)
    ranked = []
    for rank, (first, members) in enumerate(groups.items(), start=1):
        crystal = crystals[first]
        assert crystal is not None
        found_by = sorted({rows[i]["policy"] for i in members}, key=order.__getitem__)
        more = {"rank": rank, "found_by": found_by, "found_count": len(members), "verdict": verdict(rows[first])}
        more["left_out"] = ranking.left_out(rows[first])
        name = f"{rank}_{crystal.formula}_{rows[first]['space_group']}"
        ranked.append(rows[first] | more | {"cif": cif_text(crystal, name)})
    return table_of_rows(CANDIDATES, ranked)


def _groups(
    ordered: Sequence[int],
    crystals: Sequence[Crystal | None],
    judged: set[int],
    advance: Callable[[int], object] | None,
) -> dict[int, list[int]]:
    """The rows of each structure by the best ranked of them, one that was judged first, in the order of the ranking."""
    distinct: Distinct[int, Structure] = Distinct(same_either_way)
    alone = []
    for i in ordered:
        crystal = crystals[i]
        assert crystal is not None  # a row that passed relaxation holds a crystal
        try:
            distinct.add(i, composition_key(crystal.atomic_numbers), reduced_structure(crystal))
        except MatchError:  # a pair that cannot be compared is taken for two structures
            alone.append([i])
        if advance is not None:
            advance(1)
    place = {i: k for k, i in enumerate(ordered)}
    members = [sorted(group, key=lambda i: (i not in judged, place[i])) for group in distinct.groups()]
    return {group[0]: group for group in sorted([*members, *alone], key=lambda group: place[group[0]])}
