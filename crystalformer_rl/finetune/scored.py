"""What a scored batch of crystals leaves in tables, whoever proposed them: each with every part of its reward, and one row a batch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from crystalformer_rl.crystal.coverage import (
    anonymous_formula,
    chemistry_counts,
    effective_elements,
    effective_number,
)
from crystalformer_rl.crystal.prototype import template
from crystalformer_rl.crystal.tokens import Sites
from crystalformer_rl.crystal.wyckoff import wyckoff_table
from crystalformer_rl.finetune.rollout import Scores
from crystalformer_rl.hull.stability import is_stable
from crystalformer_rl.policy.sample_table import sites_columns
from crystalformer_rl.tables.column import FLOAT, Column
from crystalformer_rl.tables.crystal_columns import STATUS
from crystalformer_rl.tables.figure_columns import FIGURES
from crystalformer_rl.tables.rollout_columns import ALWAYS, ROLLOUTS
from crystalformer_rl.tables.status import OK

_FIGURES = {column.name: column for column in FIGURES}


def stable(scores: Scores, threshold: float) -> np.ndarray:
    """(B,) bool: at most `threshold` (eV/atom) above the hull as scored."""
    ok = np.array([status == OK for status in scores.status], bool)
    return ok & is_stable(scores.figures["e_above_hull"], threshold)


def scored_row(sites: Sequence[Sites | None], kinds: np.ndarray, scores: Scores, stable_below: float) -> dict[str, Any]:
    """Of the row of `UPDATES` what no policy has a part in. kinds: (B,) numbers of the crystals' kinds, 0 where there is none."""
    size, good = len(kinds), stable(scores, stable_below)
    first = np.zeros(size, bool)
    first[np.unique(kinds, return_index=True)[1]] = True
    first &= kinds != 0
    row = {
        "reward_mean": float(scores.reward.mean()),
        "reward_std": float(scores.reward.std()),
        "stable_fraction": float(good.mean()),
        "sun_fraction": float((good & first & ~scores.known).mean()),
        "unique_fraction": float(first.mean()),
        "known_fraction": float(scores.known.mean()),
        "failed_fraction": float(np.mean([status != OK for status in scores.status])),
        "evaluations": scores.evaluations,
    }
    return row | coverage(sites) | {name: _mean(values) for name, values in scores.terms.items()}


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


def columns_with_parts(scores: Scores) -> tuple[Column, ...]:
    """`ROLLOUTS` and, before the status, the figures that the reward asked for and its terms."""
    figures = [_FIGURES[name] for name in scores.figures if name not in ALWAYS]
    terms = [Column(name, FLOAT, "", "share of the reward, weight and transforms included") for name in scores.terms]
    return (*ROLLOUTS[:-1], *figures, *terms, STATUS)


def term_means(terms: Iterable[str]) -> list[Column]:
    """Columns of the means of the reward's terms, beside `UPDATES`."""
    return [Column(name, FLOAT, "", "mean of this term of the reward over the crystals that have it") for name in terms]


def scored_columns(sites: Sequence[Sites | None], scores: Scores) -> dict[str, Any]:
    """Of the columns of `columns_with_parts` what no policy has a part in, but for the ids."""
    columns = {
        **sites_columns(sites),
        "known": [None if s is None else bool(k) for s, k in zip(sites, scores.known, strict=True)],
        "reward": scores.reward,
        "status": scores.status,
    }
    return columns | {name: _or_null(values) for name, values in (scores.figures | scores.terms).items()}


def _or_null(values: np.ndarray) -> list[float | None]:
    return [float(v) if np.isfinite(v) else None for v in values]
