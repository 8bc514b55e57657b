"""Objectives: log-probabilities and advantages of a batch in, a loss and a diagnostic out.

An objective is one class: the loss, where its KL term stands, and whether its advantages are normalized. The loss is a
plain function of the vector of whole-crystal log-probabilities; the loop turns its gradient with respect to that vector
into the gradient with respect to the weights. All divide by the number of crystals that count.
"""

from __future__ import annotations

import importlib
from enum import Enum
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from crystalformer_rl.finetune.objective_registry import NONE, registered


class RolloutBatch(NamedTuple):
    """What an objective may know of B sampled crystals.

    old_log_prob: with which they were sampled, masks and temperature included (nats), of what is learned (`FinetuneSettings.learns`); base_log_prob:
    that of the base policy under the same; advantage, for an objective that replays the log-ratio aimed at (`balance.targets`); reward: what the
    crystal is worth, the penalty on repeats included; space_group; stable: at most the stability threshold above the hull;
    repeats: earlier crystals of its kind.
    """

    old_log_prob: Float[Array, " b"]
    base_log_prob: Float[Array, " b"]
    advantage: Float[Array, " b"]
    reward: Float[Array, " b"]
    space_group: Int[Array, " b"]
    stable: Bool[Array, " b"]
    repeats: Int[Array, " b"]

    @staticmethod
    def of(**facts: Any) -> RolloutBatch:
        """Arrays of NumPy, of which a step takes its rows."""
        arrays: Any = {name: np.asarray(values) for name, values in facts.items()}
        return RolloutBatch(**arrays)


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
    """kl: placement of the KL term; normalizes: advantages are divided by their standard deviation in the batch, and so is
    the τ that the loss is given. One that also has `replays = True` learns from every crystal drawn lately, scored or not.
    """

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
    """Preferences h_i − h_j, h = ln p − ln p_base, over all pairs of a step in one space group: cross-entropy with σ((r_i − r_j)/τ).

    R. Rafailov et al., arXiv 2305.18290, with the preferences that the Bradley–Terry model (their equation 1) has for the reward in
    units of τ, instead of sampled ones: the optimum is p_base exp(r/τ)/Z, so τ means what it means elsewhere.
    """

    kl = KL.IN_LOSS
    normalizes = False

    def loss(self, log_prob: Float[Array, " b"], batch: RolloutBatch, settings: ObjectiveSettings) -> Loss:
        """See `Objective`."""
        h = log_prob - batch.base_log_prob
        margin = h[:, None] - h[None, :]
        gain = batch.reward[:, None] - batch.reward[None, :]
        counts = (gain > 0) & (batch.space_group[:, None] == batch.space_group[None, :])
        preferred = jax.nn.sigmoid(gain / settings.tau)
        each = preferred * jax.nn.log_sigmoid(margin) + (1 - preferred) * jax.nn.log_sigmoid(-margin)
        value = -jnp.where(counts, each, 0.0).sum() / jnp.maximum(counts.sum(), 1)
        return Loss(value, jnp.zeros(()))


class TrajectoryBalance:
    """½ (ln p − ln p_base − target)², linear beyond 5 nats, the batch's mean taken out: regression on `balance.targets`.

    Relative trajectory balance (arXiv 2405.20971, equation 8) with its ln Z known. It holds for crystals from wherever, so all of them are
    used again, and its gradient is small once the target is reached, where a policy gradient goes on along its noise.
    """

    kl = KL.NOWHERE
    normalizes = False
    replays = True

    def loss(self, log_prob: Float[Array, " b"], batch: RolloutBatch, settings: ObjectiveSettings) -> Loss:
        """See `Objective`."""
        residual = log_prob - batch.base_log_prob - batch.advantage
        residual = residual - jax.lax.stop_gradient(residual.mean())
        size = jnp.abs(residual)
        each = jnp.where(size < 5.0, 0.5 * jnp.square(residual), 5.0 * size - 12.5)
        return Loss(each.mean(), (size >= 5.0).mean())


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
