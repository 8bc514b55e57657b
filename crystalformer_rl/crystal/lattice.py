"""Lattice parameters, lattice vectors, and what each crystal system leaves free."""

from __future__ import annotations

import numpy as np

_FREE_BY_SYSTEM = (
    (2, (1, 1, 1, 1, 1, 1)),
    (15, (1, 1, 1, 0, 1, 0)),
    (74, (1, 1, 1, 0, 0, 0)),
    (194, (1, 0, 1, 0, 0, 0)),
    (230, (1, 0, 0, 0, 0, 0)),
)


def free_lattice_parameters(g: int) -> np.ndarray:
    """(6,) bool: which of a, b, c, α, β, γ may vary in space group `g`, conventional cell."""
    return next(np.array(free, bool) for last, free in _FREE_BY_SYSTEM if g <= last)


def constrain_lattice(g: int, parameters: np.ndarray) -> np.ndarray:
    """Lattice parameters (6,) (Å, degrees) with those that space group `g` ties or fixes set to what it demands."""
    a, b, c, alpha, beta, gamma = (float(x) for x in parameters)
    if g <= 2:
        return np.array([a, b, c, alpha, beta, gamma])
    if g <= 15:
        return np.array([a, b, c, 90.0, beta, 90.0])
    if g <= 74:
        return np.array([a, b, c, 90.0, 90.0, 90.0])
    if g <= 142:
        return np.array([a, a, c, 90.0, 90.0, 90.0])
    if g <= 194:
        return np.array([a, a, c, 90.0, 90.0, 120.0])
    return np.array([a, a, a, 90.0, 90.0, 90.0])


def lattice_matrix(parameters: np.ndarray) -> np.ndarray:
    """Lattice vectors as rows (3, 3), Å, from a, b, c (Å) and α, β, γ (degrees); a along x, b in the xy plane.

    Angles that close no cell give a matrix with nan.
    """
    a, b, c = (float(x) for x in parameters[:3])
    cos_alpha, cos_beta, cos_gamma = (_cosine(angle) for angle in parameters[3:])
    sin_gamma = np.sqrt(1 - cos_gamma**2)
    with np.errstate(invalid="ignore", divide="ignore"):
        c_y = (cos_alpha - cos_beta * cos_gamma) / sin_gamma
        c_z = np.sqrt(1 - cos_beta**2 - c_y**2)
    return np.array([[a, 0, 0], [b * cos_gamma, b * sin_gamma, 0], [c * cos_beta, c * c_y, c * c_z]])


def _cosine(degrees: float) -> float:
    # Exact zeros and halves keep cells of high symmetry exact.
    return {90.0: 0.0, 60.0: 0.5, 120.0: -0.5}.get(float(degrees), float(np.cos(np.radians(degrees))))


def lattice_parameters(lattice: np.ndarray) -> np.ndarray:
    """a, b, c (Å) and α, β, γ (degrees) of lattice vectors given as rows."""
    lengths = np.linalg.norm(lattice, axis=1)
    pairs = ((1, 2), (0, 2), (0, 1))
    cosines = [lattice[i] @ lattice[j] / (lengths[i] * lengths[j]) for i, j in pairs]
    return np.concatenate([lengths, np.degrees(np.arccos(np.clip(cosines, -1, 1)))])
