"""How much of a gain a second potential sees too, with a bootstrap interval over the crystals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from crystalformer_rl.comparison.policy_run import Row, Run
from crystalformer_rl.hull.stability import is_stable
from crystalformer_rl.intervals import Estimate
from crystalformer_rl.tables.comparison_columns import KEPT

_RESAMPLINGS = 2000
_TAIL = 0.025


def gain_kept(own: float | None, judged: float | None) -> float | None:
    """(judged ratio − 1)/(ratio − 1): 1 where the judge sees the whole gain, 0 where none; None without a gain."""
    if own is None or judged is None or own <= 1:
        return None
    return (judged - 1) / (own - 1)


def kept(run: Run, base: Run, threshold: float) -> Mapping[str, Estimate]:
    """The share of each gain of `KEPT` that the judge keeps, with 95 % of the bootstrap's values about it.

    Crystals of both policies are drawn again with replacement, each with what both potentials say of it (B. Efron, Ann. Stat. 7, 1,
    1979). A draw without a gain counts as nothing kept below and everything kept above, so that an interval is wide where the gain may be chance.
    """
    found: dict[str, Estimate] = {}
    if run.judged is None or base.judged is None:
        return found
    rng = np.random.default_rng(0)
    for name in KEPT:
        ours, theirs = _flags(run, name, threshold), _flags(base, name, threshold)
        value = _kept(ours.mean(0), theirs.mean(0))
        if value is None:
            continue
        draws = [_kept(_resampled(ours, rng).mean(0), _resampled(theirs, rng).mean(0)) for _ in range(_RESAMPLINGS)]
        low = np.quantile([-np.inf if x is None else x for x in draws], _TAIL, method="lower")
        high = np.quantile([np.inf if x is None else x for x in draws], 1 - _TAIL, method="higher")
        found[name] = Estimate(value, _finite(low), _finite(high))
    return found


def _flags(run: Run, name: str, threshold: float) -> np.ndarray:
    """(N, 2) of each crystal: whether the share counts it by the first potential, and by the judge."""
    assert run.judged is not None
    suffix = "_initial" if name.endswith("_initial") else ""
    pairs = zip(run.crystals, run.judged, strict=True)
    return np.array([[_counts(c, name, suffix), _judged(c, j, name, suffix, threshold)] for c, j in pairs], float)


def _counts(crystal: Row, name: str, suffix: str) -> bool:
    if name.startswith("sun"):
        return bool(crystal[f"stable{suffix}"] and crystal["unique"] and crystal["novel"])
    return bool(crystal[name])


def _judged(crystal: Row, row: Row, name: str, suffix: str, threshold: float) -> bool:
    above = row[f"judge_e_above_hull{suffix}"]
    new = not name.startswith("sun") or bool(crystal["unique"] and crystal["novel"])
    return above is not None and new and is_stable(above, threshold)


def _kept(ours: Sequence[float], theirs: Sequence[float]) -> float | None:
    """From the shares by the first potential and by the judge, of a policy and of the base."""
    if not (theirs[0] > 0 and theirs[1] > 0):
        return None
    return gain_kept(ours[0] / theirs[0], ours[1] / theirs[1])


def _resampled(flags: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return flags[rng.integers(0, len(flags), len(flags))]


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
