"""Log-probabilities of any number of crystals, in batches of equal length."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import equinox as eqx
import numpy as np

from crystalformer_rl.crystal.tokens import Sites
from crystalformer_rl.policy.batch import make_batch
from crystalformer_rl.policy.dataset import BUCKETS
from crystalformer_rl.policy.likelihood import log_prob
from crystalformer_rl.policy.transformer import Policy
from crystalformer_rl.tables.status import OK, Status

_PARTS = ("log_prob_w", "log_prob_xyz", "log_prob_a", "log_prob_l", "log_prob")


def log_probs_of(
    policy: Policy,
    crystals: Sequence[Sites | None],
    *,
    batch_size: int = 128,
    advance: Callable[[int], object] | None = None,
) -> tuple[dict[str, list[float | None]], list[str]]:
    """The columns of `tables.LOG_PROBS` (nats) and a status for each crystal; None where there is none."""
    columns: dict[str, list[float | None]] = {name: [None] * len(crystals) for name in _PARTS}
    statuses: list[str] = [OK if s is not None else Status.UPSTREAM_FAILED for s in crystals]
    limit = policy.shape.n_max - 1
    for i, sites in enumerate(crystals):
        if sites is not None and len(sites) > limit:
            statuses[i] = Status.TOO_MANY_SITES
    evaluate = eqx.filter_jit(log_prob)
    bounds = [b for b in BUCKETS if b < limit] + [limit]
    bucket = np.array([np.searchsorted(bounds, len(s)) if s is not None else -1 for s in crystals])
    for number, longest in enumerate(bounds):
        members = [int(i) for i in np.flatnonzero(bucket == number) if statuses[i] == Status.OK]
        for start in range(0, len(members), batch_size):
            chosen = members[start : start + batch_size]
            filled = chosen + [chosen[0]] * (batch_size - len(chosen))
            rows: list[Sites] = [s for s in (crystals[i] for i in filled) if s is not None]
            parts = evaluate(policy, make_batch(rows, longest + 1))
            for name, values in zip(_PARTS, (*parts, parts.total), strict=True):
                for i, value in zip(chosen, np.asarray(values, float), strict=False):
                    columns[name][i] = float(value)
            if advance is not None:
                advance(len(chosen))
    return columns, statuses
