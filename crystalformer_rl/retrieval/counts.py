"""Recall, precision and enrichment of every arm, seed, round and number taken."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from crystalformer_rl.crystal.prototype import Kind
from crystalformer_rl.retrieval.scored_pool import Pool

Row = dict[str, Any]


def retrieval_rows(
    pools: Sequence[Pool], targets: Sequence[Kind] | None, numbers: Sequence[int], base: str | None = None
) -> list[Row]:
    """Rows of RETRIEVAL: for each pool, after each round, of the best so many and of all that it scored.

    targets: what there is to retrieve; None leaves what counts them null. base: the arm of the unmoved policy, whose mean precision at the same
    number, after as many of its rounds, is what enrichment counts from.
    """
    rows = [_row(pool, last, most, targets) for pool in pools for last in pool.evaluations for most in (*numbers, None)]
    if targets is None or base is None:
        return rows
    level: dict[tuple[int, int | None], list[float]] = {}
    for row in rows:
        if row["arm"] == base and row["precision"] is not None:
            level.setdefault((row["round"], row["k"]), []).append(row["precision"])
    ends = max((last for last, _ in level), default=0)
    for row in rows:
        own = level.get((min(row["round"], ends), row["k"]))
        if own and row["precision"] is not None and np.mean(own) > 0:
            row["enrichment"] = row["precision"] / float(np.mean(own))
    return rows


def _row(pool: Pool, last: int, most: int | None, targets: Sequence[Kind] | None) -> Row:
    places = pool.chosen(last, most)
    n = len(places)
    row: Row = {
        "policy": pool.policy,
        "arm": pool.arm,
        "seed": pool.seed,
        "round": last,
        "k": most,
        "scored": int((pool.round <= last).sum()),
        "evaluations": pool.evaluations[last],
        "n": n,
        "stable_fraction": float(pool.stable[places].mean()) if n else None,
    }
    for rung, name in (("structure", "known_structure"), ("formula", "known_formula"), ("none", "new_formula")):
        row[f"{name}_fraction"] = sum(pool.rungs[k] == rung for k in places) / n if n else None
    if targets is not None:
        wanted = set(targets)
        found = sum(pool.kinds[k] in wanted for k in places)
        row |= {"targets": len(wanted), "found": found, "recall": found / len(wanted), "precision": found / n if n else None}
        row["evaluations_per_target"] = pool.evaluations[last] / found if found else None
    return row


def found_targets(pools: Sequence[Pool], targets: Sequence[Kind], most: int | None = None) -> np.ndarray:
    """(pools, targets) bool: which targets are among the best so many of each pool after its last round; None: of all that it scored."""
    found = np.zeros((len(pools), len(targets)), bool)
    for k, pool in enumerate(pools):
        own = {pool.kinds[place] for place in pool.chosen(max(pool.evaluations), most)}
        found[k] = [target in own for target in targets]
    return found
