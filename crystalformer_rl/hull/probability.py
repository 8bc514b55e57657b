"""The probability that density-functional theory puts a crystal at or below a distance to the hull.

What DFT would say is taken for a variable of Student's t distribution with four degrees of freedom: its centre is the distance that is known, moved by what was learned of
the error, its width grows with what makes a potential unsure. Both were fitted to crystals with DFT labels
(`hull.probability_fit`). Where nothing was learned of a potential, its bias alone gives a normal distribution.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from crystalformer_rl.errors import InputError
from crystalformer_rl.resources.stability_file import read_header

_NARROWEST, _WIDEST = 0.004, 100.0  # eV/atom
_NEAR, _TYPICAL = 0.03, 0.04  # eV/atom
_SAME = 0.002  # eV/atom; nearer to an entry of its composition, a crystal is that entry
_HIGH = 0.3  # eV/atom; beyond it a distance tells no more of the error

Figures = Mapping[str, np.ndarray]
"""Of N crystals, each (N,).

height: eV/atom above the hull of DFT's energies, by the potential's energy with its expected error added; error: that (DFT less
potential); applicability: of its model, above 1 it extrapolates; std: of the potential's bias at the composition, eV/atom;
positional: free coordinates of sites; strains: free strains; atoms: in the primitive cell; elements: kinds of them; support: known compositions of the
chemical system. known: 1 where an entry of the composition, relaxed by the potential, is what competes, else 0; offset: there
the height above that entry less `height`, else 0. disagreement: a second potential's height less `height`, where there is one.
"""

Basis = Mapping[str, Callable[[Figures], np.ndarray]]

LOCATION: Basis = {
    "constant": lambda f: np.ones(len(f["height"])),
    "error": lambda f: f["error"],
    "above": lambda f: np.clip(f["height"], 0.0, _HIGH),
    "below": lambda f: np.clip(-f["height"], 0.0, _HIGH),
    # few crystals lie on the hull, so that one which seems to lies a little above it more often than below
    "near": lambda f: np.exp(-((f["height"] / _NEAR) ** 2)),
    "shallow": lambda f: np.clip(-f["height"], 0.0, _NEAR),
    # of two crystals of one composition a potential mistakes both alike
    "offset": lambda f: f["offset"],
    "extrapolation": lambda f: f["applicability"] - 1.0,
    # what relaxation takes off is a share of the height, the more so the more symmetry leaves free
    "height": lambda f: np.maximum(f["height"], 0.0),
    "height_strains": lambda f: np.maximum(f["height"], 0.0) * np.log(f["strains"]),
    "height_positional": lambda f: np.maximum(f["height"], 0.0) * np.log1p(f["positional"]),
    "disagreement": lambda f: np.clip(f["disagreement"], -_HIGH, _HIGH),
}
"""What may move the centre, eV/atom for each unit."""

SCALE: Basis = {
    "constant": lambda f: np.ones(len(f["height"])),
    "same": lambda f: np.exp(-(((f["height"] + f["offset"]) / _SAME) ** 2)),
    "bias": lambda f: np.log(f["std"] / _TYPICAL),
    "extrapolation": lambda f: f["applicability"] - 1.0,
    "free_positional": lambda f: np.log1p(f["positional"]) - 1.0,
    "free_strains": lambda f: np.log(f["strains"]),
    "elements": lambda f: f["elements"] - 3.0,
    "support": lambda f: np.log1p(f["support"]) - 2.5,
    "height": lambda f: np.log1p(np.maximum(f["height"], 0.0) / _TYPICAL),
    "above": lambda f: np.clip(f["height"], 0.0, _HIGH),
    "below": lambda f: np.clip(-f["height"], 0.0, _HIGH),
    "error": lambda f: np.abs(f["error"]),
    "disagreement": lambda f: np.clip(np.abs(f["disagreement"]), 0.0, _HIGH),
}
"""What may move the logarithm of the width."""


@dataclass(frozen=True)
class Calibration:
    """What was learned: coefficients by the names of `LOCATION` and `SCALE`.

    skew: logarithm of the ratio of the widths above and below the centre, half of it on each side.
    """

    location: Mapping[str, float]
    scale: Mapping[str, float]
    skew: float = 0.0

    def probability(self, figures: Figures, threshold: float) -> np.ndarray:
        """(N,) P(distance by DFT ≤ threshold), threshold in eV/atom; NaN where a figure is unknown."""
        centre = figures["height"] + weighted(LOCATION, self.location, figures)
        return at_or_below(threshold, centre, weighted(SCALE, self.scale, figures), self.skew)

    def as_record(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {
            "location": dict(self.location),
            "scale": dict(self.scale),
            "skew": self.skew,
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Calibration:
        """From a file. Raises InputError for one that is damaged, or made of other figures."""
        try:
            found = cls(record["location"], record["scale"], float(record["skew"]))
            unknown = (found.location.keys() - LOCATION.keys()) | (found.scale.keys() - SCALE.keys())
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(
                f"a calibration of probabilities is damaged ({type(error).__name__}: {error}); learn it again."
            ) from error
        if unknown:
            raise InputError(
                f"a calibration of probabilities uses '{min(unknown)}', which this version does not know; learn it again."
            )
        return found


def normal_probability(height: np.ndarray, std: np.ndarray, threshold: float) -> np.ndarray:
    """(N,) the same by a normal distribution about the distance, where only the potential's bias is known; eV/atom."""
    from scipy.stats import norm

    with np.errstate(invalid="ignore"):
        return np.where(np.isfinite(std) & (std > 0), norm.cdf((threshold - height) / std), np.nan)


@dataclass(frozen=True)
class Calibrations:
    """Those of one file, with whose energies they go.

    relaxed: of crystals at rest; known: of those among them of whose composition an entry competes that the potential relaxed;
    judged, judged_known: the same by a second potential too; sampled: of crystals as sampled. digests: of the weights of the
    potential, and of the one that judges.
    """

    relaxed: Calibration
    known: Calibration
    judged: Calibration
    judged_known: Calibration
    sampled: Calibration
    digest: str
    judge_digest: str

    def at_rest(self, figures: Figures, threshold: float, *, judged: bool = False) -> np.ndarray:
        """(N,) P(distance by DFT ≤ threshold) of crystals at rest, eV/atom; judged: by both potentials."""
        new, known = (self.judged, self.judged_known) if judged else (self.relaxed, self.known)
        return np.where(figures["known"] > 0, known.probability(figures, threshold), new.probability(figures, threshold))

    @classmethod
    def read(cls, path: str | Path) -> Calibrations:
        """From a stability file. Raises InputError for a missing, damaged or foreign one."""
        header = read_header(path)
        try:
            parts = {name: Calibration.from_record(record) for name, record in header["calibrations"].items()}
            return cls(**parts, digest=header["potential"]["weights_sha256"], judge_digest=header["judge"]["weights_sha256"])
        except (KeyError, TypeError) as error:
            raise InputError(
                f"{path} lacks a part of what is known of stability ({error}); fetch or learn it again."
            ) from error


def at_or_below(threshold: float, centre: np.ndarray, log_width: np.ndarray, skew: float) -> np.ndarray:
    """(N,) P(distance ≤ threshold) for centres (N,) in eV/atom and logarithms of widths (N,)."""
    width = np.exp(np.clip(log_width, math.log(_NARROWEST), math.log(_WIDEST)))
    away = (threshold - centre) / width
    return _student(away * np.exp(np.where(away > 0, -skew / 2, skew / 2)))


def _student(x: np.ndarray) -> np.ndarray:
    """(N,) cumulative distribution of Student's t with four degrees of freedom (W. S. Gosset, Biometrika 6, 1, 1908)."""
    u = x / np.sqrt(4 + x**2)
    return np.asarray(0.5 + 0.75 * (u - u**3 / 3), float)


def weighted(basis: Basis, coefficients: Mapping[str, float], figures: Figures) -> np.ndarray:
    """(N,) sum of the basis functions that have a coefficient."""
    found = np.zeros(len(figures["height"]))
    for name, coefficient in coefficients.items():
        found = found + coefficient * basis[name](figures)
    return found
