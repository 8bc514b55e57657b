"""How the electronic dielectric tensor differs between directions: its logarithm, less its mean, from tensors of the structure.

ln ε = ln of a mean + D, and D(crystal) = Σ_k c_k(x) T_k: the T_k are traceless tensors of the atoms' surroundings, which turn with the
crystal and vanish where its symmetry says so, and each c_k is a Gaussian process of the crystal's features x. So a cubic crystal is
isotropic and a uniaxial one has two values that are equal, whatever was learned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from crystalformer_rl.crystal.structure import Crystal
from crystalformer_rl.properties.features import SAME_ATOM, Elements, column_of
from crystalformer_rl.properties.gaussian_process import Kernel

N_TENSORS = 13
NOISE = 0.05
SIZE = 0.05
"""Noise of ln ε's components, and what a prior coefficient is worth with tensors of unit size; chosen by cross-validation."""

_SMOOTH, _LINEAR, _CONSTANT = 0.6 * SIZE, 0.5 * SIZE, 0.3 * SIZE**2
_STUDENT = 4.0  # degrees of freedom of the noise
_REWEIGHTINGS = 2
_TINY = 1e-9
_ISOTROPIC = 1e-3


def orientation_tensors(crystals: Sequence[Crystal], elements: Elements) -> np.ndarray:
    """Traceless symmetric tensors (n, N_TENSORS, 3, 3) of crystals: how their bonds are oriented, weighed in several ways.

    Sums of r̂r̂ᵀ − 1/3 over neighbours, averaged over atoms: over bonds, by electronegativity difference, between like atoms, by
    size, around anions and cations; and over farther neighbours as dipoles act on each other, with 1/r³.
    """
    return np.array([_tensors(crystal, elements) for crystal in crystals]).reshape(len(crystals), N_TENSORS, 3, 3)


def _tensors(crystal: Crystal, elements: Elements) -> np.ndarray:
    from pymatgen.optimization.neighbors import find_points_in_spheres

    z = np.asarray(crystal.atomic_numbers) - 1
    n, volume = len(z), crystal.volume / len(z)
    reach = 3.0 * volume ** (1 / 3)
    lattice = np.ascontiguousarray(crystal.lattice, dtype=float)
    positions = np.ascontiguousarray((np.asarray(crystal.frac_coords, float) % 1.0) @ lattice)
    found = find_points_in_spheres(positions, positions, float(reach), np.ones(3, dtype=np.int64), lattice, tol=1e-8)
    keep = found[3] > SAME_ATOM
    i, j, image, distance = found[0][keep], found[1][keep], found[2][keep], found[3][keep]
    direction = (positions[j] + image @ lattice - positions[i]) / distance[:, None]
    oriented = direction[:, :, None] * direction[:, None, :] - np.eye(3) / 3

    nearest = np.full(n, np.inf)
    np.minimum.at(nearest, i, distance)
    electronegativity, radius = (elements.table[z, column_of(name)] for name in ("electronegativity", "radius"))
    anion = electronegativity == electronegativity.max()
    difference = np.abs(electronegativity[i] - electronegativity[j])
    bond = np.exp(1 - np.minimum(distance / nearest[i], 3.0) ** 6)
    bond = bond / np.bincount(i, bond, n)[i]
    wide = np.exp(-((distance / (1.2 * nearest[i])) ** 2))
    wide = wide / np.bincount(i, wide, n)[i]
    dipole = volume / distance**3 * 0.5 * (1 + np.cos(np.pi * distance / reach))
    weights = np.array([
        bond, bond * difference, bond * (z[i] == z[j]), bond * (2 - difference) * radius[i], bond * anion[i], bond * ~anion[i],
        bond * (radius[i] + radius[j]) / distance, wide, wide * difference,
        dipole, dipole * (radius[i] * radius[j]) ** 3 / np.mean(radius**3) ** 2, dipole * (anion[i] & anion[j]),
        dipole * (~anion[i] & anion[j]),
    ])  # fmt: skip
    return (weights @ oriented.reshape(-1, 9)).reshape(N_TENSORS, 3, 3) / n


@dataclass(frozen=True)
class Anisotropy:
    """Coefficients of the tensors as a function of the crystal's features.

    kernel: whose metric of the crystals is used, not its amplitudes; inputs (m, d): standardized features it learned from; weights (m, N_TENSORS): what each of these
    crystals adds to each coefficient.
    """

    kernel: Kernel
    inputs: np.ndarray
    weights: np.ndarray

    @classmethod
    def fit(cls, kernel: Kernel, inputs: np.ndarray, tensors: np.ndarray, deviators: np.ndarray) -> Anisotropy:
        """From features (m, d), tensors (m, N_TENSORS, 3, 3) and deviators (m, 3, 3) of ln ε; outliers have little say."""
        components = _components(tensors).transpose(0, 2, 1)  # (m, 5, K)
        scale = np.sqrt((components**2).mean((0, 1)))
        weights = np.zeros(tensors.shape[:2])
        # what is isotropic by symmetry says nothing of the coefficients
        telling = np.sqrt((components**2).sum((1, 2))) > _ISOTROPIC
        components, truth = (components / scale)[telling], _components(deviators)[telling]
        m = len(truth)
        shared = _covariance(kernel, inputs[telling], inputs[telling])
        covariance = np.einsum("nm,nak,mbk->namb", shared, components, components, optimize=True).reshape(5 * m, 5 * m)
        trust = np.ones(m)
        for _ in range(_REWEIGHTINGS):
            variance = np.repeat(trust * NOISE**2, 5)
            noisy = covariance.copy()
            noisy[np.diag_indices_from(noisy)] += variance + _TINY
            solved = np.linalg.solve(noisy, truth.reshape(-1))
            residual = (variance * solved).reshape(m, 5)
            trust = (_STUDENT + (residual**2).mean(1) / NOISE**2) / (_STUDENT + 1)
        weights[telling] = np.einsum("mak,ma->mk", components, solved.reshape(m, 5)) / scale
        return cls(kernel, inputs, weights)

    def deviators(self, rows: np.ndarray, tensors: np.ndarray) -> np.ndarray:
        """Deviators (n, 3, 3) of ln ε for standardized features (n, d) with their tensors (n, N_TENSORS, 3, 3)."""
        coefficients = _covariance(self.kernel, rows, self.inputs) @ self.weights
        return np.einsum("nk,nkij->nij", coefficients, tensors)


def principal_values(mean: np.ndarray, deviators: np.ndarray) -> np.ndarray:
    """Principal values (n, 3), rising, of tensors with the given mean (n,) of them and deviators (n, 3, 3) of their logarithm."""
    stretched = np.exp(np.linalg.eigvalsh(deviators))
    return mean[:, None] * stretched / stretched.mean(1, keepdims=True)


def log_deviators(tensors: np.ndarray) -> np.ndarray:
    """Deviators (n, 3, 3) of the logarithms of dielectric tensors (n, 3, 3), whose principal values are at least 1."""
    values, axes = np.linalg.eigh((tensors + tensors.transpose(0, 2, 1)) / 2)
    logs = np.log(np.maximum(values, 1.0))
    logs = logs - logs.mean(1, keepdims=True)
    return np.einsum("nij,nj,nkj->nik", axes, logs, axes)


def _covariance(kernel: Kernel, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    own = Kernel(kernel.blocks, kernel.weights, _SMOOTH, _LINEAR)
    return own(a, b) - 1.0 + _CONSTANT  # the kernel's constant is far too large for these


def _components(tensors: np.ndarray) -> np.ndarray:
    """Five numbers (…, 5) of traceless symmetric tensors (…, 3, 3) with the tensors' scalar product."""
    x, y, z = (tensors[..., i, i] for i in range(3))
    off = [np.sqrt(2.0) * tensors[..., i, j] for i, j in ((0, 1), (0, 2), (1, 2))]
    return np.stack([(x - y) / np.sqrt(2.0), (2 * z - x - y) / np.sqrt(6.0), *off], -1)
