"""What there is to retrieve: the best of the crystals that the policy was trained on, by a scorer that rewarded nobody."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from crystalformer_rl.comparison.selection import best_first
from crystalformer_rl.crystal.prototype import Kind, kind
from crystalformer_rl.errors import InputError

TOP = 0.05


def targets(scored: Sequence[Mapping[str, Any]], top: float = TOP, source: str = "the scored crystals") -> list[Kind]:
    """The kinds of the best share `top` of all rows that were scored, best first, each once.

    scored: rows of ROLLOUTS, such as of all pretraining entries of some space groups; those that failed count among all and are no
    targets. Raises InputError where the last that would be taken earns no more than the next: a reward that
    does not tell them apart has no best ones.
    """
    count = math.ceil(top * len(scored))
    order = best_first(scored)
    if not order:
        raise InputError(f"{source}: nothing was scored, so there is nothing to retrieve.")
    if count < len(order) and scored[order[count - 1]]["reward"] == scored[order[count]]["reward"]:
        raise InputError(
            f"{source}: the best {count} of {len(scored)} cannot be told from the next, since many earn {scored[order[count]]['reward']:.3g}; "
            "retrieval needs a reward of more values than whether a threshold is met."
        )
    rows = [scored[k] for k in order[:count]]
    return list(dict.fromkeys(kind(row["space_group"], row["wyckoff"], row["elements"]) for row in rows))
