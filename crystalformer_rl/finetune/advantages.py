"""From rewards to advantages: what a crystal is worth to the policy, and what that is compared with."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

N_GROUPS = 231
_PRIOR = 4.0
"""Crystals that the mean over all space groups counts for beside a group's own."""


class Baseline(NamedTuple):
    """Decayed sums of the values seen in each space group (index 0: of none in particular), and how many they are."""

    total: Float[np.ndarray, " 231"]
    seen: Float[np.ndarray, " 231"]

    @staticmethod
    def empty() -> Baseline:
        return Baseline(np.zeros(N_GROUPS), np.zeros(N_GROUPS))

    @staticmethod
    def of_all(mean: float) -> Baseline:
        """One mean, of no space group."""
        first = np.zeros(N_GROUPS)
        first[0] = 1.0
        return Baseline(mean * first, first)

    @property
    def mean(self) -> float:
        """Mean over all that was seen; 0 before anything was."""
        return float(self.total.sum() / max(self.seen.sum(), 1e-12))


def worth(
    reward: Float[np.ndarray, " b"],
    old_log_prob: Float[np.ndarray, " b"],
    base_log_prob: Float[np.ndarray, " b"],
    repeats: Int[np.ndarray, " b"],
    *,
    tau: float,
    entropy: float = 0.0,
    repeat_penalty: float = 0.0,
) -> Float[np.ndarray, " b"]:
    """The reward less τ (ln p − ln p_base), plus the entropy bonus, less the penalty on repeats.

    The mean of the first two is the reward less τ times the KL divergence; the policy that maximizes it is
    p_base exp(r/τ)/Z (arXiv 2504.02367). −ln p has the entropy as its mean. n repeats cost ln(1 + n) of
    the penalty: up to a constant −ln of a kind's share, so the mean rewards the entropy of the distribution over kinds.
    """
    value = reward - tau * (old_log_prob - base_log_prob) - entropy * old_log_prob
    return value - repeat_penalty * np.log1p(repeats)


def shuffled(
    reward: Float[np.ndarray, " b"], space_groups: Int[np.ndarray, " b"], random: np.random.Generator
) -> Float[np.ndarray, " b"]:
    """The rewards exchanged at random among the crystals of each space group, which keep nothing of which crystal earned what."""
    found = reward.copy()
    for group in np.unique(space_groups):
        rows = np.flatnonzero(space_groups == group)
        found[rows] = random.permutation(reward[rows])
    return found


def advantages(
    name: str, baseline: Baseline, values: Float[np.ndarray, " b"], space_groups: Int[np.ndarray, " b"], decay: float
) -> tuple[Float[np.ndarray, " b"], Baseline]:
    """Values less the baseline of that name, and the decayed sums with this batch taken in.

    A crystal never enters its own baseline, so that the gradient stays unbiased. `moving_average` and `leave_one_out` know one
    mean for all: that of batch means, the first as it is and then with the weight 1 − decay, as published; or that
    of this batch. `space_group` and
    `batch_space_group` one for each space group: it is given to the policy, not chosen by it, and explains half of the
    variance of a distance to the hull. Groups seen rarely lean on the mean over all groups.
    """
    batch = Baseline(np.bincount(space_groups, values, N_GROUPS), np.bincount(space_groups, np.ones_like(values), N_GROUPS))
    new = Baseline(decay * baseline.total + batch.total, decay * baseline.seen + batch.seen)
    sums = new if name == "space_group" else batch
    overall = (sums.total.sum() - values) / np.maximum(sums.seen.sum() - 1, 1e-12)
    if name == "moving_average":
        before = baseline.mean if baseline.seen.any() else None
        return values - _moved(before, overall, decay), Baseline.of_all(float(_moved(before, values.mean(), decay)))
    if name == "leave_one_out":
        return values - overall, new
    own_total = sums.total[space_groups] - values + _PRIOR * overall
    return values - own_total / (sums.seen[space_groups] - 1 + _PRIOR), new


def _moved(before: float | None, mean: Any, decay: float) -> Any:
    """The moving average with one more batch mean."""
    return mean if before is None else decay * before + (1 - decay) * mean
