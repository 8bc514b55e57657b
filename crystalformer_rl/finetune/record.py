"""What a round leaves in tables: every crystal it sampled with each part of its reward, and one row an update."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from crystalformer_rl.crystal.coverage import (
    anonymous_formula,
    chemistry_counts,
    effective_elements,
    effective_number,
)
from crystalformer_rl.crystal.prototype import template
from crystalformer_rl.crystal.tokens import Sites
from crystalformer_rl.crystal.wyckoff import wyckoff_table
from crystalformer_rl.finetune.divergence import needed
from crystalformer_rl.finetune.loop import Update, stable
from crystalformer_rl.policy.sample_table import sites_columns
from crystalformer_rl.tables.column import FLOAT, Column, make_table, table_of_rows
from crystalformer_rl.tables.crystal_columns import STATUS
from crystalformer_rl.tables.figure_columns import FIGURES
from crystalformer_rl.tables.rollout_columns import ALWAYS, ROLLOUTS, UPDATES
from crystalformer_rl.tables.status import Status

_FIGURES = {column.name: column for column in FIGURES}


def update_row(update: Update, round_number: int, stable_below: float) -> dict[str, Any]:
    """The row of `UPDATES`."""
    scores, kinds = update.scores, update.rollout.kinds
    size, good = len(kinds), stable(scores, stable_below)
    first = np.zeros(size, bool)
    first[np.unique(kinds, return_index=True)[1]] = True
    first &= kinds != 0
    kl, parts = update.divergence, (update.log_prob - update.base_log_prob).mean(0)
    row = {
        "round": round_number,
        "update": update.number,
        "reward_mean": float(scores.reward.mean()),
        "reward_std": float(scores.reward.std()),
        "stable_fraction": float(good.mean()),
        "sun_fraction": float((good & first & ~scores.known).mean()),
        "kl": kl.plain,
        "kl_standard_error": kl.plain_error,
        "kl_k3": kl.k3,
        "kl_k3_standard_error": kl.k3_error,
        "kl_needed": needed(update.start, float(good.mean())),
        "kl_letters": float(parts[0]),
        "kl_elements": float(parts[1]),
        "tau": update.tau,
        "entropy": float(-update.rollout.samples.behaviour_log_prob.astype(float).mean()),
        "unique_fraction": float(first.mean()),
        "known_fraction": float(scores.known.mean()),
        "failed_fraction": float(np.mean([status != Status.OK for status in scores.status])),
        "evaluations": scores.evaluations,
        "baseline": update.baseline.mean,
        "loss": update.learning.loss,
        "clip_fraction": update.learning.clip_fraction,
        "gradient_norm": update.learning.gradient_norm,
    }
    return row | coverage(update.rollout.sites) | {name: _mean(values) for name, values in update.scores.terms.items()}


def coverage(sites: Sequence[Sites | None]) -> dict[str, float]:
    """Effective numbers of kinds among the batch's crystals, and the share of each chemistry among them; 0 of none."""
    found, multiplicities = [s for s in sites if s is not None], wyckoff_table().multiplicities
    elements = [s.elements.tolist() for s in found]
    atoms = (np.repeat(s.elements, multiplicities[s.space_group, s.wyckoff]).tolist() for s in found)
    return {
        "effective_templates": effective_number(template(s.space_group, s.wyckoff.tolist()) for s in found),
        "effective_formulas": effective_number(map(anonymous_formula, atoms)),
        "effective_elements": effective_elements(elements),
        **{f"{name}_fraction": count / max(1, len(found)) for name, count in chemistry_counts(elements).items()},
    }


def _mean(values: np.ndarray) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else None


def updates_table(updates: Sequence[Update], round_number: int, stable_below: float) -> pa.Table:
    """One row an update."""
    rows = [update_row(update, round_number, stable_below) for update in updates]
    terms = [
        Column(name, FLOAT, "", "mean of this term of the reward over the crystals that have it")
        for name in updates[0].scores.terms
    ]
    return table_of_rows((*UPDATES, *terms), rows)


def rollouts_table(updates: Sequence[Update], round_number: int, seed: int) -> pa.Table:
    """One row a sampled crystal, in the order of sampling."""
    return pa.concat_tables([_rollout_table(update, round_number, seed) for update in updates])


def _rollout_table(update: Update, round_number: int, seed: int) -> pa.Table:
    scores, samples, sites = update.scores, update.rollout.samples, update.rollout.sites
    size = len(sites)
    columns = {
        "id": [f"f{seed}-{update.first_crystal + i}" for i in range(size)],
        **sites_columns(sites),
        "log_prob": samples.log_prob.astype(float),
        "behaviour_log_prob": samples.behaviour_log_prob.astype(float),
        "round": np.full(size, round_number),
        "update": np.full(size, update.number),
        "base_log_prob": update.base_log_prob.sum(1),
        "known": [None if s is None else bool(k) for s, k in zip(sites, scores.known, strict=True)],
        "repeats": update.repeats,
        "reward": scores.reward,
        "value": update.value,
        "advantage": update.advantage,
        "status": scores.status,
    }
    columns |= {name: _or_null(values) for name, values in (scores.figures | scores.terms).items()}
    return make_table(_with_parts(update), columns)


def _with_parts(update: Update) -> tuple[Column, ...]:
    """`ROLLOUTS` and, before the status, the figures that the reward asked for and its terms."""
    figures = [_FIGURES[name] for name in update.scores.figures if name not in ALWAYS]
    terms = [Column(name, FLOAT, "", "share of the reward, weight and transforms included") for name in update.scores.terms]
    return (*ROLLOUTS[:-1], *figures, *terms, STATUS)


def _or_null(values: np.ndarray) -> list[float | None]:
    return [float(v) if np.isfinite(v) else None for v in values]
