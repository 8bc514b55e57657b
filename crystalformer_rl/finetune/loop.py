"""The algorithm: sample → score → what each crystal is worth → steps of Adam, over and over.

A round is a number of updates in one process. It starts from a `TrainState` and ends in one; run
again from the same start it gives the same bytes. While the worker scores a batch, an objective that replays learns already, from
what was scored before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from crystalformer_rl.finetune.advantages import N_GROUPS, Baseline, advantages, shuffled, worth
from crystalformer_rl.finetune.archive import Archive, entries
from crystalformer_rl.finetune.balance import targets
from crystalformer_rl.finetune.critic import expected_worth
from crystalformer_rl.finetune.divergence import Divergence, adapted_tau, divergence
from crystalformer_rl.finetune.finetune_settings import FinetuneSettings
from crystalformer_rl.finetune.learner import Learner, Learning, Lesson, Moving, learned_part
from crystalformer_rl.finetune.memory import best_of, remembered, repeats
from crystalformer_rl.finetune.objectives import KL, Objective, RolloutBatch, objective
from crystalformer_rl.finetune.rollout import Knows, Rollout, Score, Scores, log_probs, parts_of, roll_out
from crystalformer_rl.finetune.scored import stable
from crystalformer_rl.finetune.state import TrainState, learning_spread
from crystalformer_rl.hull.stability import STABLE_BELOW
from crystalformer_rl.policy.accepted import Accepts
from crystalformer_rl.policy.constraints import Behaviour
from crystalformer_rl.policy.transformer import Policy
from crystalformer_rl.tables.status import OK

_PLACEBO = 1
"""Tells the random numbers that shuffle rewards from those that order the steps."""
_UNSCORED = 1_000_000_000
"""Number of the first crystal that is drawn without being scored: those that are scored count from 0 without gaps."""


class Drawn(NamedTuple):
    """What was drawn for an update: B crystals to be scored, then those that are not; log-probabilities of letters, elements and densities (nats) of all.

    entries: all of them as the archive's rows, for an objective that replays.
    """

    rollout: Rollout
    log_prob: Float[np.ndarray, "n 3"]
    base_log_prob: Float[np.ndarray, "n 3"]
    entries: Archive | None


class Update(NamedTuple):
    """All about one update of B crystals: how they were sampled and scored, and how the optimization went.

    log_prob, base_log_prob: (B, 3) of letters, elements and densities, as learned from; value: (B,) the reward with KL term, entropy bonus and penalty on repeats; repeats: (B,) earlier crystals of its kind;
    divergence: of what is learned; tau: the weight of the KL term in this update; start: which crystals of the first update were stable.
    """

    number: int
    first_crystal: int
    rollout: Rollout
    scores: Scores
    log_prob: Float[np.ndarray, "b 3"]
    base_log_prob: Float[np.ndarray, "b 3"]
    repeats: Int[np.ndarray, " b"]
    value: Float[np.ndarray, " b"]
    advantage: Float[np.ndarray, " b"]
    divergence: Divergence
    tau: float
    baseline: Baseline
    learning: Learning
    start: Baseline


def run_round(
    state: TrainState,
    base: Policy,
    settings: FinetuneSettings,
    score: Score,
    space_group_weights: Sequence[float],
    seed: int,
    report: Callable[[Update], Any] | None = None,
    *,
    behaviour: Behaviour | None = None,
    accepts: Accepts | None = None,
    knows: Knows | None = None,
    stable_below: float = STABLE_BELOW,
) -> tuple[TrainState, list[Update]]:
    """`settings.updates` updates of the policy in `state` on the rewards that `score` gives.

    base: the pretrained policy, from which the KL term counts in every round; space_group_weights: (230,); behaviour: masks and temperature of the run, part of every log-probability, and accepts: what its crystals must meet besides, by default all; knows: which crystals
    are of a kind that the policy was trained on, by default none;
    stable_below: eV/atom above the hull, what imitation calls stable.
    """
    behaviour = behaviour or Behaviour.make(settings.temperature)
    learner, goal = Learner(settings, behaviour), objective(settings.algorithm)
    base = base.at_density_temperature(learning_spread(settings))
    updates = []
    with ThreadPoolExecutor(1) as beside:
        for _ in range(settings.updates):
            drawn = draw(state, base, settings, space_group_weights, seed, behaviour, accepts, knows)
            chosen = drawn.rollout.first(settings.batch)
            scoring = beside.submit(score, chosen.sites, chosen.status)
            if drawn.entries is not None:
                moving, learning = learner.update(state, _balance(state, drawn.entries, settings), seed)
                update = judged(state, drawn, scoring.result(), settings, seed, stable_below)
            else:
                update = judged(state, drawn, scoring.result(), settings, seed, stable_below)
                moving, learning = learner.update(state, _lesson(update, goal, stable_below, settings), seed)
            update = update._replace(learning=learning)
            archive = None if drawn.entries is None else _remembered(state, update, drawn.entries, base, settings, behaviour)
            state = _next_state(state, update, archive, moving, settings)
            updates.append(update)
            if report is not None:
                report(update)
    return state, updates


def draw(
    state: TrainState,
    base: Policy,
    settings: FinetuneSettings,
    space_group_weights: Sequence[float],
    seed: int,
    behaviour: Behaviour,
    accepts: Accepts | None = None,
    knows: Knows | None = None,
) -> Drawn:
    """The next crystals with their log-probabilities; nothing is scored yet."""
    replays = getattr(objective(settings.algorithm), "replays", False)
    more = settings.unscored if replays else 0
    beside = _UNSCORED + state.updates * settings.unscored
    numbers = [*range(state.crystals, state.crystals + settings.batch), *range(beside, beside + more)]
    drawing = state.policy.at_density_temperature(settings.density_temperature)
    rollout = roll_out(drawing, seed, numbers, space_group_weights, behaviour, accepts)
    parts = parts_of(rollout.samples.tokens, np.arange(len(numbers)))
    now, before = (log_probs(policy, parts, len(numbers), behaviour) for policy in (state.policy, base))
    if not replays:
        return Drawn(rollout, now, before, None)
    known = np.zeros((len(numbers), 2), bool) if knows is None else knows(rollout.sites)
    return Drawn(rollout, now, before, entries(base, rollout, parts, learned_part(now - before, settings), before, known))


def judged(
    state: TrainState,
    drawn: Drawn,
    scores: Scores,
    settings: FinetuneSettings,
    seed: int,
    stable_below: float,
) -> Update:
    """The scored crystals with values and advantages; nothing is learned from them yet."""
    size = settings.batch
    rollout = drawn.rollout.first(size)
    log_prob, base_log_prob = drawn.log_prob[:size], drawn.base_log_prob[:size]
    old, base = learned_part(log_prob, settings), learned_part(base_log_prob, settings)
    again = repeats(state.seen, rollout.kinds)
    goal = objective(settings.algorithm)
    tau = state.tau if goal is not None and goal.kl is KL.IN_REWARD else 0.0
    groups, reward = np.asarray(rollout.samples.tokens.g), scores.reward
    if settings.placebo:
        reward = shuffled(reward, groups, np.random.default_rng([seed, state.updates, _PLACEBO]))
    value = worth(reward, old, base, again, tau=tau, entropy=settings.entropy, repeat_penalty=settings.repeats)
    advantage, baseline = advantages(settings.baseline, state.baseline, value, groups, settings.baseline_decay)
    good = stable(scores, stable_below)
    return Update(
        number=state.updates + 1,
        first_crystal=state.crystals,
        rollout=rollout,
        scores=scores,
        log_prob=log_prob,
        base_log_prob=base_log_prob,
        repeats=again,
        value=value,
        advantage=advantage,
        divergence=divergence(old, base),
        tau=state.tau,
        baseline=baseline,
        learning=Learning(0.0, 0.0, 0.0),
        start=state.start if state.updates else _by_group(good, groups),
    )


def _by_group(good: np.ndarray, groups: np.ndarray) -> Baseline:
    return Baseline(np.bincount(groups, good, N_GROUPS), np.bincount(groups, minlength=N_GROUPS).astype(float))


def _lesson(update: Update, goal: Objective | None, stable_below: float, settings: FinetuneSettings) -> Lesson:
    """The batch as an on-policy objective sees it. Repeats count against a crystal in preferences too."""
    advantage, scale = update.advantage, 1.0
    if goal is not None and goal.normalizes:
        spread = float(advantage.std())
        advantage = advantage - advantage.mean()
        # With equal crystals there is nothing to learn but to stay near the base policy.
        advantage, scale = (advantage / spread, spread) if spread > 1e-6 else (np.zeros_like(advantage), 1.0)
    return Lesson(
        update.rollout.samples.tokens,
        RolloutBatch.of(
            old_log_prob=learned_part(update.log_prob, settings).astype(np.float32),
            base_log_prob=learned_part(update.base_log_prob, settings).astype(np.float32),
            advantage=advantage.astype(np.float32),
            reward=update.value.astype(np.float32),
            space_group=np.asarray(update.rollout.samples.tokens.g),
            stable=stable(update.scores, stable_below),
            repeats=update.repeats,
        ),
        update.base_log_prob[:, 2],
        len(update.value),
        scale,
    )


def _balance(state: TrainState, fresh: Archive, settings: FinetuneSettings) -> Lesson | None:
    """The archive and the crystals just drawn, each with the log-ratio that it should have by what the critic expects of it.

    None before enough was scored: the goal is then the policy as it is.
    """
    archive = state.archive.joined(fresh)
    expected = expected_worth(archive.state, archive.known, archive.worth)
    if expected is None:
        return None
    base = learned_part(archive.base, settings)
    aim = targets(archive, expected, state.tau, settings.keep, len(fresh.worth))
    unknown = np.zeros(len(base), np.float32)
    batch = RolloutBatch.of(
        old_log_prob=base + archive.drift,
        base_log_prob=base,
        advantage=aim.astype(np.float32),
        reward=expected.astype(np.float32),
        space_group=archive.group,
        stable=unknown > 0,
        repeats=unknown.astype(np.int32),
    )
    # A score that says nothing of where crystals come to rest leaves coordinates and lattices held.
    led = archive.led if settings.leads and archive.led.any() else None
    return Lesson(archive.tokens, batch, archive.base[:, 2], len(fresh.worth), led=led)


def _remembered(
    state: TrainState, update: Update, drawn: Archive, base: Policy, settings: FinetuneSettings, behaviour: Behaviour
) -> Archive:
    """The archive with the crystals drawn for an update, those with their worth that were scored."""
    worth = drawn.worth.copy()
    worth[: settings.batch] = update.value
    drawn = drawn._replace(worth=worth)
    if settings.leads:
        drawn = drawn.led_to(update.scores.ahead, base, behaviour)
    return state.archive.joined(drawn).last(settings.archive)


def _next_state(
    state: TrainState, update: Update, archive: Archive | None, moving: Moving, settings: FinetuneSettings
) -> TrainState:
    """The state after an update."""
    tokens, kinds = update.rollout.samples.tokens, update.rollout.kinds
    best = state.best
    if settings.replay:
        ok = np.array([status == OK for status in update.scores.status], bool)
        best = best_of(best, tokens, update.scores.reward, kinds, ok, settings.replay)
    return state._replace(
        **moving._asdict(),
        baseline=update.baseline,
        updates=state.updates + 1,
        crystals=state.crystals + settings.batch,
        tau=adapted_tau(state.tau, update.divergence.plain, settings.kl_target, settings.tau / 100),
        seen=remembered(state.seen, kinds, settings.repeats_memory),
        best=best,
        archive=state.archive if archive is None else archive,
        start=update.start,
    )
