"""From a crystal to its space group, Wyckoff sites and conventional lattice."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

import numpy as np

from crystalformer_rl.crystal.descriptions import COORDINATE_TOLERANCE, representative, standard_description
from crystalformer_rl.crystal.lattice import constrain_lattice, lattice_parameters
from crystalformer_rl.crystal.structure import Crystal, crystal_status
from crystalformer_rl.crystal.tokens import MAX_SITES, Sites, decode, orbit, sort_sites
from crystalformer_rl.crystal.wyckoff import wyckoff_table
from crystalformer_rl.tables.status import Status

SYMPREC = 0.01
"""Å; how far an atom may be from its symmetric place. The value the published tokens were made with."""


class EncodeError(Exception):
    """A crystal has no token form; `status` is one of `tables.STATUSES`."""

    def __init__(self, status: str) -> None:
        super().__init__(status)
        self.status = status


def symmetrize(crystal: Crystal, symprec: float = SYMPREC) -> Sites:
    """Space group, sites and lattice of `crystal` in its standard description (`descriptions.standard_description`), any number of sites.

    The positions are those of the idealized crystal: moved by at most about `symprec` Å
    to where the symmetry puts them. Raises EncodeError.
    """
    status = crystal_status(crystal)
    if status != Status.OK:
        raise EncodeError(status)
    g, standard = _standard_cell(crystal, symprec)
    letters, elements, coords = [], [], []
    for representatives, z in _orbits(g, standard):
        letter, representative = _wyckoff_site(g, representatives)
        letters.append(letter)
        elements.append(z)
        coords.append(representative)
    sites = sort_sites(g, letters, elements, coords, constrain_lattice(g, lattice_parameters(standard.lattice)))
    if not _same_atoms(decode(sites), standard):
        raise EncodeError(Status.NOT_REPRODUCED)
    return standard_description(sites)


def space_group(crystal: Crystal, symprec: float = SYMPREC) -> int | None:
    """The number of the space group of `crystal` at a tolerance in Å; None where none is found."""
    try:
        return _standard_cell(crystal, symprec)[0] if crystal_status(crystal) == Status.OK else None
    except EncodeError:
        return None


def encode(
    crystals: Iterable[Crystal | None], symprec: float = SYMPREC, advance: Callable[[int], object] | None = None
) -> list[tuple[Sites | None, str]]:
    """`symmetrize` for each crystal with at most 20 sites; the status says why a row has none."""
    results: list[tuple[Sites | None, str]] = []
    for crystal in crystals:
        results.append(_encode_one(crystal, symprec))
        if advance is not None:
            advance(1)
    return results


def _encode_one(crystal: Crystal | None, symprec: float) -> tuple[Sites | None, str]:
    if crystal is None:
        return None, Status.UPSTREAM_FAILED
    try:
        sites = symmetrize(crystal, symprec)
    except EncodeError as error:
        return None, error.status
    return (None, Status.TOO_MANY_SITES) if len(sites) > MAX_SITES else (sites, Status.OK)


def _standard_cell(crystal: Crystal, symprec: float) -> tuple[int, Crystal]:
    """Space group and idealized conventional cell in the standard setting."""
    import moyopy

    # Its notes on cells with several primitive cells are about tables that are not read here.
    logging.getLogger("moyo").setLevel(logging.ERROR)
    cell = moyopy.Cell(crystal.lattice.tolist(), (crystal.frac_coords % 1.0).tolist(), crystal.atomic_numbers.tolist())
    # The search can be caught between two groups at one tolerance; a tighter one decides.
    for tolerance in (symprec, symprec / 3, symprec / 10, symprec / 100):
        try:
            found = moyopy.MoyoDataset(cell, symprec=tolerance, setting=moyopy.Setting.standard())
        except Exception as error:  # moyopy raises its own kinds from Rust, with no common base
            if not isinstance(error, ValueError | RuntimeError) and "Moyo" not in type(error).__name__:
                raise
            continue
        standard = found.std_cell
        return found.number, Crystal(
            np.array(standard.numbers), np.array(standard.positions) % 1.0, np.array(standard.basis)
        )
    raise EncodeError(Status.NO_SYMMETRY)


def _orbits(g: int, crystal: Crystal) -> list[tuple[np.ndarray, int]]:
    """The atoms of the conventional cell grouped by symmetry: ((M, 3) points, atomic number)."""
    table = wyckoff_table()
    general = table.n_letters(g)
    left = np.ones(len(crystal), bool)
    groups = []
    for i in range(len(crystal)):
        if not left[i]:
            continue
        images = orbit(g, general, crystal.frac_coords[i])
        delta = crystal.frac_coords[None] - images[:, None]
        near = np.abs(delta - np.rint(delta)).max(-1) < 10 * COORDINATE_TOLERANCE
        members = left & near.any(0) & (crystal.atomic_numbers == crystal.atomic_numbers[i])
        groups.append((crystal.frac_coords[members], int(crystal.atomic_numbers[i])))
        left &= ~members
    return groups


def _wyckoff_site(g: int, points: np.ndarray) -> tuple[int, np.ndarray]:
    """Letter and representative of an orbit."""
    table = wyckoff_table()
    for letter in range(1, table.n_letters(g) + 1):
        if table.multiplicity(g, letter) != len(points):
            continue
        found = representative(g, letter, points)
        if found is not None:
            return letter, found
    raise EncodeError(Status.NO_WYCKOFF_REPRESENTATIVE)


def _same_atoms(a: Crystal, b: Crystal) -> bool:
    """Whether two crystals in one frame have the same atoms, within the tolerance."""
    if len(a) != len(b):
        return False
    delta = a.frac_coords[:, None] - b.frac_coords[None]
    near = np.abs(delta - np.rint(delta)).max(-1) < 20 * COORDINATE_TOLERANCE
    near &= a.atomic_numbers[:, None] == b.atomic_numbers[None]
    return bool(near.any(1).all() and near.any(0).all())
