"""Fitting the probabilities of being stable to crystals with DFT labels, and how good they are."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from crystalformer_rl.hull.probability import LOCATION, SCALE, Calibration, Figures, at_or_below

THRESHOLDS = (-0.05, 0.0, 0.05, 0.1, 0.15, 0.2)
"""eV/atom above the hull, at which the fit asks for probabilities; 0 and 0.1 are what is reported."""

_WEIGHTS = {0.0: 3.0, 0.1: 3.0}
_RIDGE = 0.01
_TYPICAL_WIDTH = 0.04  # eV/atom


def fit(
    figures: Figures,
    labels: np.ndarray,
    location: Sequence[str],
    scale: Sequence[str],
    *,
    soft: dict[float, np.ndarray] | None = None,
) -> Calibration:
    """The calibration by maximum likelihood of being at or below each of `THRESHOLDS`, with a small ridge.

    labels (N,): eV/atom above the hull by DFT; or `soft`, for each threshold the probability (N,) of being at or below it. location, scale: names of the
    basis functions that are used; both begin with `constant`.
    """
    from scipy.optimize import minimize

    truth = soft or {t: (labels <= t).astype(float) for t in THRESHOLDS}
    moves = np.stack([LOCATION[name](figures) for name in location])
    widths = np.stack([SCALE[name](figures) for name in scale])
    k, n = len(location), len(location) + len(scale)
    # what moves the centre is a share of a distance, or a distance; what moves the width counts by how much it does
    spread = np.concatenate([np.ones(k - 1), widths[1:].std(1)])

    def loss(parameters: np.ndarray) -> float:
        centre, log_width, total = figures["height"] + parameters[:k] @ moves, parameters[k:n] @ widths, 0.0
        for threshold, share in truth.items():
            p = np.clip(at_or_below(threshold, centre, log_width, parameters[n]), 1e-6, 1 - 1e-6)
            total -= _WEIGHTS.get(threshold, 1.0) * float((share * np.log(p) + (1 - share) * np.log(1 - p)).mean())
        slopes = np.concatenate([parameters[1:k], parameters[k + 1 : n]])
        return total + _RIDGE * float(((slopes * spread) ** 2).sum())

    start = np.zeros(n + 1)
    start[k] = math.log(_TYPICAL_WIDTH)
    found = minimize(loss, start, method="L-BFGS-B", options={"maxiter": 200}).x.tolist()
    return Calibration(dict(zip(location, found[:k], strict=True)), dict(zip(scale, found[k:n], strict=True)), found[n])


def reliability(probability: np.ndarray, truth: np.ndarray, parts: int = 10) -> list[tuple[int, float, float]]:
    """Of each tenth of the range of probabilities: how many crystals, their mean probability, the share that is true."""
    part = np.minimum((probability * parts).astype(int), parts - 1)
    rows = []
    for k in range(parts):
        inside = part == k
        n = int(inside.sum())
        rows.append(
            (n, float(probability[inside].mean()) if n else math.nan, float(truth[inside].mean()) if n else math.nan)
        )
    return rows


def brier_skill(probability: np.ndarray, truth: np.ndarray) -> float:
    """1 − Brier score / that of the base rate (G. W. Brier, Mon. Weather Rev. 78, 1, 1950)."""
    rate = truth.mean()
    return float(1 - ((probability - truth) ** 2).mean() / (rate * (1 - rate)))


def f1(said: np.ndarray, truth: np.ndarray) -> float:
    """Harmonic mean of precision and recall; 0 where nothing was said."""
    return float(2 * (said & truth).sum() / max(said.sum() + truth.sum(), 1))
