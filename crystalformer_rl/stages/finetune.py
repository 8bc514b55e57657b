"""One round of fine-tuning: sample, score as sampled, update, several times over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from crystalformer_rl.finetune.finetune_settings import FinetuneSettings
from crystalformer_rl.finetune.loop import Update, run_round
from crystalformer_rl.finetune.record import rollouts_table, update_row, updates_table
from crystalformer_rl.finetune.rollout import Knows, Score
from crystalformer_rl.finetune.state import TrainState, first_state
from crystalformer_rl.hull.stability import STABLE_BELOW
from crystalformer_rl.policy.constraint_settings import ConstraintSettings
from crystalformer_rl.policy.transformer import Policy
from crystalformer_rl.scoring.wanted import accepts

STARTS = ("scoring.scorer", "scoring.figure_answers", "potential.worker")
"""Modules below the package that give the score, in part in a worker; nothing here imports them."""


class Round(NamedTuple):
    """state: what the next round goes on from; policy: the fine-tuned one; rollouts: every crystal sampled, with each part of its
    reward; updates: a row an update; last: the last of these rows.
    """

    state: TrainState
    policy: Policy
    rollouts: pa.Table
    updates: pa.Table
    last: dict[str, Any]


def finetune(
    base: Policy,
    settings: FinetuneSettings,
    score: Score,
    space_group_weights: Sequence[float],
    *,
    state: TrainState | None = None,
    policy: Policy | None = None,
    seed: int = 0,
    round_number: int = 1,
    constraints: ConstraintSettings | None = None,
    knows: Knows | None = None,
    stable_below: float = STABLE_BELOW,
    report: Callable[[dict[str, Any]], object] | None = None,
) -> Round:
    """`settings.updates` updates of a policy on the rewards that `score` gives, which `scoring.scorer.open_scoring` opens.

    base: the pretrained policy, from which the KL term counts in every round. state: where the round before ended; without
    one the round is the first, of `policy`, or of the base policy itself. space_group_weights: (230,). seed: the same in all
    rounds. constraints: what every crystal must be (its space groups say nothing here: they are in the weights). knows: which crystals are of a kind that the policy was trained on, such as `Scorer.knows`. stable_below: eV/atom above the hull, what imitation and the tables call stable. `report` is called with the
    UPDATES row of each update. A round run again from the same start gives the same tables and weights.
    """
    wanted = constraints or ConstraintSettings()
    behaviour, weights = wanted.request(settings.temperature).plan(list(space_group_weights), base.shape.n_max)
    start = state if state is not None else first_state(base if policy is None else policy, settings)

    def told(update: Update) -> None:
        if report is not None:
            report(update_row(update, round_number, stable_below))

    end, updates = run_round(
        start, base, settings, score, weights, seed, told,
        behaviour=behaviour, accepts=accepts(wanted), knows=knows, stable_below=stable_below,
    )  # fmt: skip
    return Round(
        end,
        end.result(settings),
        rollouts_table(updates, round_number, seed),
        updates_table(updates, round_number, stable_below),
        update_row(updates[-1], round_number, stable_below),
    )
