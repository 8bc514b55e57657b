"""How far the policy has gone from the base policy: estimators of the KL divergence, and a weight that follows it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float


class Divergence(NamedTuple):
    """KL divergence from the base policy, nats, by two unbiased estimators, each with the standard error of its mean.

    plain: the mean of d = ln p − ln p_base over crystals drawn from p. k3: the low-variance estimator, the mean of exp(−d) − 1 + d, never
    negative and of less variance while the policies are near (J. Schulman, "Approximating KL divergence", 2020);
    far apart, exp(−d) makes rare large terms, and the plain one is the better.
    """

    plain: float
    plain_error: float
    k3: float
    k3_error: float


def divergence(log_prob: Float[np.ndarray, " b"], base_log_prob: Float[np.ndarray, " b"]) -> Divergence:
    """Estimates from log-probabilities (nats) of at least two crystals that the policy sampled."""
    d = log_prob - base_log_prob
    # A crystal that the base policy likes e⁵⁰ times more is a fault, not a sample; the bound keeps the table finite.
    k3 = np.exp(np.minimum(-d, 50.0)) - 1 + d
    root = np.sqrt(len(d))
    return Divergence(float(d.mean()), float(d.std(ddof=1) / root), float(k3.mean()), float(k3.std(ddof=1) / root))


def adapted_tau(tau: float, kl: float, target: float | None, least: float) -> float:
    """τ for the next update: up to 1.2 times where the divergence is above its target, down to 1/1.2 below it, not under `least`.

    The proportional controller of D. M. Ziegler et al., arXiv 1909.08593, with a faster gain: a run here has a hundred
    updates, not ten thousand.
    """
    if target is None:
        return tau
    return max(float(tau * np.clip(kl / target, 1 / 1.2, 1.2)), least)
