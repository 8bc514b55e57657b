"""The algorithm: sample → score → advantage → several epochs of updates, over and over.

A round is a number of updates in one process. It starts from a `TrainState` and ends in one; run
again from the same start it gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from crystalformer_rl.crystal.elements import atomic_number
from crystalformer_rl.finetune.advantages import Baseline, advantages, normalized, worth
from crystalformer_rl.finetune.divergence import Divergence, adapted_tau, divergence
from crystalformer_rl.finetune.finetune_settings import FinetuneSettings
from crystalformer_rl.finetune.learner import Learner, Learning
from crystalformer_rl.finetune.memory import best_of, remembered, repeats
from crystalformer_rl.finetune.objectives import KL, RolloutBatch, objective
from crystalformer_rl.finetune.rollout import Rollout, Score, Scores, log_probs, parts_of, roll_out
from crystalformer_rl.finetune.state import TrainState
from crystalformer_rl.hull.stability import STABLE_BELOW, is_stable
from crystalformer_rl.policy.constraints import Behaviour, allowed_elements
from crystalformer_rl.policy.transformer import Policy
from crystalformer_rl.tables.status import OK


class Update(NamedTuple):
    """All about one update of B crystals: how they were sampled and scored, and how the optimization went.

    value: (B,) the reward with KL term, entropy bonus and penalty on repeats; repeats: (B,) earlier crystals of its kind;
    tau: the weight of the KL term in this update.
    """

    number: int
    first_crystal: int
    rollout: Rollout
    scores: Scores
    base_log_prob: Float[np.ndarray, " b"]
    repeats: Int[np.ndarray, " b"]
    value: Float[np.ndarray, " b"]
    advantage: Float[np.ndarray, " b"]
    divergence: Divergence
    tau: float
    baseline: Baseline
    learning: Learning


def run_round(
    state: TrainState,
    base: Policy,
    settings: FinetuneSettings,
    score: Score,
    space_group_weights: Sequence[float],
    seed: int,
    report: Callable[[Update], Any] | None = None,
    *,
    stable_below: float = STABLE_BELOW,
) -> tuple[TrainState, list[Update]]:
    """`settings.updates` updates of the policy in `state` on the rewards that `score` gives.

    base: the pretrained policy, from which the KL term counts in every round; space_group_weights: (230,);
    stable_below: eV/atom above the hull, what imitation calls stable.
    """
    behaviour = run_behaviour(settings)
    learner = Learner(settings, behaviour)
    updates = []
    for _ in range(settings.updates):
        update = collect(state, base, settings, score, space_group_weights, seed, behaviour)
        policy, optimizer, learning = learner.update(
            state, _batch(update, stable_below), update.rollout.samples.tokens, seed
        )
        update = update._replace(learning=learning)
        state = _next_state(state, update, settings)._replace(policy=policy, optimizer=optimizer)
        updates.append(update)
        if report is not None:
            report(update)
    return state, updates


def run_behaviour(settings: FinetuneSettings) -> Behaviour:
    """How crystals are drawn: part of every log-probability of the run."""
    only = {atomic_number(symbol) for symbol in settings.elements} or None
    return Behaviour.make(settings.temperature, allowed=allowed_elements(only))


def collect(
    state: TrainState,
    base: Policy,
    settings: FinetuneSettings,
    score: Score,
    space_group_weights: Sequence[float],
    seed: int,
    behaviour: Behaviour,
) -> Update:
    """The next batch with its scores, values and advantages; nothing is learned yet."""
    size = settings.batch
    rollout = roll_out(state.policy, seed, range(state.crystals, state.crystals + size), space_group_weights, behaviour)
    scores = score(rollout.sites, rollout.status)
    old_log_prob = np.asarray(rollout.samples.behaviour_log_prob, float)
    base_log_prob = log_probs(base, parts_of(rollout.samples.tokens, np.arange(size)), size, behaviour)
    again = repeats(state.seen, rollout.kinds)
    goal = objective(settings.algorithm)
    tau = state.tau if goal is not None and goal.kl is KL.IN_REWARD else 0.0
    value = worth(
        scores.reward, old_log_prob, base_log_prob, again,
        tau=tau, entropy=settings.entropy, repeat_penalty=settings.repeats,
    )  # fmt: skip
    groups = np.asarray(rollout.samples.tokens.g)
    advantage, baseline = advantages(settings.baseline, state.baseline, value, groups, settings.baseline_decay)
    if goal is not None and goal.normalizes:
        advantage = normalized(advantage)
    return Update(
        number=state.updates + 1,
        first_crystal=state.crystals,
        rollout=rollout,
        scores=scores,
        base_log_prob=base_log_prob,
        repeats=again,
        value=value,
        advantage=advantage,
        divergence=divergence(old_log_prob, base_log_prob),
        tau=state.tau,
        baseline=baseline,
        learning=Learning(0.0, 0.0, 0.0),
    )


def stable(scores: Scores, threshold: float) -> np.ndarray:
    """(B,) bool: at most `threshold` (eV/atom) above the hull as sampled."""
    ok = np.array([status == OK for status in scores.status], bool)
    return ok & is_stable(scores.figures["e_above_hull"], threshold)


def _batch(update: Update, stable_below: float) -> RolloutBatch:
    """What the objective sees. Repeats count against a crystal in preferences too."""
    return RolloutBatch(
        old_log_prob=jnp.asarray(update.rollout.samples.behaviour_log_prob),
        base_log_prob=jnp.asarray(update.base_log_prob, jnp.float32),
        advantage=jnp.asarray(update.advantage, jnp.float32),
        reward=jnp.asarray(update.value, jnp.float32),
        space_group=jnp.asarray(update.rollout.samples.tokens.g),
        stable=jnp.asarray(stable(update.scores, stable_below)),
        repeats=jnp.asarray(update.repeats),
    )


def _next_state(state: TrainState, update: Update, settings: FinetuneSettings) -> TrainState:
    """All of the state but policy and optimizer."""
    tokens, kinds = update.rollout.samples.tokens, update.rollout.kinds
    best = state.best
    if settings.replay:
        ok = np.array([status == OK for status in update.scores.status], bool)
        best = best_of(best, tokens, update.scores.reward, kinds, ok, settings.replay)
    return state._replace(
        baseline=update.baseline,
        updates=state.updates + 1,
        crystals=state.crystals + settings.batch,
        tau=adapted_tau(state.tau, update.divergence.plain, settings.kl_target, settings.tau / 100),
        seen=remembered(state.seen, kinds, settings.repeats_memory),
        best=best,
    )
