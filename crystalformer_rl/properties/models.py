"""The trained property models: one safetensors file of plain arrays, and prediction with numpy alone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from crystalformer_rl.crystal.structure import Crystal
from crystalformer_rl.errors import InputError
from crystalformer_rl.properties.anisotropy import Anisotropy, orientation_tensors, principal_values
from crystalformer_rl.properties.features import Elements, feature_matrix, feature_names
from crystalformer_rl.properties.gaussian_process import GaussianProcess, Kernel
from crystalformer_rl.properties.network import GapEstimate, Members, combine
from crystalformer_rl.properties.seen_formulas import seen
from crystalformer_rl.resources.mistaken import mistaken_for
from crystalformer_rl.tables.parquet import atomic_path

_FORMATS = "crystalformer_rl properties "
FORMAT = f"{_FORMATS}3"
METADATA_KEY = "crystalformer_rl"
DIELECTRIC = ("eps_electronic", "eps_total")
IONIC = "eps_ionic"
"""The ions' part, eps_total − eps_electronic; its process learns the logarithm of it and `IONIC_OFFSET`."""

IONIC_OFFSET = 0.5
MERITS = {"fom": "eps_electronic", "fom_total": "eps_total"}
"""Figures of merit, and the dielectric constant that each multiplies with the gap."""

LEADING = 64
"""Columns of an embedding, the means over atoms before the read-out, that the dielectric constants are learned from."""

FARTHEST = 2.0
"""Beyond the edge; further out a standard deviation grows no more, since nothing was measured there."""

_NO_STATE = -128  # stands for "no further oxidation state" among int8


@dataclass(frozen=True)
class Standardization:
    """Features to zero mean and unit deviation: mean (d,), scale (d,)."""

    mean: np.ndarray
    scale: np.ndarray

    @classmethod
    def of(cls, rows: np.ndarray) -> Standardization:
        """From rows (n, d); a feature that never varies is left at zero."""
        deviation = rows.std(0)
        # a constant feature says nothing in training and must not explode elsewhere
        scale = np.where(deviation > 1e-6, deviation, np.inf)
        return cls(rows.mean(0), scale)

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        return (rows - self.mean) / self.scale


@dataclass(frozen=True)
class Prediction:
    """Figures for n crystals, each (n,); `_std` is a standard deviation in the same unit.

    band_gap in eV; eps_electronic, eps_total without unit; fom = eps_electronic · band_gap and fom_total =
    eps_total · band_gap in eV. eps_electronic_1 to _3: principal values of the tensor, rising, whose mean is eps_electronic.
    in_training: whether the models learned from a crystal of this reduced formula.
    """

    band_gap: np.ndarray
    band_gap_std: np.ndarray
    eps_electronic: np.ndarray
    eps_electronic_std: np.ndarray
    eps_total: np.ndarray
    eps_total_std: np.ndarray
    fom: np.ndarray
    fom_std: np.ndarray
    fom_total: np.ndarray
    fom_total_std: np.ndarray
    insulator_probability: np.ndarray
    applicability: np.ndarray
    eps_electronic_1: np.ndarray
    eps_electronic_2: np.ndarray
    eps_electronic_3: np.ndarray
    in_training: np.ndarray


@dataclass(frozen=True)
class PropertyModels:
    """Everything that a prediction needs.

    elements: the periodic table; gap_scaling, members: the ensemble for the gap;
    dielectric_scaling, processes: a Gaussian process for the logarithm of each
    dielectric constant and of the ions' part, whose inputs are the first of those of `eps_electronic`; anisotropy: of the electronic tensor,
    from the first of these inputs likewise; calibration: name → factor on the standard deviation,
    and on the logit of being an insulator; far: what widens a standard deviation beyond the training data;
    applicability_scale: the kernel distance that counts as 1; formulas: fingerprints of those learned from; card: origin,
    licence, figures, `embedding` (the identity of the potential), `embedding_size`, `features` (the names of the others).
    """

    elements: Elements
    gap_scaling: Standardization
    members: Members
    dielectric_scaling: Standardization
    processes: Mapping[str, GaussianProcess]
    anisotropy: Anisotropy
    calibration: Mapping[str, float]
    far: Mapping[str, float]
    applicability_scale: float
    formulas: np.ndarray
    card: dict[str, Any] = field(repr=False)

    @property
    def embedding(self) -> dict[str, Any]:
        """Identity of the potential whose embeddings the models were trained on."""
        return self.card["embedding"]

    def features(self, crystals: Sequence[Crystal], embeddings: np.ndarray) -> np.ndarray:
        """Features (n, d) of crystals with their embeddings (n, e): the embedding first."""
        rows, _ = feature_matrix(crystals, self.elements)
        return np.hstack([embeddings, rows])

    def predict(self, crystals: Sequence[Crystal], embeddings: np.ndarray) -> Prediction:
        """Predict for n crystals of elements up to Z = 94 with finite embeddings (n, e)."""
        if not len(crystals):
            return Prediction(*(np.empty(0) for _ in fields(Prediction)))
        tensors = orientation_tensors(crystals, self.elements)
        known = seen([crystal.formula for crystal in crystals], self.formulas)
        return self.predict_rows(self.features(crystals, embeddings), tensors, known)

    def predict_rows(self, rows: np.ndarray, tensors: np.ndarray, in_training: np.ndarray) -> Prediction:
        """Predict from features (n, d), orientation tensors (n, K, 3, 3), and whether each formula was learned from (n,) bool."""
        estimate = self.gap_estimate(rows)
        gap, gap_std = estimate.reported(self.calibration["band_gap"])
        standardized = self.dielectric_scaling(dielectric_rows(rows, self.card["embedding_size"]))
        applicability = nearest_distance(self.processes["eps_electronic"], standardized) / self.applicability_scale
        logs = log_constants({name: process.predict(standardized) for name, process in self.processes.items()})
        eps, std = {}, {}
        for name, (mean, deviation) in logs.items():
            wider = widened(self.calibration[name], self.far[name], applicability)
            eps[name], std[name] = dielectric_constant(mean, deviation, wider)
        # the ions can only add to what the electrons screen
        eps["eps_total"] = np.maximum(eps["eps_total"], eps["eps_electronic"])
        merit = {}
        for name, constant in MERITS.items():
            product, product_std = figure_of_merit(eps[constant], std[constant], gap, gap_std)
            # the two errors are not independent: too small a gap goes with too large a constant
            merit[name] = product, product_std * self.calibration[name]
        principal = principal_values(eps["eps_electronic"], self.anisotropy.deviators(standardized, tensors))
        return Prediction(
            band_gap=gap,
            band_gap_std=gap_std,
            eps_electronic=eps["eps_electronic"],
            eps_electronic_std=std["eps_electronic"],
            eps_total=eps["eps_total"],
            eps_total_std=std["eps_total"],
            fom=merit["fom"][0],
            fom_std=merit["fom"][1],
            fom_total=merit["fom_total"][0],
            fom_total_std=merit["fom_total"][1],
            insulator_probability=estimate.insulator_probability,
            applicability=applicability,
            eps_electronic_1=principal[:, 0],
            eps_electronic_2=principal[:, 1],
            eps_electronic_3=principal[:, 2],
            in_training=in_training,
        )

    def gap_estimate(self, rows: np.ndarray) -> GapEstimate:
        """The ensemble's estimate of the gap from features (n, d)."""
        return combine(self.members(self.gap_scaling(rows)), self.calibration["insulator_logit"])

    def save(self, path: str | Path) -> None:
        """Write the models, whole or not at all, the same bytes for the same models."""
        from safetensors.numpy import save_file

        process = self.processes["eps_electronic"]
        arrays = {
            "elements.table": self.elements.table.astype(np.float32),
            "elements.states": np.where(np.isfinite(self.elements.states), self.elements.states, _NO_STATE).astype(np.int8),
            "gap.mean": self.gap_scaling.mean.astype(np.float32),
            "gap.scale": self.gap_scaling.scale.astype(np.float32),
            "dielectric.mean": self.dielectric_scaling.mean.astype(np.float32),
            "dielectric.scale": self.dielectric_scaling.scale.astype(np.float32),
            "dielectric.inputs": process.inputs.astype(np.float16),
            "anisotropy.weights": self.anisotropy.weights.astype(np.float32),
            "formulas": self.formulas.astype(np.uint32),
            **{name: array.astype(np.float16) for name, array in self.members.arrays().items()},
        }
        for name, process in self.processes.items():
            arrays[f"{name}.targets"] = process.targets.astype(np.float32)
            arrays[f"{name}.noise_weights"] = process.noise_weights.astype(np.float32)
        header = {
            "format": FORMAT,
            "kernels": {name: asdict(process.kernel) for name, process in self.processes.items()},
            "noise": {name: process.noise for name, process in self.processes.items()},
            "calibration": dict(self.calibration),
            "far": dict(self.far),
            "applicability_scale": self.applicability_scale,
            "card": self.card,
        }
        # one key: safetensors writes several in an order that changes from run to run
        metadata = {METADATA_KEY: json.dumps(header, sort_keys=True)}
        with atomic_path(path) as temporary:
            save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, temporary, metadata)

    @classmethod
    def load(cls, path: str | Path) -> PropertyModels:
        """Read a models file. Raises InputError for a missing, damaged or foreign one."""
        arrays, header = _read(Path(path))
        try:
            models = _assemble(arrays, header)
            known = models.card["features"]
        except (KeyError, TypeError, IndexError) as error:
            raise InputError(f"{path} lacks a part of the property models ({error}); train them again.") from error
        if models.card["embedding_size"] + len(known) != len(models.gap_scaling.mean) or known != feature_names(
            models.elements
        ):
            raise InputError(f"{path} was trained on other features than this version computes; train the models again.")
        return models


def dielectric_rows(rows: np.ndarray, embedding_size: int) -> np.ndarray:
    """The features (n, d) that the dielectric constants are learned from: a thousand crystals bear fewer than all."""
    return np.hstack([rows[:, : min(LEADING, embedding_size)], rows[:, embedding_size:]])


def log_constants(said: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Mean (n,) and deviation (n,) of the logarithm of each of `DIELECTRIC` from what the processes say.

    ln ε_total is the mean of two estimates: learned directly, and from ε_electronic, of which more is known, with the ions' part.
    The deviation is that of the direct one.
    """
    electronic, direct, ionic = said["eps_electronic"], said["eps_total"], said[IONIC][0]
    summed = np.log(np.exp(electronic[0]) + np.maximum(np.exp(ionic) - IONIC_OFFSET, 0.0))
    return {"eps_electronic": electronic, "eps_total": ((direct[0] + summed) / 2, direct[1])}


def dielectric_constant(mean: np.ndarray, std: np.ndarray, factor: float | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Dielectric constant and its standard deviation from mean and deviation of its logarithm, to first order."""
    constant = np.exp(mean)
    return constant, factor * constant * std


def widened(calibration: float, far: float, applicability: np.ndarray) -> np.ndarray:
    """Factors (n,) on standard deviations: the calibration, growing with the distance beyond the edge of the training data."""
    return calibration * (1 + far * np.clip(applicability - 1.0, 0.0, FARTHEST))


def figure_of_merit(
    eps: np.ndarray, eps_std: np.ndarray, gap: np.ndarray, gap_std: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The product eps · gap (eV) and the standard deviation of the product of two independent variables."""
    variance = (eps * gap_std) ** 2 + (gap * eps_std) ** 2 + (eps_std * gap_std) ** 2
    return eps * gap, np.sqrt(variance)


def nearest_distance(process: GaussianProcess, rows: np.ndarray, *, itself: bool = False) -> np.ndarray:
    """Distance (n,), in the kernel's metric and not clipped, of standardized rows to the nearest training row.

    itself: the rows are the training rows, and each is left out of its own search.
    """
    nearest = np.empty(len(rows))
    for start in range(0, len(rows), 512):
        squared = process.kernel.squared_distance(rows[start : start + 512], process.inputs)
        if itself:
            squared[np.arange(len(squared)), np.arange(start, start + len(squared))] = np.inf
        nearest[start : start + 512] = np.sqrt(squared.min(1))
    return nearest


def _read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise InputError(
            f"{path} does not exist; check the path, or train the models with `crystalformer-rl train-properties`."
        )
    try:
        if instead := mistaken_for(path, "safetensors"):
            raise InputError(f"{path} {instead}.")
        with safe_open(path, framework="numpy") as stored:
            arrays = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
            metadata = stored.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is not a readable safetensors file ({error}); fetch or train it again.") from error
    header = json.loads(metadata.get(METADATA_KEY, "{}"))
    if str(header.get("format", "")).startswith(_FORMATS) and header["format"] != FORMAT:
        raise InputError(
            f"{path} holds property models of another version ('{header['format']}', not '{FORMAT}'); train them again with "
            "`crystalformer-rl train-properties`."
        )
    if header.get("format") != FORMAT:
        raise InputError(
            f"{path} holds no property models ('{FORMAT}'); give a file made by `crystalformer-rl train-properties`."
        )
    return arrays, header


def _assemble(arrays: Mapping[str, np.ndarray], header: Mapping[str, Any]) -> PropertyModels:
    states = arrays["elements.states"].astype(float)
    states[states == _NO_STATE] = np.nan
    inputs = arrays["dielectric.inputs"].astype(float)
    processes = {}
    for name in (*DIELECTRIC, IONIC):
        targets = arrays[f"{name}.targets"].astype(float)
        weights = arrays[f"{name}.noise_weights"].astype(float)
        kernel = _kernel(header["kernels"][name])
        processes[name] = GaussianProcess(kernel, inputs[: len(targets)], targets, header["noise"][name], weights)
    tilts = arrays["anisotropy.weights"].astype(float)
    return PropertyModels(
        Elements(arrays["elements.table"].astype(float), states),
        Standardization(arrays["gap.mean"].astype(float), arrays["gap.scale"].astype(float)),
        Members.from_arrays(arrays),
        Standardization(arrays["dielectric.mean"].astype(float), arrays["dielectric.scale"].astype(float)),
        processes,
        Anisotropy(processes["eps_electronic"].kernel, inputs[: len(tilts)], tilts),
        header["calibration"],
        header["far"],
        header["applicability_scale"],
        arrays["formulas"],
        header["card"],
    )


def _kernel(stored: Mapping[str, Any]) -> Kernel:
    return Kernel(tuple(stored["blocks"]), tuple(stored["weights"]), stored["amplitude"], stored["linear"])
