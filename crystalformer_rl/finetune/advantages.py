"""From rewards to advantages: the KL term, and a baseline for each space group."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

N_GROUPS = 231
_PRIOR = 4.0
"""Crystals that the mean over all space groups counts for beside a group's own."""


class Baseline(NamedTuple):
    """Decayed sums of the values seen in each space group (index 0 is unused), and how many they are."""

    total: Float[np.ndarray, " 231"]
    seen: Float[np.ndarray, " 231"]

    @staticmethod
    def empty() -> Baseline:
        return Baseline(np.zeros(N_GROUPS), np.zeros(N_GROUPS))

    @property
    def mean(self) -> float:
        """Mean over all that was seen; 0 before anything was."""
        return float(self.total.sum() / max(self.seen.sum(), 1e-12))


def regularized_reward(
    reward: Float[np.ndarray, " b"],
    old_log_prob: Float[np.ndarray, " b"],
    base_log_prob: Float[np.ndarray, " b"],
    tau: float,
) -> Float[np.ndarray, " b"]:
    """The reward less the KL term, r − τ (ln p − ln p_base): its mean is the reward less τ times the KL divergence.

    The policy that maximizes it is p_base exp(r/τ)/Z (arXiv 2504.02367).
    """
    return reward - tau * (old_log_prob - base_log_prob)


def advantages(
    baseline: Baseline, values: Float[np.ndarray, " b"], space_groups: Int[np.ndarray, " b"], decay: float
) -> tuple[Float[np.ndarray, " b"], Baseline]:
    """Values less the mean of all others of the same space group, and the baseline with this batch taken in.

    The space group is given to the policy, not chosen by it, and explains half of the variance of a distance to
    the hull; what the policy can be credited with is the rest. A crystal never enters its own baseline, so that
    the gradient stays unbiased. Groups seen rarely lean on the mean over all groups.
    """
    ones = np.ones_like(values)
    new = Baseline(
        decay * baseline.total + np.bincount(space_groups, values, N_GROUPS),
        decay * baseline.seen + np.bincount(space_groups, ones, N_GROUPS),
    )
    others_total, others_count = new.total.sum() - values, new.seen.sum() - 1
    overall = others_total / np.maximum(others_count, 1e-12)
    own_total = new.total[space_groups] - values + _PRIOR * overall
    return values - own_total / (new.seen[space_groups] - 1 + _PRIOR), new
