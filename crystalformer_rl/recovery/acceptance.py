"""Which of the structures of an attempt is the composition's ground state, and how probably.

A conditional logit: each structure has a weight exp(w · features), that none of them is right has the weight 1, and the shares of the sum are
probabilities. Fitted to compositions whose structure is known and was left out (`scripts/calibrate_recovery.py`, which
writes acceptance.json beside this module): once with a second potential's energies, once without.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import minimize

from crystalformer_rl.recovery.attempt import Attempt, Tried

FILE = Path(__file__).with_name("acceptance.json")

_CONSTANT = 1e-6
"""Spread below which a feature is the same everywhere."""

SAME_ENERGY = 0.002
"""eV/atom; candidates nearer to each other than this have relaxed to one structure."""

_FEATURES = (
    "constant", "elements", "atoms", "several entries", "score", "least likeness", "exchanged", "family", "first by score",
    "log residual", "above", "below", "above the lowest",
)  # fmt: skip
_SECOND = ("second log residual", "second above", "second below", "second above the lowest")
FEATURES = (*_FEATURES, *_SECOND)
"""Names of the features, those of a second potential last."""

_FLOOR, _WIDTH, _SECOND_WIDTH = 0.005, 0.03, 0.02  # eV/atom


def groups(attempt: Attempt) -> list[list[Tried]]:
    """The structures of an attempt, each with all candidates that have led to it, the best by score first."""
    found: list[list[Tried]] = []
    for one in sorted(attempt.tried, key=lambda tried: tried.rank):
        same = next((group for group in found if abs(group[0].formation_energy - one.formation_energy) < SAME_ENERGY), None)
        if same is None:
            found.append([one])
        else:
            same.append(one)
    return found


def has_second(attempt: Attempt) -> bool:
    """Whether a second potential said something of every structure."""
    return bool(attempt.tried) and all(one.second_residual is not None for one in attempt.tried)


def features(attempt: Attempt, second: bool) -> np.ndarray:
    """(structures, features) of an attempt, in the order of `groups`."""
    target, rows = attempt.target, []
    lowest = min(one.residual for one in attempt.tried)
    lowest_second = min((one.second_residual or 0.0 for one in attempt.tried), default=0.0)
    for group in groups(attempt):
        one = group[0]
        rows.append(
            [
                1.0,
                len(target.counts),
                math.log(len(one.crystal)),
                float((target.entries or 1) > 1),
                max(tried.candidate.score for tried in group),
                one.candidate.least,
                one.candidate.exchanged,
                math.log(one.candidate.family),
                float(one.rank == 0),
                *_energy_features(one.residual, lowest, _WIDTH),
            ]
        )
        if second:
            rows[-1] += _energy_features(one.second_residual or 0.0, lowest_second, _SECOND_WIDTH)
    return np.array(rows, float)


def _energy_features(residual: float, lowest: float, width: float) -> list[float]:
    above, below = max(residual, 0.0) / width, max(-residual, 0.0) / width
    return [math.log(abs(residual) + _FLOOR), above, below, (residual - lowest) / _SECOND_WIDTH]


@dataclass(frozen=True)
class Acceptance:
    """Weights of the standardized features; second: whether they count a second potential's energies."""

    means: np.ndarray
    scales: np.ndarray
    weights: np.ndarray
    second: bool

    def probabilities(self, rows: np.ndarray) -> np.ndarray:
        """Of each structure of an attempt, given its `features`, to be right; what misses to 1 is that none is."""
        return _shares(self.weights, self.standardized(rows))[:-1] if len(rows) else np.zeros(0)

    def standardized(self, rows: np.ndarray) -> np.ndarray:
        """Features in units of their spread."""
        return (rows - self.means) / self.scales

    def as_record(self) -> dict[str, Any]:
        """For acceptance.json."""
        arrays = {name: np.round(getattr(self, name), 6).tolist() for name in ("means", "scales", "weights")}
        return {"features": [*_FEATURES, *(_SECOND if self.second else ())], **arrays, "second": self.second}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Acceptance:
        """From acceptance.json."""
        means, scales, weights = (np.array(record[name], float) for name in ("means", "scales", "weights"))
        return cls(means, scales, weights, bool(record["second"]))


def probabilities(rows: np.ndarray) -> np.ndarray:
    """Of each structure of an attempt, by the calibration that fits the features (structures, n) that are known."""
    acceptances = calibrated()
    return acceptances[rows.shape[1] > len(_FEATURES)].probabilities(rows)


@cache
def calibrated() -> dict[bool, Acceptance]:
    """The acceptances that come with the package, by whether a second potential is asked."""
    records = json.loads(FILE.read_text(encoding="utf-8"))
    return {record["second"]: Acceptance.from_record(record) for record in records["acceptances"]}


def fit(
    rows: Sequence[np.ndarray], right: Sequence[np.ndarray], weights: Sequence[float], second: bool, ridge: float = 1.0
) -> Acceptance:
    """The conditional logit of attempts by maximum likelihood with an L2 penalty.

    rows: (structures, features) of each attempt; right: (structures,) bool, none true where none is right; weights: how much each attempt counts.
    """
    every = np.concatenate(rows)
    means, scales = every.mean(0), every.std(0)
    means[0] = 0.0  # the constant
    scales[scales < _CONSTANT] = 1.0
    scaled = [(part - means) / scales for part in rows]

    def loss(w: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope = 0.5 * ridge * float(w @ w), ridge * w
        for part, good, weight in zip(scaled, right, weights, strict=True):
            shares = _shares(w, part)
            wanted = np.append(good, not good.any()) * shares
            value -= weight * math.log(wanted.sum() + 1e-300)
            slope = slope - weight * (wanted[:-1] / wanted.sum() - shares[:-1]) @ part
        return value, slope

    found = minimize(loss, np.zeros(every.shape[1]), jac=True, method="L-BFGS-B", options={"maxiter": 1000})
    return Acceptance(means, scales, found.x, second)


def _shares(weights: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """exp(w · row) of each row and 1 for none of them, divided by their sum."""
    z = np.append(rows @ weights, 0.0)
    powers = np.exp(z - z.max())
    return powers / powers.sum()
