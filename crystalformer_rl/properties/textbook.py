"""Crystals that every textbook has, with what was measured of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crystalformer_rl.crystal.elements import ATOMIC_NUMBERS
from crystalformer_rl.crystal.structure import Crystal


@dataclass(frozen=True)
class Textbook:
    """A crystal at its measured lattice constants with its measured gap (eV) and dielectric constants, means over directions.

    Values at room temperature, rounded: K. F. Young, H. P. R. Frederikse, J. Phys. Chem. Ref. Data 2, 313 (1973), and O. Madelung,
    Semiconductors: Data Handbook (Springer, 2004).
    """

    name: str
    crystal: Crystal
    band_gap: float
    eps_electronic: float
    eps_total: float


def _crystal(lattice: np.ndarray, sites: list[tuple[str, tuple[float, float, float]]]) -> Crystal:
    return Crystal(np.array([ATOMIC_NUMBERS[name] for name, _ in sites]), np.array([place for _, place in sites]), lattice)


def _face_centred(a: float) -> np.ndarray:
    return a / 2 * (1 - np.eye(3))


def _rock_salt(cation: str, anion: str, a: float) -> Crystal:
    return _crystal(_face_centred(a), [(cation, (0, 0, 0)), (anion, (0.5, 0.5, 0.5))])


def _zincblende(first: str, second: str, a: float) -> Crystal:
    return _crystal(_face_centred(a), [(first, (0, 0, 0)), (second, (0.25, 0.25, 0.25))])


def _wurtzite(cation: str, anion: str, a: float, c: float, u: float) -> Crystal:
    lattice = np.array([[a, 0, 0], [-a / 2, a * np.sqrt(3) / 2, 0], [0, 0, c]])
    x, y = 1 / 3, 2 / 3
    places = [(cation, (x, y, 0)), (cation, (y, x, 0.5)), (anion, (x, y, u)), (anion, (y, x, 0.5 + u))]
    return _crystal(lattice, places)


def _rutile(cation: str, anion: str, a: float, c: float, u: float) -> Crystal:
    anions = [(u, u, 0), (-u, -u, 0), (0.5 + u, 0.5 - u, 0.5), (0.5 - u, 0.5 + u, 0.5)]
    places = [(cation, (0, 0, 0)), (cation, (0.5, 0.5, 0.5)), *((anion, place) for place in anions)]
    return _crystal(np.diag([a, a, c]), places)


def _perovskite(large: str, small: str, a: float) -> Crystal:
    oxygen = [(0.5, 0.5, 0), (0.5, 0, 0.5), (0, 0.5, 0.5)]
    return _crystal(a * np.eye(3), [(large, (0, 0, 0)), (small, (0.5, 0.5, 0.5)), *(("O", place) for place in oxygen)])


def _barium_titanate() -> Crystal:
    """Tetragonal, polar: G. H. Kwei et al., J. Phys. Chem. 97, 2368 (1993)."""
    oxygen = [(0.5, 0.5, -0.024), (0.5, 0, 0.489), (0, 0.5, 0.489)]
    sites = [("Ba", (0, 0, 0)), ("Ti", (0.5, 0.5, 0.522)), *(("O", place) for place in oxygen)]
    return _crystal(np.diag([3.994, 3.994, 4.034]), sites)


def _hafnia() -> Crystal:
    """Monoclinic: R. Ruh, P. W. R. Corfield, J. Am. Ceram. Soc. 53, 126 (1970)."""
    beta = np.radians(99.2)
    lattice = np.array([[5.117, 0, 0], [0, 5.175, 0], [5.291 * np.cos(beta), 0, 5.291 * np.sin(beta)]])
    sites = [("Hf", (0.276, 0.040, 0.208)), ("O", (0.074, 0.332, 0.347)), ("O", (0.449, 0.758, 0.480))]
    every = [
        (name, place)
        for name, (x, y, z) in sites
        for place in ((x, y, z), (-x, -y, -z), (-x, y + 0.5, 0.5 - z), (x, 0.5 - y, z + 0.5))
    ]
    return _crystal(lattice, every)


TEXTBOOK = (
    Textbook("MgO", _rock_salt("Mg", "O", 4.212), 7.8, 3.0, 9.8),
    Textbook("NaCl", _rock_salt("Na", "Cl", 5.640), 8.5, 2.3, 5.9),
    Textbook("diamond", _zincblende("C", "C", 3.567), 5.5, 5.7, 5.7),
    Textbook("Si", _zincblende("Si", "Si", 5.431), 1.1, 11.9, 11.9),
    Textbook("GaAs", _zincblende("Ga", "As", 5.653), 1.4, 10.9, 12.9),
    Textbook("AlN", _wurtzite("Al", "N", 3.112, 4.982, 0.382), 6.2, 4.6, 8.5),
    Textbook("ZnO", _wurtzite("Zn", "O", 3.250, 5.207, 0.382), 3.4, 3.7, 8.1),
    Textbook("HfO₂", _hafnia(), 5.7, 4.4, 16.0),
    Textbook("TiO₂, rutile", _rutile("Ti", "O", 4.594, 2.959, 0.305), 3.0, 7.4, 114.0),
    Textbook("SrTiO₃", _perovskite("Sr", "Ti", 3.905), 3.2, 5.2, 300.0),
    Textbook("BaTiO₃", _barium_titanate(), 3.2, 5.3, 2000.0),
)
