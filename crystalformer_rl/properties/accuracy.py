"""How good the property models are, from predictions for rows whose formula they had not seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from crystalformer_rl.properties.examples import FOLDS, Examples
from crystalformer_rl.properties.gaussian_process import GaussianProcess, Kernel
from crystalformer_rl.properties.models import Standardization, dielectric_constant, figure_of_merit, nearest_distance
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


def constants_covered(mean: np.ndarray, std: np.ndarray, truth: np.ndarray) -> Covered:
    """Which dielectric constants (n,) lie in their interval, from mean and deviation of the logarithm."""
    return lambda factor: covered_by(*dielectric_constant(mean, std, factor), truth)


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


def gap_figures(gaps: Examples, estimate: GapEstimate, calibration: float) -> dict[str, Any]:
    """Errors of the gap and of the metal decision, over all rows, by source and by the gap reported."""
    truth = gaps.labels["band_gap"]
    reported, std = estimate.reported(calibration)
    insulator = truth > 0
    found = estimate.insulator_probability >= 0.5

    def of(rows: np.ndarray) -> dict[str, Any]:
        ins, metal = rows & insulator, rows & ~insulator
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

    sources = np.array(gaps.sources)
    figures = of(np.ones(len(truth), bool))
    figures["coverage_insulators_cross"] = cross_coverage(gaps.folds, gaps_covered(estimate, truth), insulator)
    bounds = (0.0, 1.0, 2.0, 4.0, np.inf)
    figures["by_gap"] = [
        {"from": low, "to": None if np.isinf(high) else high, **of((reported > low) & (reported <= high))}
        for low, high in pairwise(bounds)
    ]
    return figures | {"by_source": {name: of(sources == name) for name in sorted(set(gaps.sources))}}


def dielectric_figures(
    examples: Examples, held_out: Mapping[str, tuple[np.ndarray, np.ndarray]], calibration: Mapping[str, float]
) -> dict[str, Any]:
    """Mean absolute error of the logarithms and coverage of the constants' intervals."""
    figures = {}
    for name, (mean, std) in held_out.items():
        truth = examples.labels[name]
        covered = constants_covered(mean, std, truth)
        figures[name] = {
            "rows": len(truth),
            "mae_ln": float(np.abs(mean - np.log(truth)).mean()),
            "rmse_ln": float(np.sqrt(np.mean((mean - np.log(truth)) ** 2))),
            "coverage": float(covered(calibration[name]).mean()),
            "coverage_cross": cross_coverage(examples.folds, covered, np.ones(len(truth), bool)),
        }
    return figures


def applicability_figures(
    kernel: Kernel, examples: Examples, held_out: Mapping[str, tuple[np.ndarray, np.ndarray]], scale: float
) -> list[dict[str, Any]]:
    """Errors of the logarithms by the distance to the rows that the model had seen."""
    distance = np.empty(len(examples.formulas))
    folds = examples.folds
    for fold in range(FOLDS):
        out = folds == fold
        scaling = Standardization.of(examples.rows[~out])
        seen = GaussianProcess(kernel, scaling(examples.rows[~out]), np.zeros(1), 1.0, np.ones(1))
        distance[out] = nearest_distance(seen, scaling(examples.rows[out])) / scale
    bounds = (0.0, 0.5, 0.75, 1.0, 1.5, np.inf)
    figures = []
    for low, high in pairwise(bounds):
        rows = (distance >= low) & (distance < high)
        if rows.any():
            errors = {
                name: float(np.abs(mean - np.log(examples.labels[name]))[rows].mean())
                for name, (mean, _) in held_out.items()
            }
            figures.append({"from": low, "to": None if np.isinf(high) else high, "rows": int(rows.sum()), **errors})
    return figures


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
