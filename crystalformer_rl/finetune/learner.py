"""From an objective on log-probabilities to new weights: gradients in parts of equal length, steps of Adam."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from crystalformer_rl.errors import InputError
from crystalformer_rl.finetune.finetune_settings import FinetuneSettings
from crystalformer_rl.finetune.memory import Best
from crystalformer_rl.finetune.objectives import Objective, ObjectiveSettings, RolloutBatch, objective
from crystalformer_rl.finetune.rollout import log_probs, parts_of
from crystalformer_rl.finetune.state import TrainState, make_optimizer, step_size
from crystalformer_rl.finetune.trainable import moved
from crystalformer_rl.policy.batch import TokenBatch
from crystalformer_rl.policy.constraints import Behaviour
from crystalformer_rl.policy.likelihood import log_prob
from crystalformer_rl.policy.transformer import Policy


class Learning(NamedTuple):
    """How the last pass of an update went: loss, fraction of crystals that the clip kept from giving a gradient, norm of the gradient (means over its steps)."""

    loss: float
    clip_fraction: float
    gradient_norm: float


class Learner:
    """Updates of the weights by `settings.algorithm`, on crystals sampled with `behaviour`."""

    def __init__(self, settings: FinetuneSettings, behaviour: Behaviour) -> None:
        self._settings, self._behaviour = settings, behaviour
        self._step = _make_step(settings)
        found = objective(settings.algorithm)
        self._slope = None if found is None else _make_slope(found)

    def update(
        self, state: TrainState, batch: RolloutBatch, tokens: TokenBatch, seed: int
    ) -> tuple[Policy, optax.OptState, Learning]:
        """Policy and optimizer after `inner_epochs` passes over the batch, each in `minibatches` steps."""
        policy, optimizer, settings = state.policy, state.optimizer, self._settings
        learning = Learning(0.0, 0.0, 0.0)
        if self._slope is None:
            return policy, optimizer, learning
        size = len(batch.old_log_prob)
        random, length = np.random.default_rng([seed, state.updates]), step_size(settings, state.updates)
        for _ in range(settings.inner_epochs):
            steps = []
            for rows in np.array_split(random.permutation(size), min(settings.minibatches, size)):
                gradient, loss, clip_fraction = self._gradient(policy, batch, tokens, np.sort(rows), state.tau)
                if len(state.best.value):
                    gradient = _sum([gradient, self._imitation(policy, state.best, random)])
                policy, optimizer, norm = self._step(policy, optimizer, gradient, jnp.float32(length))
                if not np.isfinite(float(norm)):
                    raise InputError(
                        f"update {state.updates + 1}: the gradient is not finite, and would destroy the policy; lower "
                        "finetune.learning_rate, or scale the reward's weights to about 1."
                    )
                steps.append((loss, clip_fraction, float(norm)))
            learning = Learning(*(float(mean) for mean in np.mean(steps, axis=0)))
        return policy, optimizer, learning

    def _gradient(
        self, policy: Policy, batch: RolloutBatch, tokens: TokenBatch, rows: np.ndarray, tau: float
    ) -> tuple[Policy, float, float]:
        """The objective's gradient over the crystals of `rows`, by way of its slope in each log-probability."""
        assert self._slope is not None
        parts, size = parts_of(tokens, rows), len(batch.old_log_prob)
        current = log_probs(policy, parts, size, self._behaviour)
        here = RolloutBatch(*(array[rows] for array in batch))
        slope, value, clip_fraction = self._slope(jnp.asarray(current[rows], jnp.float32), here, self._settings.clip, tau)
        slopes = np.zeros(size, np.float32)
        slopes[rows] = np.asarray(slope)
        return self._backward(policy, tokens, slopes), float(value), float(clip_fraction)

    def _imitation(self, policy: Policy, best: Best, random: np.random.Generator) -> Policy:
        """The gradient of −ln p, averaged over some of the best crystals so far."""
        count, total = max(1, self._settings.batch // (4 * self._settings.minibatches)), len(best.value)
        rows = np.sort(random.permutation(total)[:count])
        slopes = np.zeros(total, np.float32)
        slopes[rows] = -self._settings.replay_weight / len(rows)
        return self._backward(policy, best.tokens, slopes)

    def _backward(self, policy: Policy, tokens: TokenBatch, slopes: np.ndarray) -> Policy:
        """Σ slope · ∇ ln p. Crystals without a slope, clipped or not imitated, are often the most, and cost nothing."""
        rows = np.flatnonzero(slopes)
        parts = parts_of(tokens, rows if len(rows) else np.arange(1))
        return _sum(
            [_gradient_of_part(policy, p.tokens, jnp.asarray(slopes[p.rows]) * p.weight, self._behaviour) for p in parts]
        )


def _sum(gradients: Sequence[Policy]) -> Policy:
    return jax.tree.map(lambda *leaves: sum(leaves[1:], leaves[0]), *gradients)


@eqx.filter_jit
def _gradient_of_part(policy: Policy, tokens: TokenBatch, slopes: Array, behaviour: Behaviour) -> Policy:
    return eqx.filter_grad(lambda p: (log_prob(p, tokens, behaviour).total * slopes).sum())(policy)


def _make_slope(objective: Objective) -> Callable[..., tuple[Array, Array, Array]]:
    """(B,) slope of the objective in each log-probability, its value, and the fraction that the clip held back."""

    @jax.jit
    def slope(current: Array, batch: RolloutBatch, clip: float, tau: float) -> tuple[Array, Array, Array]:
        def loss(current: Array) -> tuple[Array, Array]:
            result = objective.loss(current, batch, ObjectiveSettings(clip, tau))
            return result.value, result.clip_fraction

        (value, clip_fraction), gradient = jax.value_and_grad(loss, has_aux=True)(current)
        return gradient, value, clip_fraction

    return slope


def _make_step(settings: FinetuneSettings) -> Callable[..., tuple[Policy, optax.OptState, Float[Array, ""]]]:
    optimizer = make_optimizer(settings)

    @eqx.filter_jit
    def step(
        policy: Policy, state: optax.OptState, gradient: Policy, length: Float[Array, ""]
    ) -> tuple[Policy, optax.OptState, Float[Array, ""]]:
        gradient = moved(gradient, settings.trainable)
        directions, state = optimizer.update(gradient, state, eqx.filter(policy, eqx.is_array))
        updates = optax.tree.scale(-length, moved(directions, settings.trainable))
        return eqx.apply_updates(policy, updates), state, optax.tree.norm(gradient)

    return step
