"""What a round leaves in tables: every crystal it sampled with its reward, and one row an update."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from crystalformer_rl.artifacts import SAMPLES, STATUS, Column, make_table
from crystalformer_rl.crystal.structure import crystal_columns
from crystalformer_rl.crystal.tokens import decode, token_columns
from crystalformer_rl.finetune.loop import Update

STABLE_BELOW = 0.1
"""eV/atom above the hull; what the live figures call stable."""

_f, _i = pa.float64(), pa.int64()

ROLLOUTS = (
    *(column for column in SAMPLES if column.name != "status"),
    Column("round", _i, "", "round of fine-tuning"),
    Column("update", _i, "", "update within the whole run, from 1"),
    Column("base_log_prob", _f, "nat", "log-probability under the base policy"),
    Column("energy", _f, "eV/atom", "total energy of the potential, unrelaxed"),
    Column("formation_energy", _f, "eV/atom", "formation energy, unrelaxed"),
    Column("e_above_hull", _f, "eV/atom", "energy above hull, unrelaxed"),
    Column("suspect", pa.bool_(), "", "too far below the hull to be believed"),
    Column("reward", _f, "eV/atom", "reward, failures at their penalty"),
    Column("advantage", _f, "eV/atom", "reward less the KL term and the baseline"),
    STATUS,
)

UPDATES = (
    Column("round", _i, "", "round of fine-tuning"),
    Column("update", _i, "", "update within the whole run, from 1"),
    Column("reward_mean", _f, "eV/atom", "mean reward of the batch"),
    Column("reward_std", _f, "eV/atom", "standard deviation of the rewards"),
    Column("stable_fraction", _f, "", "crystals at most 0.1 eV/atom above the hull, unrelaxed, of all sampled"),
    Column("kl", _f, "nat", "KL divergence from the base policy, mean of ln p − ln p_base over the batch"),
    Column("kl_standard_error", _f, "nat", "standard error of that mean"),
    Column("entropy", _f, "nat", "mean of −ln p over the batch"),
    Column("unique_fraction", _f, "", "different sets of space group, Wyckoff letters and elements, of all sampled"),
    Column("failed_fraction", _f, "", "crystals that earned the penalty, of all sampled"),
    Column("evaluations", _i, "", "evaluations of the potential"),
    Column("baseline", _f, "eV/atom", "moving average of the regularized reward after the update, over all space groups"),
    Column("clip_fraction", _f, "", "crystals that the clip held back in the last epoch"),
    Column("gradient_norm", _f, "", "norm of the gradient in the last epoch, before clipping"),
)


def update_row(update: Update, round_number: int) -> dict[str, Any]:
    """The row of `UPDATES`."""
    scores, old = update.scores, update.rollout.samples.behaviour_log_prob.astype(float)
    log_ratio = old - update.base_log_prob
    size = len(old)
    prints = {s.fingerprint() for s in update.rollout.sites if s is not None}
    ok = np.array([status == "ok" for status in scores.status])
    return {
        "round": round_number,
        "update": update.number,
        "reward_mean": float(scores.reward.mean()),
        "reward_std": float(scores.reward.std()),
        "stable_fraction": float((ok & ~scores.suspect & (scores.e_above_hull <= STABLE_BELOW)).mean()),
        "kl": float(log_ratio.mean()),
        "kl_standard_error": float(log_ratio.std(ddof=1) / np.sqrt(size)),
        "entropy": float(-old.mean()),
        "unique_fraction": len(prints) / size,
        "failed_fraction": float(1 - ok.mean()),
        "evaluations": scores.evaluations,
        "baseline": update.baseline,
        "clip_fraction": update.clip_fraction,
        "gradient_norm": update.gradient_norm,
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
        "energy": _or_null(scores.energy),
        "formation_energy": _or_null(scores.formation_energy),
        "e_above_hull": _or_null(scores.e_above_hull),
        "suspect": [bool(s) if status == "ok" else None for s, status in zip(scores.suspect, scores.status, strict=True)],
        "reward": scores.reward,
        "advantage": update.advantage,
        "status": scores.status,
    }
    return make_table(ROLLOUTS, columns)


def _or_null(values: np.ndarray) -> list[float | None]:
    return [float(v) if np.isfinite(v) else None for v in values]
