"""The algorithm: sample → score → advantage → several epochs of updates, over and over.

A round is a number of updates in one process. It starts from a `TrainState` and ends in one; run
again from the same start it gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from crystalformer_rl.config import FinetuneConfig
from crystalformer_rl.finetune.advantages import advantages, regularized_reward
from crystalformer_rl.finetune.objectives import OBJECTIVES
from crystalformer_rl.finetune.rollout import Part, Rollout, Score, Scores, log_probs, roll_out
from crystalformer_rl.finetune.state import TrainState, make_optimizer
from crystalformer_rl.finetune.trainable import moved
from crystalformer_rl.policy.constraints import Behaviour
from crystalformer_rl.policy.likelihood import log_prob
from crystalformer_rl.policy.transformer import Policy


class Update(NamedTuple):
    """All about one update: the batch, its scores and log-probabilities (B,), and how the optimization went."""

    number: int
    first_crystal: int
    rollout: Rollout
    scores: Scores
    base_log_prob: Float[np.ndarray, " b"]
    advantage: Float[np.ndarray, " b"]
    baseline: float
    clip_fraction: float
    gradient_norm: float


def run_round(
    state: TrainState,
    base: Policy,
    settings: FinetuneConfig,
    score: Score,
    space_group_weights: Sequence[float],
    seed: int,
    report: Callable[[Update], Any] | None = None,
) -> tuple[TrainState, list[Update]]:
    """`settings.updates` updates of the policy in `state` on the rewards that `score` gives.

    base: the pretrained policy, from which the KL term counts in every round; space_group_weights: (230,).
    """
    behaviour = Behaviour.make()
    optimize = make_epoch(settings)
    updates = []
    for _ in range(settings.updates):
        numbers = range(state.crystals, state.crystals + settings.batch)
        rollout = roll_out(state.policy, seed, numbers, space_group_weights, behaviour)
        scores = score(rollout.sites, rollout.status)

        old_log_prob = np.asarray(rollout.samples.behaviour_log_prob, float)
        base_log_prob = log_probs(base, rollout.parts, settings.batch)
        value = regularized_reward(scores.reward, old_log_prob, base_log_prob, settings.tau)
        groups = np.asarray(rollout.samples.tokens.g)
        advantage, baseline = advantages(state.baseline, value, groups, settings.baseline_decay)

        policy, optimizer = state.policy, state.optimizer
        clipped, norm = jnp.zeros(()), jnp.zeros(())
        for _ in range(settings.inner_epochs):
            policy, optimizer, clipped, norm = optimize(policy, optimizer, rollout.parts, old_log_prob, advantage, behaviour)
        update = Update(
            state.updates + 1,
            state.crystals,
            rollout,
            scores,
            base_log_prob,
            advantage,
            baseline.mean,
            float(clipped),
            float(norm),
        )
        state = TrainState(policy, optimizer, baseline, state.updates + 1, state.crystals + settings.batch)
        updates.append(update)
        if report is not None:
            report(update)
    return state, updates


def make_epoch(settings: FinetuneConfig) -> Callable[..., tuple[Policy, optax.OptState, Array, Array]]:
    """One pass over a batch: the gradient of all its parts together, one step of Adam."""
    objective, optimizer = OBJECTIVES[settings.algorithm], make_optimizer(settings.learning_rate)

    @eqx.filter_jit
    def gradient_of_part(
        policy: Policy, part: Part, old: Array, advantage: Array, behaviour: Behaviour
    ) -> tuple[Policy, Float[Array, ""]]:
        def loss(policy: Policy) -> tuple[Array, Array]:
            result = objective(log_prob(policy, part.tokens, behaviour).total, old, advantage, settings.clip)
            return (result.value * part.weight).sum() / settings.batch, (result.clipped * part.weight).sum() / settings.batch

        return eqx.filter_grad(loss, has_aux=True)(policy)

    @eqx.filter_jit
    def step(policy: Policy, state: optax.OptState, gradient: Policy) -> tuple[Policy, optax.OptState, Float[Array, ""]]:
        gradient = moved(gradient, settings.trainable)
        updates, state = optimizer.update(gradient, state)
        return eqx.apply_updates(policy, updates), state, optax.global_norm(gradient)

    def epoch(
        policy: Policy,
        state: optax.OptState,
        parts: Sequence[Part],
        old: np.ndarray,
        advantage: np.ndarray,
        behaviour: Behaviour,
    ) -> tuple[Policy, optax.OptState, Array, Array]:
        gradients, clipped = [], jnp.zeros(())
        for part in parts:
            lanes = np.resize(part.rows, part.weight.shape)
            old_here, advantage_here = (jnp.asarray(array[lanes], jnp.float32) for array in (old, advantage))
            gradient, clipped_here = gradient_of_part(policy, part, old_here, advantage_here, behaviour)
            gradients.append(gradient)
            clipped = clipped + clipped_here
        policy, state, norm = step(policy, state, jax.tree.map(lambda *leaves: sum(leaves), *gradients))
        return policy, state, clipped, norm

    return epoch
