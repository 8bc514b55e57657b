"""Gaussian-process regression that shrugs off outliers: exact, in numpy, kept as its training rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

CLIP = 5.0
"""Standard deviations; a standardized feature further out enters the models at this value."""

_JITTER = 1e-6
_STUDENT = 4.0  # degrees of freedom of the noise
_REWEIGHTINGS = 8
_ROWS = 512  # rows predicted at a time, which bounds memory


@dataclass(frozen=True)
class Kernel:
    """Covariance of two crystals with standardized features x, x′ (d): a smooth part, a linear part, a constant.

    amplitude² / (1 + Σ_b weight_b · |x_b − x′_b|² / d_b) + linear² · x·x′ / d + 1,
    the sum over blocks b of features with d_b members: a rational quadratic kernel
    (C. E. Rasmussen, C. K. I. Williams, Gaussian Processes for Machine Learning,
    2006, eq. 4.19, α = 1) with one length a block.
    """

    blocks: tuple[int, ...]
    weights: tuple[float, ...]
    amplitude: float
    linear: float

    def squared_distance(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Σ_b weight_b · |a_b − b_b|² / d_b for rows a (n, d), b (m, d): (n, m)."""
        scale = np.sqrt(np.concatenate([np.full(d, w / d) for d, w in zip(self.blocks, self.weights, strict=True)]))
        u, v = a * scale, b * scale
        return np.maximum((u**2).sum(1)[:, None] + (v**2).sum(1) - 2 * u @ v.T, 0.0)

    def __call__(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Covariances (n, m); features beyond `CLIP` are clipped."""
        a, b = np.clip(a, -CLIP, CLIP), np.clip(b, -CLIP, CLIP)
        smooth = self.amplitude**2 / (1 + self.squared_distance(a, b))
        return smooth + self.linear**2 / a.shape[1] * (a @ b.T) + 1.0

    def variance(self, a: np.ndarray) -> np.ndarray:
        """Prior variance (n,) of each row."""
        a = np.clip(a, -CLIP, CLIP)
        return self.amplitude**2 + self.linear**2 / a.shape[1] * (a**2).sum(1) + 1.0


@dataclass(frozen=True)
class GaussianProcess:
    """Posterior of a Gaussian process with noise of its own variance at each training row.

    inputs: (n, d) standardized; targets: (n,); noise_weights: (n,), the variance at
    row i is noise² · noise_weights[i].
    """

    kernel: Kernel
    inputs: np.ndarray
    targets: np.ndarray
    noise: float
    noise_weights: np.ndarray = field(repr=False)

    @classmethod
    def fit(cls, kernel: Kernel, inputs: np.ndarray, targets: np.ndarray, noise: float) -> GaussianProcess:
        """Student-t noise by reweighting: rows that the others contradict are trusted less.

        Expectation-maximization for a scale mixture of normals (K. L. Lange, R. J. A. Little,
        J. M. G. Taylor, J. Am. Stat. Assoc. 84, 881, 1989), residuals at the posterior mean.
        """
        covariance = kernel(inputs, inputs)
        centred = targets - targets.mean()
        weights = np.ones(len(targets))
        for _ in range(_REWEIGHTINGS):
            variance = weights * noise**2
            solved = np.linalg.solve(covariance + np.diag(variance + _JITTER), centred)
            residual = variance * solved
            weights = (_STUDENT + (residual / noise) ** 2) / (_STUDENT + 1)
        return cls(kernel, inputs, targets, noise, weights)

    @cached_property
    def _posterior(self) -> tuple[np.ndarray, np.ndarray]:
        """Inverse of the covariance's Cholesky factor (n, n), and the weights of the training rows (n,)."""
        covariance = self.kernel(self.inputs, self.inputs)
        covariance[np.diag_indices_from(covariance)] += self.noise**2 * self.noise_weights + _JITTER
        inverse = np.linalg.inv(np.linalg.cholesky(covariance))
        return inverse, inverse.T @ (inverse @ (self.targets - self.targets.mean()))

    def predict(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean (m,) and standard deviation (m,) of a new measurement at each row (m, d)."""
        inverse, solved = self._posterior
        means, deviations = [np.empty(0)], [np.empty(0)]
        for start in range(0, len(rows), _ROWS):
            part = rows[start : start + _ROWS]
            covariance = self.kernel(part, self.inputs)
            explained = ((covariance @ inverse.T) ** 2).sum(1)
            means.append(covariance @ solved + self.targets.mean())
            deviations.append(np.sqrt(np.maximum(self.kernel.variance(part) - explained, 0.0) + self.noise**2))
        return np.concatenate(means), np.concatenate(deviations)
