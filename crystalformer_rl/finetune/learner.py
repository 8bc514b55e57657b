"""From an objective on log-probabilities to new weights: gradients in parts of equal length, steps of Adam."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float

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

_HOLD, _FARTHEST = 0.1, 3.0
"""Weight of holding coordinates and lattice where choices alone are learned, on half the square of how far they went, and the nats up to which the
pull grows."""
_LEAD = 1.0
"""Weight of their log-density after a step of relaxation, where they are led instead."""


class Learning(NamedTuple):
    """How the last pass of an update went: loss, fraction of crystals that the clip kept from giving a gradient, norm of the gradient (means over its steps)."""

    loss: float
    clip_fraction: float
    gradient_norm: float


class Lesson(NamedTuple):
    """What is learned from: N crystals, what the objective may know of them, and the base policy's log-density (N,) of their coordinates and lattices.

    fresh: how many, the last of them, are of the newest batch; those before are drawn from at random, one for each fresh one.
    scale: the spread that advantages were divided by, 1 if they were not. led: (N,) bool, see `Archive`; None where coordinates and lattices
    are held.
    """

    tokens: TokenBatch
    batch: RolloutBatch
    base_densities: Float[np.ndarray, " n"]
    fresh: int
    scale: float = 1.0
    led: Bool[np.ndarray, " n"] | None = None

    def steps(self, random: np.random.Generator, minibatches: int) -> Iterator[np.ndarray]:
        """The rows of each step of a pass over the fresh crystals."""
        size = len(self.batch.old_log_prob)
        older = size - self.fresh
        for rows in np.array_split(older + random.permutation(self.fresh), min(minibatches, self.fresh)):
            again = random.permutation(older)[: len(rows)] if older else rows[:0]
            yield np.sort(np.concatenate([rows, again]))


class Moving(NamedTuple):
    """The weights that move, Adam's moments, and the decayed average of the weights."""

    policy: Policy
    optimizer: optax.OptState
    average: Policy


class Learner:
    """Updates of the weights by `settings.algorithm`, on crystals sampled with `behaviour`."""

    def __init__(self, settings: FinetuneSettings, behaviour: Behaviour) -> None:
        self._settings, self._behaviour = settings, behaviour
        self._step = _make_step(settings)
        found = objective(settings.algorithm)
        self._slope = None if found is None else _make_slope(found)

    def update(self, state: TrainState, lesson: Lesson | None, seed: int) -> tuple[Moving, Learning]:
        """The weights after `inner_epochs` passes over the fresh crystals, each in `minibatches` steps; as they are where there is nothing to learn."""
        moving, settings = Moving(state.policy, state.optimizer, state.average), self._settings
        learning = Learning(0.0, 0.0, 0.0)
        if self._slope is None or lesson is None:
            return moving, learning
        random, length = np.random.default_rng([seed, state.updates]), step_size(settings, state.updates)
        for _ in range(settings.inner_epochs):
            steps = []
            for rows in lesson.steps(random, settings.minibatches):
                gradient, loss, clip_fraction = self._gradient(moving.policy, lesson, rows, state.tau)
                if len(state.best.value):
                    gradient = _sum([gradient, self._imitation(moving.policy, state.best, random)])
                moving, norm = self._step(moving, gradient, jnp.float32(length))
                if not np.isfinite(float(norm)):
                    raise InputError(
                        f"update {state.updates + 1}: the gradient is not finite, and would destroy the policy; lower "
                        "finetune.learning_rate, or scale the reward's weights to about 1."
                    )
                steps.append((loss, clip_fraction, float(norm)))
            learning = Learning(*(float(mean) for mean in np.mean(steps, axis=0)))
        return moving, learning

    def _gradient(self, policy: Policy, lesson: Lesson, rows: np.ndarray, tau: float) -> tuple[Policy, float, float]:
        """The objective's gradient over the crystals of `rows`, by way of its slope in each log-probability."""
        assert self._slope is not None
        tokens = jax.tree.map(lambda leaf: np.asarray(leaf)[rows], lesson.tokens)
        parts = parts_of(tokens, np.arange(len(rows)))
        current = log_probs(policy, parts, len(rows), self._behaviour)
        here = RolloutBatch(*(array[rows] for array in lesson.batch))
        learned = learned_part(current, self._settings)
        slope, value, clip_fraction = self._slope(
            jnp.asarray(learned, jnp.float32), here, self._settings.clip, tau / lesson.scale
        )
        slopes = np.repeat(np.asarray(slope)[:, None], 2, axis=1)
        if self._settings.learns == "choices":
            slopes[:, 1] = _of_densities(current[:, 2], lesson, rows) / len(rows)
        return self._backward(policy, tokens, slopes.astype(np.float32)), float(value), float(clip_fraction)

    def _imitation(self, policy: Policy, best: Best, random: np.random.Generator) -> Policy:
        """The gradient of −ln p, averaged over some of the best crystals so far."""
        count, total = max(1, self._settings.batch // (4 * self._settings.minibatches)), len(best.value)
        rows = np.sort(random.permutation(total)[:count])
        slopes = np.zeros((total, 2), np.float32)
        slopes[rows] = -self._settings.replay_weight / len(rows)
        return self._backward(policy, best.tokens, slopes)

    def _backward(self, policy: Policy, tokens: TokenBatch, slopes: np.ndarray) -> Policy:
        """Σ slope · ∇ ln p, (N, 2) slopes of choices and of densities. Crystals without one, clipped or not imitated, are often the most, and cost nothing."""
        rows = np.flatnonzero(slopes.any(1))
        parts = parts_of(tokens, rows if len(rows) else np.arange(1))
        return _sum(
            [
                _gradient_of_part(policy, p.tokens, jnp.asarray(slopes[p.rows]) * p.weight[:, None], self._behaviour)
                for p in parts
            ]
        )


def _of_densities(current: Float[np.ndarray, " n"], lesson: Lesson, rows: np.ndarray) -> Float[np.ndarray, " n"]:
    """The loss's slope in the log-density of each crystal's coordinates and lattice, where choices are what the objective acts on."""
    if lesson.led is not None:
        return np.where(lesson.led[rows], -_LEAD, 0.0)
    return _HOLD * np.clip(current - lesson.base_densities[rows], -_FARTHEST, _FARTHEST)


def learned_part(log_prob: Float[np.ndarray, "b 3"], settings: FinetuneSettings) -> Float[np.ndarray, " b"]:
    """Of log-probabilities of letters, elements and densities what the objective acts on."""
    found: np.ndarray = log_prob[:, :2].sum(1) if settings.learns == "choices" else log_prob.sum(1)
    return found


def _sum(gradients: Sequence[Policy]) -> Policy:
    return jax.tree.map(lambda *leaves: sum(leaves[1:], leaves[0]), *gradients)


@eqx.filter_jit
def _gradient_of_part(policy: Policy, tokens: TokenBatch, slopes: Array, behaviour: Behaviour) -> Policy:
    def pulled(policy: Policy) -> Array:
        found = log_prob(policy, tokens, behaviour)
        return (found.choices * slopes[:, 0] + found.densities * slopes[:, 1]).sum()

    return eqx.filter_grad(pulled)(policy)


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


def _make_step(settings: FinetuneSettings) -> Callable[..., tuple[Moving, Float[Array, ""]]]:
    optimizer, decay = make_optimizer(settings), settings.average

    @eqx.filter_jit
    def step(moving: Moving, gradient: Policy, length: Float[Array, ""]) -> tuple[Moving, Float[Array, ""]]:
        gradient = moved(gradient, settings.trainable)
        directions, state = optimizer.update(gradient, moving.optimizer, eqx.filter(moving.policy, eqx.is_array))
        policy = eqx.apply_updates(moving.policy, optax.tree.scale(-length, moved(directions, settings.trainable)))
        average = jax.tree.map(lambda old, new: decay * old + (1 - decay) * new, moving.average, policy)
        return Moving(policy, state, average), optax.tree.norm(gradient)

    return step
