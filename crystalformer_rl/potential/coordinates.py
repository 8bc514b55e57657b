"""The coordinates that a crystal's symmetry leaves free, and the forces along them.

A crystal is described by its Wyckoff sites. What may vary without leaving the
space group: of each site the coordinates that its position leaves free, and of
the lattice the symmetric strains that its crystal system admits (6, 4, 3, 2, 2 or 1
of them). All derivatives are taken in the primitive cell.

The vector q collects them in units that make its entries comparable: the part for
a site is the Cartesian displacement (Å) of its representative times √m, m atoms of
the orbit in the primitive cell, so that |q|² is the sum of all atoms' squared
displacements; the part for the lattice is a symmetric strain (dimensionless) in an
orthonormal basis.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crystalformer_rl.crystal.lattice import constrain_lattice, lattice_matrix, lattice_parameters
from crystalformer_rl.crystal.structure import Crystal
from crystalformer_rl.crystal.tokens import Sites, primitive_atoms, primitive_vectors, sort_sites
from crystalformer_rl.crystal.wyckoff import wyckoff_table

_XX, _YY, _ZZ = (np.diag(row).astype(float) for row in np.eye(3))
_YZ, _XZ, _XY = (np.array(m, float) / np.sqrt(2) for m in (
    [[0, 0, 0], [0, 0, 1], [0, 1, 0]], [[0, 0, 1], [0, 0, 0], [1, 0, 0]], [[0, 1, 0], [1, 0, 0], [0, 0, 0]]))  # fmt: skip


def free_strains(g: int) -> np.ndarray:
    """(k, 3, 3) orthonormal symmetric strains that keep the crystal system of space group `g`.

    Cartesian axes as in `lattice_matrix`: a along x, b in the xy plane; monoclinic with b unique.
    """
    if g <= 2:
        basis = [_XX, _YY, _ZZ, _YZ, _XZ, _XY]
    elif g <= 15:
        basis = [_XX, _YY, _ZZ, _XZ]
    elif g <= 74:
        basis = [_XX, _YY, _ZZ]
    elif g <= 194:
        basis = [(_XX + _YY) / np.sqrt(2), _ZZ]
    else:
        basis = [np.eye(3) / np.sqrt(3)]
    return np.stack(basis)


@dataclass(frozen=True)
class Coordinates:
    """The free coordinates of one crystal, with q = 0 where it started.

    space_group, wyckoff, elements: of the sites; representatives: (n, 3) fractional, conventional
    cell; site: (N,) site of each atom of the primitive cell; rotations, translations: (N, 3, 3) and
    (N, 3), which take a representative to the atom; numbers: (N,); lattice: (3, 3) conventional, Å;
    transformation: (3, 3) primitive vectors in units of the conventional ones; directions:
    (p, 3) fractional displacements of representatives, one a positional entry of q, and direction_site
    (p,) its site; strains: (k, 3, 3).
    """

    space_group: int
    wyckoff: np.ndarray
    elements: np.ndarray
    representatives: np.ndarray
    site: np.ndarray
    rotations: np.ndarray
    translations: np.ndarray
    numbers: np.ndarray
    lattice: np.ndarray
    transformation: np.ndarray
    directions: np.ndarray
    direction_site: np.ndarray
    strains: np.ndarray

    @classmethod
    def of(cls, sites: Sites) -> Coordinates:
        """The coordinates of a crystal given by its sites."""
        g, table = sites.space_group, wyckoff_table()
        lattice = lattice_matrix(sites.lattice_parameters)
        operations = [table.operations(g, int(w)) for w in sites.wyckoff]
        keep = primitive_atoms(sites)
        site = np.repeat(np.arange(len(sites)), [len(o) for o in operations])[keep]
        stacked = np.concatenate(operations)[keep]
        multiplicity = np.bincount(site, minlength=len(sites))
        directions = [
            _free_directions(o[0, :, :3], lattice) / np.sqrt(m) for o, m in zip(operations, multiplicity, strict=True)
        ]
        return cls(
            g,
            sites.wyckoff,
            sites.elements,
            np.asarray(sites.frac_coords, float),
            site,
            stacked[:, :, :3],
            stacked[:, :, 3],
            np.asarray(sites.elements)[site],
            lattice,
            primitive_vectors(g),
            np.concatenate(directions),
            np.repeat(np.arange(len(sites)), [len(d) for d in directions]),
            free_strains(g),
        )

    @property
    def n_positional(self) -> int:
        return len(self.directions)

    def __len__(self) -> int:
        return len(self.directions) + len(self.strains)

    def strain(self, q: np.ndarray) -> np.ndarray:
        """(3, 3) symmetric strain of the cell from where it started."""
        return np.tensordot(q[self.n_positional :], self.strains, 1)

    def _sites_at(self, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        moved = self.representatives.copy()
        np.add.at(moved, self.direction_site, q[: self.n_positional, None] * self.directions)
        return moved, self.lattice @ (np.eye(3) + self.strain(q))

    def crystal(self, q: np.ndarray) -> Crystal:
        """The primitive cell at q."""
        moved, lattice = self._sites_at(q)
        coords = np.einsum("nij,nj->ni", self.rotations, moved[self.site]) + self.translations
        return Crystal(self.numbers, coords @ np.linalg.inv(self.transformation), self.transformation @ lattice)

    def sites(self, q: np.ndarray) -> Sites:
        """The tokens at q."""
        moved, lattice = self._sites_at(q)
        wrapped = moved % 1.0
        wrapped[wrapped > 1.0 - 1e-9] = 0.0
        parameters = constrain_lattice(self.space_group, lattice_parameters(lattice))
        return sort_sites(self.space_group, self.wyckoff, self.elements, wrapped, parameters)

    def displacements(self, q: np.ndarray) -> np.ndarray:
        """(N, 3, p) Å: how each atom of the primitive cell moves with each positional entry of q."""
        lattice = self.lattice @ (np.eye(3) + self.strain(q))
        moves = np.einsum("nij,pj->npi", self.rotations, self.directions) @ lattice
        own = self.site[:, None] == self.direction_site[None]
        return np.where(own[..., None], moves, 0.0).transpose(0, 2, 1)

    def gradient(self, q: np.ndarray, forces: np.ndarray, stress: np.ndarray) -> np.ndarray:
        """dE/dq (eV per unit of q, E of the primitive cell) from forces (N, 3) eV/Å and stress (3, 3) eV/Å³ at q."""
        positional = -np.einsum("ni,nip->p", forces, self.displacements(q))
        deformation = np.eye(3) + self.strain(q)
        volume = abs(np.linalg.det(self.transformation @ self.lattice @ deformation))
        # A change dε of the strain from the start strains the present cell by (1 + ε)⁻¹ dε.
        inner = volume * stress @ np.linalg.inv(deformation)
        return np.concatenate([positional, np.einsum("ij,kji->k", inner, self.strains)])


def _free_directions(rotation: np.ndarray, lattice: np.ndarray) -> np.ndarray:
    """(r, 3) fractional vectors that span the free coordinates of a position, orthonormal in Å."""
    columns = rotation[:, np.any(rotation != 0, axis=0)].T @ lattice
    if not len(columns):
        return np.zeros((0, 3))
    _, singular, basis = np.linalg.svd(columns, full_matrices=False)
    return basis[singular > 1e-8 * singular[0]] @ np.linalg.inv(lattice)
