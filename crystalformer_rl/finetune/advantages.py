"""From rewards to advantages: the KL term and the baseline."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float


def regularized_reward(
    reward: Float[np.ndarray, " b"],
    old_log_prob: Float[np.ndarray, " b"],
    base_log_prob: Float[np.ndarray, " b"],
    tau: float,
) -> Float[np.ndarray, " b"]:
    """The reward less the KL term, r − τ (ln p − ln p_base): its mean is the reward less τ times the KL divergence from the base policy.

    The policy that maximizes it is p_base exp(r/τ)/Z (arXiv 2504.02367).
    """
    return reward - tau * (old_log_prob - base_log_prob)


def moving_average(baseline: float | None, values: Float[np.ndarray, " b"], decay: float) -> float:
    """The baseline after a batch: the batch's mean at first, then an exponential average of the means."""
    mean = float(np.mean(values))
    return mean if baseline is None else decay * baseline + (1 - decay) * mean
