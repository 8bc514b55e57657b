"""A crystal as space group, sites and lattice: the form in which a policy reads and writes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from crystalformer_rl.crystal.lattice import lattice_matrix
from crystalformer_rl.crystal.structure import Crystal
from crystalformer_rl.crystal.wyckoff import N_LETTERS, N_SPACE_GROUPS, atoms_in_cell, centring_vectors, wyckoff_table
from crystalformer_rl.errors import InputError

MAX_SITES = 20
"""Sites in a token sequence of 21; the last place stays padding, where the lattice is read."""


@dataclass(frozen=True)
class Sites:
    """Symmetry-inequivalent sites of a crystal, by rising Wyckoff letter.

    `encode` sorts them by (letter, x, y, z), as policies are trained; a policy's own samples keep the order
    in which they were sampled, since their log-probability belongs to that order.

    space_group: 1 to 230; wyckoff: (n,) int letters from 1; elements: (n,) int atomic numbers;
    frac_coords: (n, 3) representatives that satisfy x = op₀(x) mod 1, conventional cell;
    lattice_parameters: (6,) a, b, c in Å, α, β, γ in degrees, conventional cell.
    """

    space_group: int
    wyckoff: np.ndarray
    elements: np.ndarray
    frac_coords: np.ndarray
    lattice_parameters: np.ndarray

    def __len__(self) -> int:
        return len(self.wyckoff)

    @property
    def n_atoms(self) -> int:
        """Atoms in the conventional cell."""
        return atoms_in_cell(self.space_group, self.wyckoff)

    def fingerprint(self) -> tuple[int, tuple[tuple[int, int], ...]]:
        """Space group and the sorted pairs of letter and element: what remains when coordinates are forgotten."""
        return self.space_group, tuple(sorted(zip(self.wyckoff.tolist(), self.elements.tolist(), strict=True)))


def orbit(g: int, letter: int, representative: np.ndarray) -> np.ndarray:
    """(M, 3) fractional coordinates, in [0, 1), of all atoms of a site in the conventional cell."""
    operations = wyckoff_table().operations(g, letter)
    return (operations[:, :, :3] @ np.asarray(representative, float) + operations[:, :, 3]) % 1.0


def decode(sites: Sites) -> Crystal:
    """The crystal in its conventional cell."""
    orbits = [orbit(sites.space_group, w, x) for w, x in zip(sites.wyckoff, sites.frac_coords, strict=True)]
    numbers = [np.full(len(o), z) for o, z in zip(orbits, sites.elements, strict=True)]
    return Crystal(np.concatenate(numbers), np.concatenate(orbits), lattice_matrix(sites.lattice_parameters))


def primitive(sites: Sites) -> Crystal:
    """The crystal in a primitive cell: one atom of each set that the centring vectors tie together."""
    conventional = decode(sites)
    transformation = primitive_vectors(sites.space_group)
    keep = primitive_atoms(sites)
    coords = conventional.frac_coords[keep] @ np.linalg.inv(transformation)
    return Crystal(conventional.atomic_numbers[keep], coords % 1.0, transformation @ conventional.lattice)


_PRIMITIVE_BASES = {
    "P": np.eye(3),
    "A": np.array([[1, 0, 0], [0, 0.5, -0.5], [0, 0.5, 0.5]]),
    "C": np.array([[0.5, 0.5, 0], [-0.5, 0.5, 0], [0, 0, 1]]),
    "I": np.array([[-0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.5, 0.5, -0.5]]),
    "F": np.array([[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]),
    "R": np.array([[2, 1, 1], [-1, 1, 1], [-1, -2, 1]]) / 3,
}


def primitive_vectors(g: int) -> np.ndarray:
    """(3, 3): primitive lattice vectors as rows, in units of the conventional ones."""
    points = {tuple(np.rint(v * 6).astype(int)) for v in centring_vectors(g)}
    return next(
        basis
        for basis in _PRIMITIVE_BASES.values()
        if round(1 / abs(np.linalg.det(basis))) == len(points)
        and all(tuple(np.rint((row % 1.0) * 6).astype(int) % 6) in points for row in basis)
    )


def primitive_atoms(sites: Sites) -> np.ndarray:
    """Indices of the conventional cell's atoms that make up one primitive cell, by the order of `decode`."""
    kept: list[int] = []
    start = 0
    vectors = centring_vectors(sites.space_group)
    for letter, representative in zip(sites.wyckoff, sites.frac_coords, strict=True):
        points = orbit(sites.space_group, letter, representative)
        left = np.ones(len(points), bool)
        for i in range(len(points)):
            if not left[i]:
                continue
            kept.append(start + i)
            delta = points[None] - (points[i] + vectors)[:, None]
            delta -= np.rint(delta)
            left[np.argmin(np.abs(delta).sum(-1), axis=1)] = False
        start += len(points)
    return np.array(kept)


def make_sites(g: int, wyckoff: Any, elements: Any, frac_coords: Any, lattice_parameters: Any) -> Sites:
    """`Sites` from anything that makes arrays, in the order given."""
    coords = np.asarray(frac_coords, float).reshape(-1, 3)
    return Sites(int(g), np.asarray(wyckoff, int), np.asarray(elements, int), coords, np.asarray(lattice_parameters, float))


def sort_sites(g: int, wyckoff: Any, elements: Any, frac_coords: Any, lattice_parameters: Any) -> Sites:
    """`make_sites` in the order that policies are trained on: by letter, then x, y, z."""
    sites = make_sites(g, wyckoff, elements, frac_coords, lattice_parameters)
    order = np.lexsort((*sites.frac_coords.T[::-1], sites.wyckoff))
    return make_sites(g, sites.wyckoff[order], sites.elements[order], sites.frac_coords[order], lattice_parameters)


def token_columns(sites: Sequence[Sites | None], *, coords_name: str = "frac_coords") -> dict[str, list[Any]]:
    """The columns of the tokens table, without `id`; None gives nulls."""
    return {
        "space_group": [None if s is None else s.space_group for s in sites],
        "wyckoff": [None if s is None else s.wyckoff.tolist() for s in sites],
        "elements": [None if s is None else s.elements.tolist() for s in sites],
        coords_name: [None if s is None else s.frac_coords.ravel().tolist() for s in sites],
        "lattice_parameters": [None if s is None else s.lattice_parameters.tolist() for s in sites],
    }


def sites_from_table(table: pa.Table, source: str) -> list[Sites | None]:
    """The sites of each row of a tokens table, or of a table that carries tokens beside crystals.

    A null row gives None. `source` names the table in the InputError that a row
    with impossible tokens raises.
    """
    coords_name = "site_frac_coords" if "site_frac_coords" in table.column_names else "frac_coords"
    names = ("space_group", "wyckoff", "elements", coords_name, "lattice_parameters")
    missing = [name for name in names if name not in table.column_names]
    if missing:
        raise InputError(f"{source} has no column '{missing[0]}', so it is not a tokens table; make one with `tokenize`.")
    columns = [table.column(name).to_pylist() for name in names]
    rows: list[Sites | None] = []
    for i, row in enumerate(zip(*columns, strict=True)):
        if any(value is None for value in row):
            rows.append(None)
            continue
        fault = _fault(*row)
        if fault:
            raise InputError(f"{source}, row {i}: {fault}; correct the row or tokenize the crystal again.")
        rows.append(make_sites(*row))
    return rows


def _fault(g: int, wyckoff: list[int], elements: list[int], coords: list[float], lattice: list[float]) -> str:
    """What makes a row of tokens impossible; empty for a good one."""
    n = len(wyckoff)
    if not 1 <= g <= N_SPACE_GROUPS:
        return f"space_group {g} is not within 1 to {N_SPACE_GROUPS}"
    if n == 0:
        return "there are no sites"
    if len(elements) != n or len(coords) != 3 * n or len(lattice) != 6:
        return f"{n} letters, {len(elements)} elements, {len(coords)} coordinates and {len(lattice)} lattice parameters do not fit"
    largest = wyckoff_table().n_letters(g)
    if not all(1 <= w <= min(largest, N_LETTERS) for w in wyckoff):
        return f"space group {g} has Wyckoff letters 1 to {largest}, found {max(wyckoff, default=0)}"
    if not all(1 <= z <= 118 for z in elements):
        return "an atomic number is not within 1 to 118"
    if not np.all(np.isfinite([*coords, *lattice])) or min(lattice) <= 0:
        return "coordinates or lattice parameters are not finite, or a length or angle is not positive"
    return ""
