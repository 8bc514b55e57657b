"""What a round leaves in tables: every crystal it sampled with each part of its reward, and one row an update."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from crystalformer_rl.crystal.structure import crystal_columns
from crystalformer_rl.crystal.tokens import decode, token_columns
from crystalformer_rl.finetune.loop import Update, stable
from crystalformer_rl.tables.column import Column, make_table
from crystalformer_rl.tables.crystal_columns import SAMPLES, STATUS
from crystalformer_rl.tables.figure_columns import FIGURES

_f, _i = pa.float64(), pa.int64()

_FIGURES = {column.name: column for column in FIGURES}
_ALWAYS = ("energy", "formation_energy", "e_above_hull")

ROLLOUTS = (
    *(column for column in SAMPLES if column.name != "status"),
    Column("round", _i, "", "round of fine-tuning"),
    Column("update", _i, "", "update within the whole run, from 1"),
    Column("base_log_prob", _f, "nat", "log-probability under the base policy with the masks and temperature of this run"),
    *(_FIGURES[name] for name in _ALWAYS),
    Column("suspect", pa.bool_(), "", "too far below the hull to be believed"),
    Column("known", pa.bool_(), "", "the pretraining set has a crystal of this formula, space group and Wyckoff letters"),
    Column(
        "repeats",
        _i,
        "",
        "earlier crystals of this formula, space group and Wyckoff letters: in the batch, and among the last "
        "`repeats_memory` before it",
    ),
    Column("reward", _f, "", "reward in its own unit, failures at their penalty"),
    Column("value", _f, "", "reward less the KL term (ppo, rloo) and the penalty on repeats, with the entropy bonus"),
    Column("advantage", _f, "", "value less the baseline; of grpo in units of its standard deviation in the batch"),
    STATUS,
)
"""Columns of every table of rollouts; those of the reward's own figures and terms come besides."""

UPDATES = (
    Column("round", _i, "", "round of fine-tuning"),
    Column("update", _i, "", "update within the whole run, from 1"),
    Column("reward_mean", _f, "", "mean reward of the batch"),
    Column("reward_std", _f, "", "standard deviation of the rewards"),
    Column(
        "stable_fraction", _f, "", "crystals at most 0.1 eV/atom above the hull, unrelaxed, suspects aside, of all sampled"
    ),
    Column("sun_fraction", _f, "", "such crystals, the first of their kind in the batch and not known, of all sampled"),
    Column("kl", _f, "nat", "KL divergence from the base policy, mean of ln p − ln p_base over the batch"),
    Column("kl_standard_error", _f, "nat", "standard error of that mean"),
    Column("kl_positive", _f, "nat", "the same divergence by the estimator p_base/p − 1 + ln p − ln p_base"),
    Column("kl_positive_standard_error", _f, "nat", "standard error of that mean"),
    Column("tau", _f, "", "weight of the KL term, in units of the reward a nat"),
    Column("entropy", _f, "nat", "mean of −ln p over the batch"),
    Column("unique_fraction", _f, "", "different sets of composition, space group and Wyckoff letters, of all sampled"),
    Column("known_fraction", _f, "", "crystals of a kind that the pretraining set has, of all sampled"),
    Column("failed_fraction", _f, "", "crystals that earned the penalty, of all sampled"),
    Column("evaluations", _i, "", "evaluations of the potential"),
    Column("baseline", _f, "", "mean of the baseline after the update, over all space groups"),
    Column("loss", _f, "", "the objective in the last pass"),
    Column("clip_fraction", _f, "", "crystals that the clip held back in the last pass"),
    Column("gradient_norm", _f, "", "norm of the gradient in the last pass, before clipping"),
)


def update_row(update: Update, round_number: int) -> dict[str, Any]:
    """The row of `UPDATES`."""
    scores, kinds = update.scores, update.rollout.kinds
    size, good = len(kinds), stable(scores)
    first = np.zeros(size, bool)
    first[np.unique(kinds, return_index=True)[1]] = True
    first &= kinds != 0
    kl = update.divergence
    return {
        "round": round_number,
        "update": update.number,
        "reward_mean": float(scores.reward.mean()),
        "reward_std": float(scores.reward.std()),
        "stable_fraction": float(good.mean()),
        "sun_fraction": float((good & first & ~scores.known).mean()),
        "kl": kl.plain,
        "kl_standard_error": kl.plain_error,
        "kl_positive": kl.positive,
        "kl_positive_standard_error": kl.positive_error,
        "tau": update.tau,
        "entropy": float(-update.rollout.samples.behaviour_log_prob.astype(float).mean()),
        "unique_fraction": float(first.mean()),
        "known_fraction": float(scores.known.mean()),
        "failed_fraction": float(np.mean([status != "ok" for status in scores.status])),
        "evaluations": scores.evaluations,
        "baseline": update.baseline.mean,
        "loss": update.learning.loss,
        "clip_fraction": update.learning.held_back,
        "gradient_norm": update.learning.gradient_norm,
    }


def updates_table(updates: Sequence[Update], round_number: int) -> pa.Table:
    """One row an update."""
    rows = [update_row(update, round_number) for update in updates]
    return make_table(UPDATES, {column.name: [row[column.name] for row in rows] for column in UPDATES})


def rollouts_table(updates: Sequence[Update], round_number: int, seed: int) -> pa.Table:
    """One row a sampled crystal, in the order of sampling."""
    return pa.concat_tables([_rollout_table(update, round_number, seed) for update in updates])


def _rollout_table(update: Update, round_number: int, seed: int) -> pa.Table:
    scores, samples, sites = update.scores, update.rollout.samples, update.rollout.sites
    size = len(sites)
    columns = {
        "id": [f"f{seed}-{update.first_crystal + i}" for i in range(size)],
        **crystal_columns([None if s is None else decode(s) for s in sites]),
        **token_columns(sites, coords_name="site_frac_coords"),
        "log_prob": samples.log_prob.astype(float),
        "behaviour_log_prob": samples.behaviour_log_prob.astype(float),
        "round": np.full(size, round_number),
        "update": np.full(size, update.number),
        "base_log_prob": update.base_log_prob,
        "suspect": [bool(s) if status == "ok" else None for s, status in zip(scores.suspect, scores.status, strict=True)],
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
    figures = [_FIGURES[name] for name in update.scores.figures if name not in _ALWAYS]
    terms = [Column(name, _f, "", "share of the reward, weight and transforms included") for name in update.scores.terms]
    return (*ROLLOUTS[:-1], *figures, *terms, STATUS)


def _or_null(values: np.ndarray) -> list[float | None]:
    return [float(v) if np.isfinite(v) else None for v in values]
