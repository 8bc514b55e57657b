"""How far the policy has gone from the base policy: estimators of the KL divergence, and a weight that follows it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from crystalformer_rl.finetune.advantages import Baseline

_PRIOR = 4.0


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


def needed(start: Baseline, share: float) -> float:
    """The least KL divergence, nats, that lifts the stable share of the base policy to `share` with every space group as frequent as before.

    That of the policy p_base exp(c · stable)/Z: in each group the odds grow by the same factor e^c. start: stable crystals of the base
    policy's by space group; groups with few lean on the mean over all. 0 where nothing is known, or nothing gained.
    """
    seen, total = start.seen, start.total
    if not 0 < total.sum() < seen.sum():
        return 0.0
    weights, here = seen / seen.sum(), (total + _PRIOR * start.mean) / (seen + _PRIOR)
    wanted = float(np.clip(share, start.mean, 1 - 1e-6))
    low, high = 0.0, 30.0
    for _ in range(60):  # the share grows with c, so halving finds it
        c = (low + high) / 2
        there = here * np.exp(c) / (1 - here + here * np.exp(c))
        low, high = (c, high) if weights @ there < wanted else (low, c)
    return float(weights @ (there * np.log(there / here) + (1 - there) * np.log((1 - there) / (1 - here))))


def adapted_tau(tau: float, kl: float, target: float | None, least: float) -> float:
    """τ for the next update: up to 1.2 times where the divergence is above its target, down to 1/1.2 below it, not under `least`.

    The proportional controller of D. M. Ziegler et al., arXiv 1909.08593, with a faster gain: a run here has a hundred
    updates, not ten thousand.
    """
    if target is None:
        return tau
    return max(float(tau * np.clip(kl / target, 1 / 1.2, 1.2)), least)
