"""What a round leaves in tables: every crystal it sampled with each part of its reward, and one row an update."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from crystalformer_rl.finetune.divergence import needed
from crystalformer_rl.finetune.loop import Update
from crystalformer_rl.finetune.scored import columns_with_parts, scored_columns, scored_row, term_means
from crystalformer_rl.tables.column import make_table, table_of_rows
from crystalformer_rl.tables.rollout_columns import UPDATES


def update_row(update: Update, round_number: int, stable_below: float) -> dict[str, Any]:
    """The row of `UPDATES`."""
    row = scored_row(update.rollout.sites, update.rollout.kinds, update.scores, stable_below)
    kl, parts = update.divergence, (update.log_prob - update.base_log_prob).mean(0)
    return row | {
        "round": round_number,
        "update": update.number,
        "kl": kl.plain,
        "kl_standard_error": kl.plain_error,
        "kl_k3": kl.k3,
        "kl_k3_standard_error": kl.k3_error,
        "kl_needed": needed(update.start, row["stable_fraction"]),
        "kl_letters": float(parts[0]),
        "kl_elements": float(parts[1]),
        "tau": update.tau,
        "entropy": float(-update.rollout.samples.behaviour_log_prob.astype(float).mean()),
        "baseline": update.baseline.mean,
        "loss": update.learning.loss,
        "clip_fraction": update.learning.clip_fraction,
        "gradient_norm": update.learning.gradient_norm,
    }


def updates_table(updates: Sequence[Update], round_number: int, stable_below: float) -> pa.Table:
    """One row an update."""
    rows = [update_row(update, round_number, stable_below) for update in updates]
    return table_of_rows((*UPDATES, *term_means(updates[0].scores.terms)), rows)


def rollouts_table(updates: Sequence[Update], round_number: int, seed: int) -> pa.Table:
    """One row a sampled crystal, in the order of sampling."""
    return pa.concat_tables([_rollout_table(update, round_number, seed) for update in updates])


def _rollout_table(update: Update, round_number: int, seed: int) -> pa.Table:
    samples, size = update.rollout.samples, len(update.rollout.sites)
    columns = {
        "id": [f"f{seed}-{update.first_crystal + i}" for i in range(size)],
        **scored_columns(update.rollout.sites, update.scores),
        "log_prob": samples.log_prob.astype(float),
        "behaviour_log_prob": samples.behaviour_log_prob.astype(float),
        "round": np.full(size, round_number),
        "update": np.full(size, update.number),
        "base_log_prob": update.base_log_prob.sum(1),
        "repeats": update.repeats,
        "value": update.value,
        "advantage": update.advantage,
    }
    return make_table(columns_with_parts(update.scores), columns)
