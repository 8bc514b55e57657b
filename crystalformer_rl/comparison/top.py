"""The best crystals of all arms by figure of merit, each structure once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from crystalformer_rl.comparison.policy_run import BASE, Row, Run
from crystalformer_rl.crystal.encode import encode
from crystalformer_rl.crystal.structure import Crystal, crystals_from_table
from crystalformer_rl.crystal.structure_type import HALIDE_ELPASOLITE, HALIDE_PEROVSKITE, structure_type
from crystalformer_rl.discovery.distinct import Distinct
from crystalformer_rl.discovery.matching import MatchError, composition_key, reduced_structure, same_either_way
from crystalformer_rl.discovery.verdicts import verdict
from crystalformer_rl.tables.column import table_of_rows
from crystalformer_rl.tables.comparison_columns import TOP
from crystalformer_rl.tables.crystal_columns import CRYSTALS
from crystalformer_rl.tables.status import OK

if TYPE_CHECKING:
    from pymatgen.core import Structure

BEST = 50


def top_table(runs: Sequence[Run], best: int = BEST) -> pa.Table | None:
    """The TOP table: stable crystals of all arms by falling figure of merit; None where nothing was predicted.

    Of crystals that match, in one arm or several, the first counts.
    """
    rows = [
        crystal | {"judged_e_above_hull": judged.get("judge_e_above_hull")}
        for run in runs
        if run.policy != BASE
        for crystal, judged in zip(run.crystals, run.judged or [{}] * len(run.crystals), strict=True)
        if crystal["status"] == OK and crystal["stable"] and crystal["fom"] is not None
    ]
    if not rows:
        return None
    rows.sort(key=lambda row: (-row["fom"], row["policy"], row["id"]))
    found: list[Row] = []
    for row, crystal in _distinct(rows):
        (sites,), _ = zip(*encode([crystal]), strict=True)
        kind = structure_type(sites.space_group, sites.wyckoff, sites.elements) if sites is not None else "other"
        found.append(row | {"rank": len(found) + 1, "structure_type": kind, "verdict": verdict(row)})
        if len(found) == best:
            break
    return table_of_rows(TOP, found)


def _distinct(rows: Sequence[Row]) -> Iterator[tuple[Row, Crystal]]:
    """Rows whose crystals match none before, with their crystals."""
    seen: Distinct[str, Structure] = Distinct(same_either_way)
    for row in rows:
        one = table_of_rows(CRYSTALS, [row])
        crystal = crystals_from_table(one)[0][0]
        assert crystal is not None  # it was relaxed
        try:
            earlier = seen.add(row["id"], composition_key(crystal.atomic_numbers), reduced_structure(crystal))
        except MatchError:
            earlier = None
        if earlier is None:
            yield row, crystal


def halide_counts(top: pa.Table) -> tuple[int, int]:
    """How many of the best are halide elpasolites, and halide perovskites."""
    kinds = top.column("structure_type").to_pylist()
    return kinds.count(HALIDE_ELPASOLITE), kinds.count(HALIDE_PEROVSKITE)
