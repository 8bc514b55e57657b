"""Retrieved or discovered: what the arms of a run found of what the policy was trained on, and what beyond it."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from crystalformer_rl.retrieval.best_known import TOP
from crystalformer_rl.retrieval.best_known import targets as best_of_screening
from crystalformer_rl.retrieval.counts import retrieval_rows
from crystalformer_rl.retrieval.scored_pool import Pool
from crystalformer_rl.tables.column import table_of_rows
from crystalformer_rl.tables.provenance import with_record
from crystalformer_rl.tables.retrieval_columns import RETRIEVAL

NUMBERS = (100, 1000)
"""Best kinds that are taken, beside all of them."""


def retrieve(
    pools: Sequence[Pool],
    truth: pa.Table | None = None,
    *,
    top: float = TOP,
    numbers: Sequence[int] = NUMBERS,
    base: str | None = None,
    source: str = "the truth",
) -> pa.Table:
    """The RETRIEVAL table of what `retrieval.pool_reader.read_pools` read.

    truth: the screened pretraining entries with their true rewards, rows of ROLLOUTS, whose best share `top` is what there is to retrieve; without it
    only what is known of each round's crystals is counted. numbers: of the best kinds that are taken; base: the arm of the unmoved policy. `source` names the
    truth in errors. Raises InputError for a truth that has no best share.
    """
    wanted = None if truth is None else best_of_screening(truth.to_pylist(), top, source)
    return with_record(table_of_rows(RETRIEVAL, retrieval_rows(pools, wanted, numbers, base)), {"stage": "retrieve"})
