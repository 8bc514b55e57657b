"""What DFT would add to a potential's formation energy, learned from crystals that have both.

Kernel ridge regression on the potential's own embedding of the relaxed crystal and on its composition, with a part of the crystals as
centres (A. J. Smola, B. Schölkopf, Proc. ICML 2000, 911): crystals whose atoms the potential sees alike are mistaken alike.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from crystalformer_rl.crystal.elements import SYMBOLS
from crystalformer_rl.errors import InputError
from crystalformer_rl.resources.stability_file import METADATA_KEY, read_header
from crystalformer_rl.tables.parquet import atomic_path

CLIP = 5.0
"""Standard deviations; a standardized feature further out enters at this value."""

_STEP = CLIP / 127  # standardized features are kept as whole numbers of this
_SHARES = 255  # atom fractions are kept in this many parts
_ELEMENTS = len(SYMBOLS)
_ROWS = 512  # rows predicted at a time, which bounds memory
_SCALE = 1.0  # of the squared distance
_RIDGE = 0.1
_JITTER = 1e-3
_LOW, _HIGH = -0.25, 0.4  # eV/atom about the median; what lies beyond is an accident, not an error to learn


@dataclass(frozen=True)
class EnergyErrors:
    """A fitted regression.

    mean, scale (d,): of the embedding; inputs (m, d) int8 and shares (m, elements) uint8: embeddings, standardized, and atom
    fractions of the crystals that are centres; weights (m,) and offset, eV/atom; reach: the distance that counts as 1 in
    `applicability`; header: identities of the potentials, calibrations, origin.
    """

    mean: np.ndarray
    scale: np.ndarray
    inputs: np.ndarray
    shares: np.ndarray
    weights: np.ndarray
    offset: float
    reach: float
    header: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """Of the weights of the potential whose errors these are."""
        return str(self.header["potential"]["weights_sha256"])

    def predict(self, compositions: Sequence[np.ndarray], embeddings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """For n crystals the expected error (eV/atom, DFT less potential) and the applicability, above about 1 extrapolated.

        compositions: atomic numbers of each; embeddings (n, d), NaN for a crystal that has none, whose figures are NaN.
        """
        rows = _features(_quantized(embeddings, self.mean, self.scale), fractions(compositions))
        known = self._inputs
        error, applicability = np.empty(len(rows)), np.empty(len(rows))
        for start in range(0, len(rows), _ROWS):
            squared = _squared_distance(rows[start : start + _ROWS], known)
            error[start : start + _ROWS] = self.offset + np.exp(-_SCALE * squared) @ self.weights
            applicability[start : start + _ROWS] = np.sqrt(squared.min(1)) / self.reach
        return error, applicability

    @property
    def _inputs(self) -> np.ndarray:
        return _features(self.inputs, self.shares)

    def save(self, path: str | Path) -> None:
        """Write it, whole or not at all."""
        from safetensors.numpy import save_file

        arrays = {
            "mean": self.mean.astype(np.float32),
            "scale": self.scale.astype(np.float32),
            "inputs": self.inputs,
            "shares": self.shares,
            "weights": self.weights.astype(np.float32),
        }
        header = {**self.header, "offset": self.offset, "reach": self.reach}
        with atomic_path(path) as temporary:
            save_file(arrays, temporary, {METADATA_KEY: json.dumps(header, sort_keys=True)})

    @classmethod
    def load(cls, path: str | Path) -> EnergyErrors:
        """From a stability file. Raises InputError for a missing, damaged or foreign one."""
        from safetensors import SafetensorError, safe_open

        header = read_header(path)
        try:
            with safe_open(path, framework="numpy") as stored:
                arrays = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
            return cls(
                arrays["mean"].astype(float),
                arrays["scale"].astype(float),
                arrays["inputs"],
                arrays["shares"],
                arrays["weights"].astype(float),
                float(header["offset"]),
                float(header["reach"]),
                header,
            )
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path} lacks a part of what is known of stability ({error}); fetch it again.") from error


def fit(
    compositions: Sequence[np.ndarray],
    embeddings: np.ndarray,
    errors: np.ndarray,
    centres: np.ndarray,
    header: Mapping[str, Any],
) -> EnergyErrors:
    """The regression on n crystals: atomic numbers of each, embeddings (n, d), errors (n,) in eV/atom, DFT less potential.

    centres (m,): which of them are kept.
    """
    from scipy.linalg import cho_factor, cho_solve

    mean, deviation = embeddings[centres].mean(0), embeddings[centres].std(0)
    scale = np.where(deviation > 1e-6, deviation, np.inf)
    inputs, shares = _quantized(embeddings, mean, scale).astype(np.int8), fractions(compositions)
    rows = _features(inputs, shares)
    offset = float(np.median(errors))
    kernel = np.exp(-_SCALE * _squared_distance(rows, rows[centres]))
    normal = kernel.T @ kernel + _RIDGE * kernel[centres]
    normal[np.diag_indices_from(normal)] += _JITTER
    weights = cho_solve(cho_factor(normal, overwrite_a=True), kernel.T @ np.clip(errors - offset, _LOW, _HIGH))
    between = np.log(np.maximum(kernel[centres], 1e-300)) / -_SCALE
    between[np.diag_indices_from(between)] = np.inf
    reach = float(np.quantile(np.sqrt(between.min(1)), 0.9))
    return EnergyErrors(mean, scale, inputs[centres], shares[centres], weights, offset, reach, header)


def fractions(compositions: Sequence[np.ndarray]) -> np.ndarray:
    """(n, elements) uint8: atom fractions in parts of 255."""
    found = np.zeros((len(compositions), _ELEMENTS))
    for row, numbers in zip(found, compositions, strict=True):
        np.add.at(row, np.asarray(numbers, int) - 1, 1 / len(numbers))
    return np.round(found * _SHARES).astype(np.uint8)


def _quantized(embeddings: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
    return np.round(np.clip((embeddings - mean) / scale, -CLIP, CLIP) / _STEP)


def _features(inputs: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Embeddings weigh as their mean square, fractions as they are."""
    return np.hstack([inputs * (_STEP / np.sqrt(inputs.shape[1])), shares / _SHARES])


def _squared_distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.maximum((a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T, 0.0)
