"""Rank the crystals of several policies and set their metrics side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from crystalformer_rl.discovery.candidates import candidates
from crystalformer_rl.discovery.evaluation import with_judged
from crystalformer_rl.discovery.ranking import CHANCE, REWARD, Ranking
from crystalformer_rl.errors import InputError
from crystalformer_rl.rewards.algebra import Reward
from crystalformer_rl.rewards.at_rest import rewards_at_rest
from crystalformer_rl.tables.provenance import record_of, with_record


def rank(
    evaluated: Mapping[str, tuple[pa.Table, pa.Table]],
    ranking: Ranking | None = None,
    *,
    also: Sequence[pa.Table] = (),
    judged: pa.Table | None = None,
    reward: Reward | None = None,
    advance: Callable[[int], object] | None = None,
) -> tuple[pa.Table, pa.Table]:
    """The CANDIDATES table, best first, and the METRICS of all policies.

    evaluated: EVALUATED and METRICS tables of each policy by the name of where they come from, the base policy first. also:
    EVALUATED tables of crystals that are candidates but no sample of a policy, so that no metrics speak of them. judged: what a
    second potential says of some of all these, a table of `judge`. ranking:
    their order. reward: the run's, where they are ranked by it. Of crystals that match, the best ranked stands for all. Raises
    InputError where two come from policies of one name, and where a ranking by reward comes without one.
    """
    seen: dict[str, str] = {}
    for source, (_, metrics) in evaluated.items():
        name = metrics.column("policy").to_pylist()[0]
        if name in seen:
            raise InputError(
                f"{seen[name]} and {source} both name the policy '{name}'; evaluate one again under another name."
            )
        seen[name] = source
    for table in also:
        for name in sorted(set(table.column("policy").to_pylist()) & set(seen)):
            raise InputError(
                f"the crystals that are candidates too name the policy '{name}', as {seen[name]} does; give each once."
            )
    tables = [*(crystals for crystals, _ in evaluated.values()), *also]
    potentials = [record_of(table).get("potential") for table in tables]
    if judged is not None:
        tables = [with_judged(table, judged) for table in tables]
    rewards = None
    if ranking is not None and ranking.by.removeprefix("-") == REWARD:
        if reward is None:
            raise InputError("crystals are ranked by reward, but no reward is given; give the run's configuration.")
        rewards = [float(x) for table in tables for x in rewards_at_rest(reward, table)]
    elif ranking is not None:
        _check_known(tables, ranking)
    ranked = candidates(tables, ranking, advance, rewards=rewards)
    metrics = pa.concat_tables([metrics.replace_schema_metadata(None) for _, metrics in evaluated.values()])
    record: dict[str, Any] = {"stage": "rank", "rule": (ranking or Ranking()).rule}
    if potentials and all(potential == potentials[0] for potential in potentials):
        record["potential"] = potentials[0]
    return with_record(ranked, record), metrics


def _check_known(tables: Sequence[pa.Table], ranking: Ranking) -> None:
    """Refuse to rank by, or to ask for, what no crystal has: the order would be another than was asked for.

    Where no probability is known, the rule says itself what goes in its place.
    """
    by = ranking.by.removeprefix("-")
    asked = [*([] if by == CHANCE else [by]), *(condition.figure for condition in ranking.where)]
    for name in dict.fromkeys(asked):
        if sum(table.num_rows for table in tables) and not any(len(t) - t.column(name).null_count for t in tables):
            raise InputError(
                f"no crystal has a value of '{name}'; evaluate with what computes it, or rank by something else."
            )
