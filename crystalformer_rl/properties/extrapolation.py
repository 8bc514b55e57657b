"""How the dielectric constants are predicted far from what was learned: calibration and figures by distance, family, geometry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from crystalformer_rl.properties.accuracy import COVERAGE, INTERVAL, constants_covered
from crystalformer_rl.properties.dielectric_training import Unseen
from crystalformer_rl.properties.examples import Examples
from crystalformer_rl.properties.models import DIELECTRIC, principal_values

EDGE = 1.0
"""Applicability beyond which standard deviations are widened."""

_BOUNDS = (0.0, 0.5, 0.75, 1.0, 1.5, 2.0, np.inf)
_LEAST_ROWS = 20  # with fewer beyond the edge nothing can be calibrated there
_MOST = 50.0
_ISOTROPIC = 0.01  # a tensor whose logarithm spreads less has one value


def calibrate_far(calibration: float, unseen: Unseen, scale: float, name: str, truth: np.ndarray) -> float:
    """What widens the deviations beyond the edge so that `COVERAGE` of the crystals there are covered; 0 where they are.

    unseen: of crystals whose family was left out; truth: (n,) dielectric constants, NaN where unknown; scale: the distance that
    counts as 1.
    """
    applicability = unseen.distance / scale
    beyond = (applicability > EDGE) & np.isfinite(truth)
    if beyond.sum() < _LEAST_ROWS:
        return 0.0
    mean, std = unseen.logs[name]

    def share(far: float) -> float:
        return float(constants_covered(mean, std, truth, far, applicability)(calibration)[beyond].mean())

    if share(0.0) >= COVERAGE:
        return 0.0
    low, high = 0.0, _MOST
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if share(middle) >= COVERAGE else (middle, high)
    return round(high, 4)


def by_applicability(
    examples: Examples, unseen: Unseen, scale: float, calibration: Mapping[str, float], far: Mapping[str, float]
) -> list[dict[str, Any]]:
    """Rows, errors of the logarithms and shares within one, 1.645 and two deviations of each constant, by applicability."""
    applicability = unseen.distance / scale
    figures = []
    for low, high in pairwise(_BOUNDS):
        inside = (applicability >= low) & (applicability < high)
        if not inside.any():
            continue
        row: dict[str, Any] = {"from": low, "to": None if np.isinf(high) else high}
        for name in DIELECTRIC:
            truth, (mean, std) = examples.labels[name], unseen.logs[name]
            known = inside & np.isfinite(truth)
            if not known.any():
                row[name] = {"rows": 0, "mae_ln": None, "within": [None, None, None]}
                continue
            error = np.abs(mean[known] - np.log(truth[known]))
            within = [
                float(constants_covered(mean, std, truth, far[name], applicability, width)(calibration[name])[known].mean())
                for width in (1.0, INTERVAL, 2.0)
            ]
            row[name] = {"rows": int(known.sum()), "mae_ln": float(error.mean()), "within": within}
        figures.append(row)
    return figures


def by_family(examples: Examples, families: Sequence[str], unseen: Unseen) -> list[dict[str, Any]]:
    """Rows and mean absolute errors of the logarithms of each family, and of all."""
    family = np.array(families)
    rows = [("all", np.ones(len(family), bool)), *((name, family == name) for name in sorted(set(families)))]
    return [{"family": name, **constant_errors(examples, unseen, inside)} for name, inside in rows]


def constant_errors(examples: Examples, unseen: Unseen, inside: np.ndarray) -> dict[str, Any]:
    """Of each constant, how many rows among `inside` (n,) bool have it, and the mean absolute error of the logarithm there."""
    figures: dict[str, Any] = {}
    for name in DIELECTRIC:
        known = inside & np.isfinite(examples.labels[name])
        error = np.abs(unseen.logs[name][0][known] - np.log(examples.labels[name][known]))
        figures[name] = {"rows": int(known.sum()), "mae_ln": float(error.mean()) if known.any() else None}
    return figures


def anisotropy_figures(truth: np.ndarray, predicted: np.ndarray) -> dict[str, Any]:
    """Errors of the anisotropy from deviators (n, 3, 3) of ln ε, beside those of taking every crystal for isotropic.

    spread: of ln(largest / smallest principal value); values: of ln of the principal values with the mean given; explained: share
    of the deviators' squares.
    """
    values, said = np.linalg.eigvalsh(truth), np.linalg.eigvalsh(predicted)
    spread, said_spread = values[:, 2] - values[:, 0], said[:, 2] - said[:, 0]
    ones = np.ones(len(truth))
    logs, said_logs = (np.log(principal_values(ones, each)) for each in (truth, predicted))
    some = spread > _ISOTROPIC
    return {
        "rows": len(truth),
        "isotropic": int((~some).sum()),
        "spread": {"mae": _mae(spread, said_spread), "if_isotropic": float(spread.mean())},
        "values": {"mae": _mae(logs, said_logs), "if_isotropic": float(np.abs(logs).mean())},
        "anisotropic_values": {"mae": _mae(logs[some], said_logs[some]), "if_isotropic": float(np.abs(logs[some]).mean())},
        "explained": float(1 - ((truth - predicted) ** 2).sum() / (truth**2).sum()),
    }


def _mae(truth: np.ndarray, said: np.ndarray) -> float:
    return float(np.abs(truth - said).mean())
