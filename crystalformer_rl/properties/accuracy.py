"""How good the property models are, from predictions for rows whose formula they had not seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from crystalformer_rl.properties.examples import FOLDS, Examples
from crystalformer_rl.properties.models import dielectric_constant, figure_of_merit, widened
from crystalformer_rl.properties.network import GapEstimate

COVERAGE = 0.90
INTERVAL = 1.645
"""Standard deviations on both sides that hold 90 % of a normal distribution."""

Covered = Callable[[float], np.ndarray]
"""From a factor on the standard deviations to the rows (n,) bool whose truth lies in the interval."""


def _mean(values: np.ndarray) -> float | None:
    """The mean, or None of nothing."""
    return float(np.mean(values)) if len(values) else None


def covered_by(mean: np.ndarray, std: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Which rows (n,) have their truth within the stated 90 % interval."""
    return np.abs(truth - mean) <= INTERVAL * std


def gaps_covered(estimate: GapEstimate, truth: np.ndarray) -> Covered:
    """Which gaps (n,) lie in their interval, as a function of the calibration factor."""
    return lambda factor: covered_by(*estimate.reported(factor), truth)


def constants_covered(
    mean: np.ndarray, std: np.ndarray, truth: np.ndarray, far: float, applicability: np.ndarray, width: float = INTERVAL
) -> Covered:
    """Which dielectric constants (n,) lie within `width` deviations, from mean and deviation of the logarithm.

    far, applicability (n,): how much wider the deviations are beyond the training data.
    """

    def covered(factor: float) -> np.ndarray:
        constant, deviation = dielectric_constant(mean, std, widened(factor, far, applicability))
        return np.abs(truth - constant) <= width * deviation

    return covered


def calibrate(covered: Covered, of: np.ndarray) -> float:
    """The factor on the standard deviations at which `COVERAGE` of the rows `of` (n,) bool are covered, by bisection."""
    low, high = 0.05, 20.0
    for _ in range(40):
        middle = float(np.sqrt(low * high))
        low, high = (low, middle) if covered(middle)[of].mean() >= COVERAGE else (middle, high)
    return round(high, 4)


def cross_coverage(folds: np.ndarray, covered: Covered, of: np.ndarray) -> float:
    """Coverage of rows `of` (n,) bool when each fold's factor is calibrated on the other folds."""
    hits = 0
    for fold in range(FOLDS):
        inside, others = of & (folds == fold), of & (folds != fold)
        if inside.any() and others.any():
            hits += int(covered(calibrate(covered, others))[inside].sum())
    return hits / int(of.sum())


def gap_errors(truth: np.ndarray, estimate: GapEstimate, calibration: float, rows: np.ndarray) -> dict[str, Any]:
    """Errors of the gap and of the metal decision over the rows (n,) bool; truth: (n,) gaps in eV, 0 for a metal."""
    reported, std = estimate.reported(calibration)
    found = estimate.insulator_probability >= 0.5
    ins, metal = rows & (truth > 0), rows & (truth <= 0)
    rates = (_mean(found[ins]), _mean(~found[metal]))
    return {
        "rows": int(rows.sum()),
        "insulators": int(ins.sum()),
        "mae_insulators": _mean(np.abs(reported - truth)[ins]),
        "mae_insulators_if_insulator": _mean(np.abs(estimate.insulating_gap - truth)[ins]),
        "insulators_found": rates[0],
        "metals_found": rates[1],
        "balanced_accuracy": None if rates[0] is None or rates[1] is None else (rates[0] + rates[1]) / 2,
        "coverage_insulators": _mean(covered_by(reported, std, truth)[ins]),
        "coverage_all": _mean(covered_by(reported, std, truth)[rows]),
    }


def gap_figures(gaps: Examples, estimate: GapEstimate, calibration: float) -> dict[str, Any]:
    """`gap_errors` over all rows, by source and by the gap reported."""
    truth, sources = gaps.labels["band_gap"], np.array(gaps.sources)
    reported, _ = estimate.reported(calibration)

    def of(rows: np.ndarray) -> dict[str, Any]:
        return gap_errors(truth, estimate, calibration, rows)

    figures = of(np.ones(len(truth), bool))
    figures["coverage_insulators_cross"] = cross_coverage(gaps.folds, gaps_covered(estimate, truth), truth > 0)
    bounds = (0.0, 1.0, 2.0, 4.0, np.inf)
    figures["by_gap"] = [
        {"from": low, "to": None if np.isinf(high) else high, **of((reported > low) & (reported <= high))}
        for low, high in pairwise(bounds)
    ]
    return figures | {"by_source": {name: of(sources == name) for name in sorted(set(gaps.sources))}}


def dielectric_figures(
    examples: Examples, name: str, log: tuple[np.ndarray, np.ndarray], calibration: float, covered: Covered
) -> dict[str, Any]:
    """Errors of the logarithms of one constant and coverage of its intervals, over all rows that have it and by source."""
    truth, sources = examples.labels[name], np.array(examples.sources)
    known = np.isfinite(truth)
    error = log[0] - np.log(np.where(known, truth, 1.0))

    def of(rows: np.ndarray) -> dict[str, Any]:
        return {
            "rows": int(rows.sum()),
            "mae_ln": _mean(np.abs(error)[rows]),
            "median_ln": float(np.median(np.abs(error)[rows])),
            "rmse_ln": float(np.sqrt(np.mean(error[rows] ** 2))),
            "coverage": _mean(covered(calibration)[rows]),
        }

    figures = of(known) | {"coverage_cross": cross_coverage(examples.folds, covered, known)}
    by_source = {source: of(known & (sources == source)) for source in sorted(set(sources[known]))}
    return figures | {"by_source": by_source}


@dataclass(frozen=True)
class Merits:
    """Figures of merit of held-out crystals: predicted (n,), its deviation before calibration (n,), truth (n,); eV."""

    predicted: np.ndarray
    std: np.ndarray
    truth: np.ndarray

    @classmethod
    def of(
        cls,
        constant: np.ndarray,
        band_gap: np.ndarray,
        gap: tuple[np.ndarray, np.ndarray],
        eps: tuple[np.ndarray, np.ndarray],
    ) -> Merits:
        """From the true dielectric constants and gaps (n,), and the predicted ones, each with its deviation."""
        predicted, std = figure_of_merit(eps[0], eps[1], gap[0], gap[1])
        return cls(predicted, std, constant * band_gap)

    def covered(self, factor: float) -> np.ndarray:
        """Which truths lie in their interval at a factor on the deviation."""
        return covered_by(self.predicted, factor * self.std, self.truth)

    def take(self, rows: np.ndarray) -> Merits:
        """Some of them: a mask (n,)."""
        return Merits(self.predicted[rows], self.std[rows], self.truth[rows])


def fom_figures(folds: np.ndarray, merits: Merits, calibration: float) -> dict[str, Any]:
    """Error and coverage of the figure of merit."""
    errors = np.abs(merits.predicted - merits.truth)
    return {
        "rows": len(errors),
        "mae": float(errors.mean()),
        "median_absolute_error": float(np.median(errors)),
        "mean_truth": float(merits.truth.mean()),
        "coverage": float(merits.covered(calibration).mean()),
        "coverage_cross": cross_coverage(folds, merits.covered, np.ones(len(errors), bool)),
    }
