"""Objectives: log-probabilities and advantages of a batch in, a loss and a diagnostic out.

An objective is one class: the loss, where its KL term stands, and whether its advantages are normalized. The loss is a
plain function of the vector of whole-crystal log-probabilities; the loop turns its gradient with respect to that vector
into the gradient with respect to the weights. All divide by the number of crystals that count.
"""

from __future__ import annotations

import importlib
from enum import Enum
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from crystalformer_rl.finetune.objective_registry import NONE, registered


class RolloutBatch(NamedTuple):
    """What an objective may know of B sampled crystals.

    old_log_prob: with which they were sampled, masks and temperature included (nats); base_log_prob: that of the base
    policy under the same; advantage; reward: what the crystal is worth, the penalty on repeats included; space_group;
    stable: at most the stability threshold above the hull; repeats: earlier crystals of its kind.
    """

    old_log_prob: Float[Array, " b"]
    base_log_prob: Float[Array, " b"]
    advantage: Float[Array, " b"]
    reward: Float[Array, " b"]
    space_group: Int[Array, " b"]
    stable: Bool[Array, " b"]
    repeats: Int[Array, " b"]


class ObjectiveSettings(NamedTuple):
    """clip: of the probability ratio; tau: weight of the KL term, or β of DPO."""

    clip: float
    tau: float


class Loss(NamedTuple):
    """value: to minimize; clip_fraction: fraction of crystals that the clip kept from giving a gradient."""

    value: Float[Array, ""]
    clip_fraction: Float[Array, ""]


class KL(Enum):
    """Where the divergence from the base policy counts: in what a crystal is worth, in the loss, or nowhere."""

    IN_REWARD = "reward"
    IN_LOSS = "loss"
    NOWHERE = "nowhere"


class Objective(Protocol):
    """kl: placement of the KL term; normalizes: advantages are divided by their standard deviation in the batch."""

    kl: KL
    normalizes: bool

    def loss(self, log_prob: Float[Array, " b"], batch: RolloutBatch, settings: ObjectiveSettings) -> Loss:
        """The loss of the crystals at their present log-probabilities (nats); traced by JAX."""
        ...


def objective(name: str) -> Objective | None:
    """The objective of that name, one of `objective_registry.registered`; None for `none`, which learns nothing."""
    if name == NONE:
        return None
    module, _, maker = registered()[name].partition(":")
    found: Objective = getattr(importlib.import_module(module), maker)()
    return found


class PPO:
    """The clipped surrogate, −min(ρ A, clip(ρ, 1 ± clip) A), with ρ the ratio of whole-crystal probabilities.

    J. Schulman et al., arXiv 1707.06347, equation 7. The KL term is part of what a crystal is worth, as published in
    arXiv 2504.02367.
    """

    kl = KL.IN_REWARD
    normalizes = False

    def loss(self, log_prob: Float[Array, " b"], batch: RolloutBatch, settings: ObjectiveSettings) -> Loss:
        """See `Objective`."""
        ratio = jnp.exp(log_prob - batch.old_log_prob)
        plain = ratio * batch.advantage
        clipped = jnp.clip(ratio, 1 - settings.clip, 1 + settings.clip) * batch.advantage
        return Loss(-jnp.minimum(plain, clipped).mean(), (clipped < plain).mean())


class GRPO:
    """The clipped surrogate on normalized advantages, and τ times the k3 estimator of the KL divergence in the loss.

    Z. Shao et al., arXiv 2402.03300, equation 3; what the advantages count from is the baseline of the settings.
    """

    kl = KL.IN_LOSS
    normalizes = True

    def loss(self, log_prob: Float[Array, " b"], batch: RolloutBatch, settings: ObjectiveSettings) -> Loss:
        """See `Objective`."""
        surrogate = PPO().loss(log_prob, batch, settings)
        d = log_prob - batch.base_log_prob
        # Beyond e²⁰ the exponential goes on as its tangent: bounded, and still pulling back.
        growth = jnp.exp(jnp.minimum(-d, 20.0)) * (1 + jnp.maximum(-d - 20.0, 0.0))
        k3 = growth - 1 + d
        return Loss(surrogate.value + settings.tau * k3.mean(), surrogate.clip_fraction)


class RLOO:
    """The policy gradient with the ratio and no clip, −ρ A (A. Ahmadian et al., arXiv 2402.14740)."""

    kl = KL.IN_REWARD
    normalizes = False

    def loss(self, log_prob: Float[Array, " b"], batch: RolloutBatch, settings: ObjectiveSettings) -> Loss:
        """See `Objective`."""
        ratio = jnp.exp(log_prob - batch.old_log_prob)
        return Loss(-(ratio * batch.advantage).mean(), jnp.zeros(()))


class DPO:
    """−ln σ(β (h_i − h_j)), h = ln p − ln p_base, over all pairs of a step in one space group where i earned more than j.

    R. Rafailov et al., arXiv 2305.18290, equation 7, with β = τ.
    """

    kl = KL.IN_LOSS
    normalizes = False

    def loss(self, log_prob: Float[Array, " b"], batch: RolloutBatch, settings: ObjectiveSettings) -> Loss:
        """See `Objective`."""
        h = log_prob - batch.base_log_prob
        margin = settings.tau * (h[:, None] - h[None, :])
        better, same = (
            batch.reward[:, None] > batch.reward[None, :],
            batch.space_group[:, None] == batch.space_group[None, :],
        )
        preferred = better & same
        value = -jnp.where(preferred, jax.nn.log_sigmoid(margin), 0.0).sum() / jnp.maximum(preferred.sum(), 1)
        return Loss(value, jnp.zeros(()))


class SFT:
    """−ln p of the batch's own stable crystals: imitation of what turned out well.

    A crystal that n of its kind came before weighs 1/(1 + n). Else what is frequent is imitated most, comes more often
    still, and the policy ends with a few kinds.
    """

    kl = KL.NOWHERE
    normalizes = False

    def loss(self, log_prob: Float[Array, " b"], batch: RolloutBatch, settings: ObjectiveSettings) -> Loss:
        """See `Objective`."""
        weight = batch.stable / (1.0 + batch.repeats)
        imitated = (weight * jnp.where(batch.stable, log_prob, 0.0)).sum()
        return Loss(-imitated / jnp.maximum(weight.sum(), 1.0), jnp.zeros(()))
