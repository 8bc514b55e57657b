"""Rank the crystals of several policies and set their metrics side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pyarrow as pa

from crystalformer_rl.discovery.candidates import candidates
from crystalformer_rl.discovery.ranking import Ranking
from crystalformer_rl.errors import InputError
from crystalformer_rl.tables.provenance import with_record


def rank(
    evaluated: Mapping[str, tuple[pa.Table, pa.Table]],
    ranking: Ranking | None = None,
    *,
    advance: Callable[[int], object] | None = None,
) -> tuple[pa.Table, pa.Table]:
    """The CANDIDATES table, best first, and the METRICS of all policies.

    evaluated: EVALUATED and METRICS tables of each policy by the name of where they come from, the base policy first. ranking:
    their order. Of crystals that match, the best ranked stands for all. Raises InputError where two
    come from policies of one name.
    """
    seen: dict[str, str] = {}
    for source, (_, metrics) in evaluated.items():
        name = metrics.column("policy").to_pylist()[0]
        if name in seen:
            raise InputError(
                f"{seen[name]} and {source} both name the policy '{name}'; evaluate one again under another name."
            )
        seen[name] = source
    ranked = candidates([crystals for crystals, _ in evaluated.values()], ranking, advance)
    metrics = pa.concat_tables([metrics.replace_schema_metadata(None) for _, metrics in evaluated.values()])
    return with_record(ranked, {"stage": "rank", "rule": (ranking or Ranking()).rule}), metrics
