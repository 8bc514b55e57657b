"""Objectives: log-probabilities and advantages of a batch in, a loss and a diagnostic out.

Each is a plain function of the vector of whole-crystal log-probabilities; the loop turns its gradient with respect to
that vector into the gradient with respect to the weights. All divide by the number of crystals that count.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


class Facts(NamedTuple):
    """What an objective may know of B crystals.

    old_log_prob: with which they were sampled, masks and temperature included (nats); base_log_prob: that of the base
    policy under the same; advantage; reward: before any KL term; space_group; stable: at most 0.1 eV/atom above
    the hull and not suspect; repeats: earlier crystals of its kind.
    """

    old_log_prob: Float[Array, " b"]
    base_log_prob: Float[Array, " b"]
    advantage: Float[Array, " b"]
    reward: Float[Array, " b"]
    space_group: Int[Array, " b"]
    stable: Bool[Array, " b"]
    repeats: Int[Array, " b"]


class Knobs(NamedTuple):
    """clip: of the probability ratio; tau: weight of the KL term, or β of DPO."""

    clip: float
    tau: float


class Loss(NamedTuple):
    """value: to minimize; held_back: fraction of crystals that the clip kept from giving a gradient."""

    value: Float[Array, ""]
    held_back: Float[Array, ""]


Objective = Callable[[Float[Array, " b"], Facts, Knobs], Loss]


def ppo(log_prob: Float[Array, " b"], facts: Facts, knobs: Knobs) -> Loss:
    """The clipped surrogate, −min(ρ A, clip(ρ, 1 ± clip) A), with ρ the ratio of whole-crystal probabilities.

    J. Schulman et al., arXiv 1707.06347, equation 7.
    """
    ratio = jnp.exp(log_prob - facts.old_log_prob)
    plain = ratio * facts.advantage
    clipped = jnp.clip(ratio, 1 - knobs.clip, 1 + knobs.clip) * facts.advantage
    return Loss(-jnp.minimum(plain, clipped).mean(), (clipped < plain).mean())


def grpo(log_prob: Float[Array, " b"], facts: Facts, knobs: Knobs) -> Loss:
    """The clipped surrogate and τ times the positive KL estimator in the loss (Z. Shao et al., arXiv 2402.03300, equation 3).

    The loop normalizes the advantages over the batch; what they count from is the baseline.
    """
    surrogate = ppo(log_prob, facts, knobs)
    d = log_prob - facts.base_log_prob
    # Beyond e²⁰ the exponential goes on as its tangent: bounded, and still pulling back.
    growth = jnp.exp(jnp.minimum(-d, 20.0)) * (1 + jnp.maximum(-d - 20.0, 0.0))
    positive = growth - 1 + d
    return Loss(surrogate.value + knobs.tau * positive.mean(), surrogate.held_back)


def rloo(log_prob: Float[Array, " b"], facts: Facts, knobs: Knobs) -> Loss:
    """The policy gradient with the ratio and no clip, −ρ A (A. Ahmadian et al., arXiv 2402.14740)."""
    ratio = jnp.exp(log_prob - facts.old_log_prob)
    return Loss(-(ratio * facts.advantage).mean(), jnp.zeros(()))


def dpo(log_prob: Float[Array, " b"], facts: Facts, knobs: Knobs) -> Loss:
    """−ln σ(β (h_i − h_j)), h = ln p − ln p_base, over all pairs of a step in one space group where i earned more than j.

    R. Rafailov et al., arXiv 2305.18290, equation 7, with β = τ.
    """
    h = log_prob - facts.base_log_prob
    margin = knobs.tau * (h[:, None] - h[None, :])
    preferred = (facts.reward[:, None] > facts.reward[None, :]) & (facts.space_group[:, None] == facts.space_group[None, :])
    value = -jnp.where(preferred, jax.nn.log_sigmoid(margin), 0.0).sum() / jnp.maximum(preferred.sum(), 1)
    return Loss(value, jnp.zeros(()))


def sft(log_prob: Float[Array, " b"], facts: Facts, knobs: Knobs) -> Loss:
    """−ln p of the batch's own stable crystals: imitation of what turned out well.

    A crystal that n of its kind came before weighs 1/(1 + n). Else what is frequent is imitated most, comes more often
    still, and the policy ends with a few kinds.
    """
    weight = facts.stable / (1.0 + facts.repeats)
    return Loss(-(weight * jnp.where(facts.stable, log_prob, 0.0)).sum() / jnp.maximum(weight.sum(), 1.0), jnp.zeros(()))


OBJECTIVES: dict[str, Objective] = {"ppo": ppo, "grpo": grpo, "rloo": rloo, "dpo": dpo, "sft": sft}

KL_IN_REWARD = frozenset({"ppo", "rloo"})
"""Objectives whose KL term is part of what a crystal is worth, as published; the others have their own or none."""
