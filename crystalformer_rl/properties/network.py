"""An ensemble of small neural networks for the band gap, evaluated in numpy.

Each member answers three questions: is the crystal an insulator (logit), what is
the gap of the insulator (eV), and how wide is the error (log of the scale of a
Laplace distribution, eV).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from crystalformer_rl.properties.gaussian_process import CLIP

OUTPUTS = 3
_LARGEST_LOG_SCALE = 2.0  # e² eV; guards the exponential where a member extrapolates


@dataclass(frozen=True)
class Members:
    """Weights of M networks input → hidden → hidden → 3 with SiLU between.

    layers: three pairs of weights (M, in, out) and biases (M, out).
    """

    layers: tuple[tuple[np.ndarray, np.ndarray], ...]

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """Outputs (M, n, 3) for standardized features (n, d); features beyond `CLIP` are clipped."""
        hidden = np.clip(rows, -CLIP, CLIP)[None]
        for i, (weight, bias) in enumerate(self.layers):
            hidden = hidden @ weight.astype(float) + bias.astype(float)[:, None]
            if i < len(self.layers) - 1:
                hidden = hidden / (1 + np.exp(-np.clip(hidden, -60, 60)))
        return hidden

    def arrays(self) -> dict[str, np.ndarray]:
        """Named arrays for storage."""
        named: dict[str, np.ndarray] = {}
        for i, (weight, bias) in enumerate(self.layers):
            named |= {f"gap.weight_{i}": weight, f"gap.bias_{i}": bias}
        return named

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Members:
        """The inverse of `arrays`. Raises KeyError where one is missing."""
        return cls(tuple((arrays[f"gap.weight_{i}"], arrays[f"gap.bias_{i}"]) for i in range(3)))


@dataclass(frozen=True)
class GapEstimate:
    """What an ensemble says of n crystals.

    insulator_probability: (n,) at equal prior odds of metal and insulator;
    insulating_gap: (n,) eV, should the crystal be an insulator; insulating_std: (n,)
    eV, its standard deviation.
    """

    insulator_probability: np.ndarray
    insulating_gap: np.ndarray
    insulating_std: np.ndarray

    def reported(self, calibration: float) -> tuple[np.ndarray, np.ndarray]:
        """Gap (n,) and standard deviation (n,), eV, with the metal decision at one half.

        A crystal that is more likely a metal has gap 0. The deviation is the root mean
        square distance of the true gap from the reported one, if the crystal is an
        insulator of the estimated gap with the estimated probability, else a metal.
        """
        p, gap = self.insulator_probability, self.insulating_gap
        spread = (calibration * self.insulating_std) ** 2
        insulator = p >= 0.5
        wrong = np.where(insulator, (1 - p) * gap**2, p * gap**2)
        return np.where(insulator, gap, 0.0), np.sqrt(p * spread + wrong)


def combine(outputs: np.ndarray, sharpness: float = 1.0) -> GapEstimate:
    """The ensemble's estimate from its members' outputs (M, n, 3).

    sharpness: factor on the mean logit, fitted to crystals that the members had not
    seen, since networks are surer than they are right. Variances add: the members'
    own, and the variance between them.
    """
    logit, gap, log_scale = np.moveaxis(outputs, -1, 0)
    own = 2 * np.exp(2 * np.minimum(log_scale, _LARGEST_LOG_SCALE))  # variance of a Laplace distribution
    between = gap.var(axis=0, ddof=1) if len(gap) > 1 else np.zeros(gap.shape[1])
    probability = 1 / (1 + np.exp(-np.clip(sharpness * logit.mean(0), -60, 60)))
    return GapEstimate(probability, np.maximum(gap.mean(0), 0.0), np.sqrt(own.mean(0) + between))
