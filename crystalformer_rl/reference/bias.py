"""How a potential's formation energies differ from those of the scale that it learned, and how far that can be known.

A potential that was trained on a scale's energies reproduces them with a small error of its own for each element. Measured on
entries that have both energies, the error lets DFT energies stand beside the potential's on one hull.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from crystalformer_rl.crystal.elements import ATOMIC_NUMBERS, SYMBOLS
from crystalformer_rl.errors import InputError

_RIDGE = 1.0  # of a shift against the residuals; an element of few entries keeps a small one
_HUBER = 0.01  # eV/atom; residuals beyond it count by their size, not by its square
_FOLDS = 5
_ELEMENTS = len(SYMBOLS)
_TWO_SIDED_90 = 1.6448536269514722  # standard deviations of a normal distribution that hold 90 % of it
LEAST_ENTRIES = 50
"""Entries with both energies without which no bias is fitted."""


@dataclass(frozen=True)
class Bias:
    """E_potential − E_scale as a function of composition.

    shifts: {atomic number: eV per atom of the element}; spreads: the same of a standard deviation; scale: its name; entries: on
    which it was measured; residual_median, residual_90: of |residual| of formulas left out, eV/atom; growth: of the standard
    deviation with the height above the hull, since a potential knows crystals the less the higher they lie.
    """

    scale: str
    shifts: Mapping[int, float] = field(default_factory=dict)
    spreads: Mapping[int, float] = field(default_factory=dict)
    entries: int = 0
    residual_median: float = math.nan
    residual_90: float = math.nan
    growth: float = 0.0

    def of(self, counts: Mapping[int, int]) -> float:
        """eV/atom to add to an energy of the scale; counts: {atomic number: atoms}."""
        return _mean(self.shifts, counts, 0.0)

    def std(self, counts: Mapping[int, int], height: float = 0.0) -> float:
        """Standard deviation (eV/atom) of what `of` leaves, such that 1.645 of it hold 90 % of the residuals.

        height: eV/atom above the hull; below it is as on it. NaN where nothing was measured.
        """
        typical = self.residual_90 / _TWO_SIDED_90
        return math.hypot(_mean(self.spreads, counts, typical), self.growth * max(height, 0.0))

    def as_record(self) -> dict[str, Any]:
        """What a file's provenance holds of it."""
        return {
            "scale": self.scale,
            "shifts": _by_symbol(self.shifts),
            "spreads": _by_symbol(self.spreads),
            "entries": self.entries,
            "residual_median": self.residual_median,
            "residual_90": self.residual_90,
            "growth": self.growth,
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any] | None) -> Bias | None:
        """From a file's provenance; None for no record. Raises InputError for one that is damaged."""
        if not record:
            return None
        try:
            return cls(
                str(record["scale"]),
                {ATOMIC_NUMBERS[s]: float(x) for s, x in record["shifts"].items()},
                {ATOMIC_NUMBERS[s]: float(x) for s, x in record["spreads"].items()},
                int(record["entries"]),
                float(record["residual_median"]),
                float(record["residual_90"]),
                float(record["growth"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(
                f"the record of a potential's bias is damaged ({type(error).__name__}: {error}); measure it again."
            ) from error


def fit_bias(scale: str, compositions: Sequence[Mapping[int, int]], difference: np.ndarray) -> Bias:
    """The bias by robust ridge regression on atom fractions (P. J. Huber, Ann. Math. Stat. 35, 73, 1964).

    compositions: {atomic number: atoms} of each entry; difference (N,): E_potential − E_scale, eV/atom. The residuals are those
    of formulas left out, in five parts. Raises InputError for fewer than `LEAST_ENTRIES` entries.
    """
    if len(compositions) < LEAST_ENTRIES:
        raise InputError(
            f"{len(compositions)} entries have an energy both of the potential and of the scale; a bias needs at least "
            f"{LEAST_ENTRIES}."
        )
    fractions = np.zeros((len(compositions), _ELEMENTS))
    for row, counts in zip(fractions, compositions, strict=True):
        for z, n in counts.items():
            row[z - 1] = n / sum(counts.values())
    fold = np.array([_fold(counts) for counts in compositions])
    left = np.empty(len(difference))
    for part in range(_FOLDS):
        inside = fold != part
        left[~inside] = difference[~inside] - fractions[~inside] @ _shifts(fractions[inside], difference[inside])
    shifts = _shifts(fractions, difference)
    seen = np.flatnonzero(fractions.any(axis=0))
    spreads = _spreads(fractions[:, seen], np.abs(left))
    return Bias(
        scale,
        {int(k) + 1: round(float(shifts[k]), 5) for k in seen},
        {int(k) + 1: round(float(x), 5) for k, x in zip(seen, spreads, strict=True)},
        len(difference),
        round(float(np.median(np.abs(left))), 5),
        round(float(np.quantile(np.abs(left), 0.9)), 5),
    )


def with_growth(bias: Bias, compositions: Sequence[Mapping[int, int]], difference: np.ndarray, heights: np.ndarray) -> Bias:
    """The same with `growth` such that 1.645 standard deviations hold 90 % of the residuals of entries above the hull.

    difference, heights (N,): E_potential − E_scale, and the height above the hull, positive; eV/atom.
    """
    if len(heights) < LEAST_ENTRIES:
        return bias
    residual = np.array([d - bias.of(counts) for counts, d in zip(compositions, difference, strict=True)])
    near = np.array([bias.std(counts) for counts in compositions])
    needed = np.sqrt(np.maximum((residual / _TWO_SIDED_90) ** 2 - near**2, 0.0)) / heights
    return replace(bias, growth=round(float(np.quantile(needed, 0.9)), 3))


def _shifts(fractions: np.ndarray, difference: np.ndarray) -> np.ndarray:
    """Iteratively reweighted least squares."""
    weight = np.ones(len(difference))
    found = np.zeros(fractions.shape[1])
    for _ in range(25):
        weighted = fractions * weight[:, None]
        found = np.linalg.solve(weighted.T @ fractions + _RIDGE * np.eye(fractions.shape[1]), weighted.T @ difference)
        weight = np.minimum(1.0, _HUBER / np.maximum(np.abs(fractions @ found - difference), 1e-12))
    return found


def _spreads(fractions: np.ndarray, residual: np.ndarray) -> np.ndarray:
    """Of each element, such that the mean over a composition times 1.645 holds 90 % of |residual|.

    Their sizes relative to each other by ridge regression on |residual|, bounded to a factor of three about the mean.
    """
    mean = float(residual.mean())
    capped = np.minimum(residual, np.quantile(residual, 0.98))
    gram = fractions.T @ fractions + 10.0 * np.eye(fractions.shape[1])
    found = mean + np.linalg.solve(gram, fractions.T @ (capped - mean))
    found = np.clip(found, mean / 3, 3 * mean)
    return found * np.quantile(residual / (fractions @ found), 0.9) / _TWO_SIDED_90


def _fold(counts: Mapping[int, int]) -> int:
    """Which part a formula belongs to; every multiple of it to the same."""
    divisor = math.gcd(*counts.values())
    key = repr(sorted((z, n // divisor) for z, n in counts.items()))
    return int(hashlib.sha256(key.encode()).hexdigest(), 16) % _FOLDS


def _mean(values: Mapping[int, float], counts: Mapping[int, int], otherwise: float) -> float:
    return sum(n * values.get(z, otherwise) for z, n in counts.items()) / sum(counts.values())


def _by_symbol(values: Mapping[int, float]) -> dict[str, float]:
    return {SYMBOLS[z - 1]: value for z, value in sorted(values.items())}
