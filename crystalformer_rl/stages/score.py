"""What crystals earn, whoever proposed them: the reward of a run, with every figure and term that it is made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from crystalformer_rl.crystal.encode import SYMPREC, encode
from crystalformer_rl.crystal.structure import crystals_from_table
from crystalformer_rl.crystal.tokens import Sites, sites_from_table
from crystalformer_rl.errors import InputError
from crystalformer_rl.finetune.rollout import Score, Scores, kind_number
from crystalformer_rl.finetune.scored import columns_with_parts, scored_columns, scored_row, term_means
from crystalformer_rl.hull.stability import STABLE_BELOW
from crystalformer_rl.tables.column import make_table, table_of_rows
from crystalformer_rl.tables.crystal_columns import CRYSTALS_AND_TOKENS
from crystalformer_rl.tables.provenance import with_record
from crystalformer_rl.tables.rollout_columns import UPDATES
from crystalformer_rl.tables.status import OK

BATCH = 512
_TOKENS = {column.name for column in CRYSTALS_AND_TOKENS}


class Scored(NamedTuple):
    """rollouts: the ROLLOUTS table, a row a crystal; updates: the UPDATES table, a row a batch. What a policy would add is null."""

    rollouts: pa.Table
    updates: pa.Table


def score(
    crystals: pa.Table,
    scorer: Score,
    *,
    batch: int = BATCH,
    symprec: float = SYMPREC,
    stable_below: float = STABLE_BELOW,
    source: str = "the crystals",
    report: Callable[[dict[str, Any]], object] | None = None,
) -> Scored:
    """Score the crystals of a table in its order, `batch` at a time; every row stays, failures at their penalty.

    Tokens that the table brings are taken; of other crystals the symmetry is searched at `symprec` (Å), since a reward looks at sites.
    scorer: such as `scoring.scorer.Scorer`. `report` is called with the row of each batch. `source` names the table in errors. Raises InputError for a table without
    crystals.
    """
    if not crystals.num_rows:
        raise InputError(f"{source} holds no crystal, so there is nothing to score; give some.")
    ids = crystals.column("id").to_pylist()
    sites, statuses = _items(crystals, symprec, source)
    tables: list[pa.Table] = []
    rows: list[dict[str, Any]] = []
    for start in range(0, len(ids), batch):
        part = slice(start, start + batch)
        scores = scorer(sites[part], statuses[part])
        number = len(rows) + 1
        terms = term_means(scores.terms)
        tables.append(_rollouts(ids[part], sites[part], scores, number))
        rows.append(_row(sites[part], scores, number, stable_below))
        if report is not None:
            report(rows[-1])
    record = {"stage": "score"}
    return Scored(
        with_record(pa.concat_tables(tables), record), with_record(table_of_rows((*UPDATES, *terms), rows), record)
    )


def _items(table: pa.Table, symprec: float, source: str) -> tuple[list[Sites | None], list[str]]:
    """Sites and status of every row."""
    found, given = crystals_from_table(table)
    sites: list[Sites | None] = [None] * table.num_rows
    if set(table.column_names) >= _TOKENS:
        sites = sites_from_table(table, source)
    plain = [c if s is None and status == OK else None for c, s, status in zip(found, sites, given, strict=True)]
    encoded = encode(plain, symprec)
    for k, (crystal, (own, status)) in enumerate(zip(plain, encoded, strict=True)):
        if crystal is not None:
            sites[k], given[k] = own, status
    return sites, given


def _rollouts(ids: Sequence[str], sites: Sequence[Sites | None], scores: Scores, number: int) -> pa.Table:
    size = len(ids)
    columns = {
        "id": list(ids),
        **scored_columns(sites, scores),
        "round": [1] * size,
        "update": [number] * size,
        "value": scores.reward,
    }
    return make_table(columns_with_parts(scores), columns)


def _row(sites: Sequence[Sites | None], scores: Scores, number: int, stable_below: float) -> dict[str, Any]:
    kinds = np.array([kind_number(s) for s in sites])
    return {"round": 1, "update": number, **scored_row(sites, kinds, scores, stable_below)}
