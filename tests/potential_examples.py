"""Crystals that the tests of potentials and relaxation share, written out by hand."""

from __future__ import annotations

import numpy as np

from crystalformer_rl.crystal.lattice import lattice_matrix
from crystalformer_rl.crystal.structure import Crystal
from crystalformer_rl.crystal.tokens import Sites, sort_sites


def sites(g: int, lattice: tuple[float, ...], *rows: tuple[int, int, float, float, float]) -> Sites:
    """Sites from (letter, atomic number, x, y, z) rows."""
    return sort_sites(g, [r[0] for r in rows], [r[1] for r in rows], [list(r[2:]) for r in rows], lattice)


def rock_salt(a: float = 5.8) -> Sites:
    """NaCl, one degree of freedom."""
    return sites(225, (a, a, a, 90, 90, 90), (1, 11, 0, 0, 0), (2, 17, 0.5, 0.5, 0.5))


def rutile(a: float = 4.7, c: float = 2.9, x: float = 0.31) -> Sites:
    """TiO2: a, c and the oxygen's x are free."""
    return sites(136, (a, a, c, 90, 90, 90), (1, 22, 0, 0, 0), (6, 8, x, x, 0))


def perovskite(a: float = 4.05) -> Sites:
    """SrTiO3, cubic: one degree of freedom."""
    return sites(221, (a, a, a, 90, 90, 90), (1, 38, 0, 0, 0), (2, 22, 0.5, 0.5, 0.5), (3, 8, 0, 0.5, 0.5))


def quartz() -> Sites:
    """SiO2, α-quartz, pulled a few per cent off its minimum: two lattice parameters, four coordinates."""
    return sites(152, (5.0, 5.0, 5.4, 90, 90, 120), (1, 14, 0.46, 0, 1 / 3), (3, 8, 0.42, 0.28, 0.23))


def monoclinic() -> Sites:
    """ZrO2, baddeleyite, a little off its minimum: four lattice parameters, nine coordinates."""
    return sites(
        14,
        (5.2, 5.25, 5.4, 90, 99, 90),
        (5, 40, 0.28, 0.04, 0.21),
        (5, 8, 0.07, 0.34, 0.34),
        (5, 8, 0.45, 0.76, 0.48),
    )


def two_close_atoms() -> Crystal:
    """Two atoms 0.3 Å apart."""
    return Crystal(np.array([11, 17]), np.array([[0, 0, 0], [0.06, 0, 0]]), np.eye(3) * 5.0)


def lonely_atom() -> Crystal:
    """One atom in a cell of 30 Å."""
    return Crystal(np.array([11]), np.zeros((1, 3)), np.eye(3) * 30.0)


def off_minimum(crystal: Crystal, seed: int = 0) -> Crystal:
    """The crystal with every atom moved by about 0.05 Å and the cell strained by about 2 %."""
    rng = np.random.default_rng(seed)
    strain = 0.02 * rng.normal(size=(3, 3))
    shift = 0.05 * rng.normal(size=(len(crystal), 3)) @ np.linalg.inv(crystal.lattice)
    return Crystal(crystal.atomic_numbers, crystal.frac_coords + shift, crystal.lattice @ (np.eye(3) + strain + strain.T))


def from_parameters(numbers: list[int], coords: list[list[float]], parameters: tuple[float, ...]) -> Crystal:
    """A crystal from lattice parameters (Å, degrees)."""
    return Crystal(np.array(numbers), np.array(coords), lattice_matrix(np.array(parameters)))
