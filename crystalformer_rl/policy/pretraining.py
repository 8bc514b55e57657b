"""Pretraining: maximum likelihood on tokens, with warm-up and decay, weight average and resume."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from crystalformer_rl.crystal.tokens import Sites
from crystalformer_rl.errors import InputError
from crystalformer_rl.policy.batch import TokenBatch
from crystalformer_rl.policy.checkpoint import fill_arrays, named_arrays, read_safetensors, write_safetensors
from crystalformer_rl.policy.dataset import Dataset, Variations, count_batches, dataset_digest, minibatches
from crystalformer_rl.policy.likelihood import log_prob
from crystalformer_rl.policy.pretrain_settings import TrainingSettings
from crystalformer_rl.policy.shape import PolicyShape
from crystalformer_rl.policy.transformer import Policy


class TrainingState(NamedTuple):
    """Everything that the next step depends on; `average` is the exponential moving average of the weights."""

    policy: Policy
    average: Policy
    optimizer: optax.OptState
    step: Int[Array, ""]


class EpochRecord(NamedTuple):
    """One row of the learning curve; negative log-likelihoods in nats a crystal."""

    epoch: int
    step: int
    training_nll: float
    held_out_nll: float
    seconds: float


Report = Callable[[EpochRecord], None]


def make_optimizer(settings: TrainingSettings, steps: int) -> optax.GradientTransformation:
    """AdamW with gradient clipping, linear warm-up and cosine decay to a hundredth."""
    warmup = min(settings.warmup_steps, max(1, steps // 10))
    rate = optax.warmup_cosine_decay_schedule(
        0.0, settings.learning_rate, warmup, max(steps, warmup + 1), settings.learning_rate / 100
    )
    decayed = partial(jax.tree.map, lambda leaf: leaf.ndim >= 2)
    return optax.chain(
        optax.clip_by_global_norm(settings.gradient_clip),
        optax.adamw(rate, weight_decay=settings.weight_decay, mask=decayed),
    )


def loss(
    policy: Policy, batch: TokenBatch, weight: Float[Array, " b"], dropout: float = 0.0, key: PRNGKeyArray | None = None
) -> Float[Array, ""]:
    """Sum over the batch's crystals of the negative log-likelihood, nats."""
    return -(log_prob(policy, batch, dropout=dropout, key=key).total * weight).sum()


def pretrain(
    dataset: Dataset,
    shape: PolicyShape,
    settings: TrainingSettings,
    *,
    checkpoint: Path | None = None,
    report: Report | None = None,
    advance: Callable[[float], Any] | None = None,
) -> tuple[Policy, list[EpochRecord]]:
    """Train a policy; returns the averaged weights with the best held-out likelihood, and the learning curve.

    With `checkpoint`, the whole state is written there after each epoch, and training goes on from it:
    the result is the same as without the interruption; one of another shape, other settings or other crystals raises InputError. `advance` receives the running loss after each step.
    """
    steps = settings.epochs * count_batches(dataset.training, settings.batch_size)
    optimizer = make_optimizer(settings, steps)
    key = jax.random.key(settings.seed or 0)
    policy = Policy.init(key, shape)
    state = TrainingState(policy, policy, optimizer.init(eqx.filter(policy, eqx.is_array)), jnp.zeros((), jnp.int32))
    best, curve = policy, list[EpochRecord]()
    made_by = {"shape": shape.to_dict(), "settings": settings.model_dump(), "data": dataset_digest(dataset)}
    if checkpoint is not None and checkpoint.exists():
        state, best, curve = _restore(checkpoint, state, made_by)
    train_step = make_train_step(optimizer, settings)
    evaluate = eqx.filter_jit(loss)
    variations = Variations(dataset.training) if settings.augmentation else None
    counted = len(dataset.training) if dataset.weights is None else float(dataset.weights.sum())
    started = time.monotonic() - (curve[-1].seconds if curve else 0.0)
    for epoch in range(len(curve), settings.epochs):
        total = 0.0
        crystals = dataset.training
        if variations is not None:
            crystals = variations.draw(settings.augmentation, ((settings.seed or 0), epoch, 1))
        for batch, weight in minibatches(crystals, settings.batch_size, ((settings.seed or 0), epoch), dataset.weights):
            state, value = train_step(state, batch, weight)
            total += float(value)
            if advance is not None:
                advance(float(value) / float(weight.sum()))
        nll = _mean_nll(evaluate, state.average, dataset.held_out, settings.batch_size)
        record = EpochRecord(epoch + 1, int(state.step), total / counted, nll, time.monotonic() - started)
        if not curve or nll <= min(r.held_out_nll for r in curve):
            best = state.average
        curve.append(record)
        if checkpoint is not None:
            write_safetensors(checkpoint, named_arrays((state, best)), made_by | {"curve": curve})
        if report is not None:
            report(record)
        if _should_stop(curve, settings):
            break
    return best, curve


def _should_stop(curve: list[EpochRecord], settings: TrainingSettings) -> bool:
    out_of_time = 0 < settings.minutes * 60 <= curve[-1].seconds * (1 + 1 / len(curve))
    best = min(range(len(curve)), key=lambda i: curve[i].held_out_nll)
    return out_of_time or len(curve) - 1 - best >= settings.patience


def make_train_step(
    optimizer: optax.GradientTransformation, settings: TrainingSettings
) -> Callable[[TrainingState, TokenBatch, Any], tuple[TrainingState, Array]]:
    """One compiled update a bucket length."""
    halved = settings.mixed_precision and jax.default_backend() != "cpu"

    @eqx.filter_jit
    def update(state: TrainingState, batch: TokenBatch, weight: Float[Array, " b"]) -> tuple[TrainingState, Array]:
        key = jax.random.fold_in(jax.random.key((settings.seed or 0) + 1), state.step)
        # Divided by the batch's constant size, so that every crystal counts alike whatever its bucket.
        value, gradient = eqx.filter_value_and_grad(
            lambda p: loss(p, batch, weight, settings.dropout, key) / settings.batch_size
        )(state.policy)
        updates, optimizer_state = optimizer.update(gradient, state.optimizer, eqx.filter(state.policy, eqx.is_array))
        policy = eqx.apply_updates(state.policy, updates)
        decay = jnp.minimum(settings.average_decay, (1.0 + state.step) / (10.0 + state.step))
        average = jax.tree.map(lambda a, p: decay * a + (1 - decay) * p, state.average, policy)
        return TrainingState(policy, average, optimizer_state, state.step + 1), value * settings.batch_size

    def step(state: TrainingState, batch: TokenBatch, weight: Any) -> tuple[TrainingState, Array]:
        with jax.default_matmul_precision("bfloat16" if halved else "float32"):
            return update(state, batch, jnp.asarray(weight))

    return step


def _mean_nll(evaluate: Callable[..., Array], policy: Policy, crystals: list[Sites], size: int) -> float:
    if not crystals:
        return float("nan")
    values = [float(evaluate(policy, batch, jnp.asarray(weight))) for batch, weight in minibatches(crystals, size, None)]
    return sum(values) / len(crystals)


def _restore(path: Path, blank: TrainingState, made_by: dict[str, Any]) -> tuple[TrainingState, Policy, list[EpochRecord]]:
    arrays, metadata = read_safetensors(path)
    names = {"shape": "another shape", "settings": "other settings", "data": "other crystals"}
    other = [name for key, name in names.items() if metadata.get(key) != made_by[key]]
    if other:
        raise InputError(
            f"{path} was made with {' and '.join(other)}; remove it to start afresh, or restore what it was made with."
        )
    state, best = fill_arrays((blank, blank.policy), arrays, str(path))
    return state, best, [EpochRecord(*row) for row in metadata["curve"]]
