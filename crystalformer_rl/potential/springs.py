"""Springs between neighbours: what is known of a crystal's energy surface before a potential is asked.

All bonds are seen along the free coordinates of `potential.coordinates`. From their stiffness comes a model
Hessian, from their shortest allowed lengths a way to push crowded atoms apart.
"""

from __future__ import annotations

import numpy as np

from crystalformer_rl.potential.coordinates import Coordinates
from crystalformer_rl.potential.graph import CrystalGraph, GraphError, crystal_graph

BOND_REACH = 6.0
"""Å; longer bonds have no spring."""
BOND_STIFFNESS = 1.6
"""eV/Å², of a bond of 2.5 Å in the model Hessian."""
BOND_EXPONENT = 5.0
"""How fast the stiffness of a bond falls with its length."""
ATOM_STIFFNESS = 0.5
"""eV/Å², holds each atom where it is, so that no direction is without curvature."""
CELL_STIFFNESS = 0.02
"""eV/Å³, the same for the strain of the cell."""

CROWDED = 0.6
"""Of the sum of two covalent radii; real crystals have no shorter distances, and potentials are guesses there."""
APART = 0.75
"""Of the sum of two covalent radii; crowded atoms are pushed as far apart as this."""

_PUSHES = 50
_LONGEST_PUSH = 0.2  # Å, of the largest coordinate in one push
_CELL_SHARE = 0.3  # how readily the cell gives way, against the atoms


def bond_changes(coordinates: Coordinates, q: np.ndarray, graph: CrystalGraph) -> np.ndarray:
    """(bonds, len(q)): the derivative of each bond's length by the free coordinates, at q."""
    moves = coordinates.displacements(q)
    # A change of the strain acts on the lattice where it started.
    undeformed = graph.vectors @ np.linalg.inv(np.eye(3) + coordinates.strain(q))
    strained = np.einsum("bi,kij->bjk", undeformed, coordinates.strains)
    changes = np.concatenate([moves[graph.first] - moves[graph.second], strained], axis=2)
    return np.einsum("bi,biq->bq", graph.vectors / graph.lengths[:, None], changes)


def model_hessian(coordinates: Coordinates, q: np.ndarray) -> np.ndarray:
    """A guess of d²E/dq² (eV) at q: springs along all bonds shorter than 6 Å, as stiff as k = 1.6 eV/Å² (2.5 Å / r)⁵.

    Model Hessians of springs are an old and good start for quasi-Newton steps (D. Packwood et al., J. Chem. Phys.
    144, 164109, 2016). Power and constants here were fitted to Hessians of CHGNet along the free
    coordinates of 127 crystals near their minimum: half of the curvatures lie within 0.5 to 1.6 times the guess,
    nine tenths within 0.05 to 3 times.
    """
    crystal = coordinates.crystal(q)
    diagonal = np.full(len(coordinates), ATOM_STIFFNESS)
    diagonal[coordinates.n_positional :] = CELL_STIFFNESS * crystal.volume
    try:
        graph = crystal_graph(crystal, BOND_REACH, neighborless=True)
    except GraphError:
        return np.diag(diagonal)
    stiffness = BOND_STIFFNESS * (2.5 / np.maximum(graph.lengths, 1.0)) ** BOND_EXPONENT
    along = bond_changes(coordinates, q, graph)
    return along.T @ (stiffness[:, None] * along) + np.diag(diagonal)


def pushed_apart(coordinates: Coordinates, q: np.ndarray) -> np.ndarray | None:
    """Coordinates where no two atoms are crowded, as near to q as small steps lead; None where none are crowded at q.

    Atoms nearer than 0.6 of the sum of their covalent radii (those of ASE) are moved until all pairs are
    0.75 of it apart, or as far as the symmetry lets them. A sampled crystal often starts with such pairs, and a
    learned potential, which has seen none, may hold them together.
    """
    from ase.data import covalent_radii

    found: np.ndarray | None = None
    for _ in range(_PUSHES):
        try:
            graph = crystal_graph(coordinates.crystal(q if found is None else found), BOND_REACH, neighborless=True)
        except GraphError:
            return None
        radii = covalent_radii[coordinates.numbers]
        contact = radii[graph.first] + radii[graph.second]
        if found is None:
            if not np.any(graph.lengths < CROWDED * contact):
                return None
            found = q
        missing = APART * contact - graph.lengths
        close = missing > 0
        if np.all(missing[close] < 0.02 * contact[close]):
            break
        found = found + _push(coordinates, bond_changes(coordinates, found, graph)[close], missing[close])
    return found


def _push(coordinates: Coordinates, along: np.ndarray, missing: np.ndarray) -> np.ndarray:
    """The least step, damped, that lengthens bonds with derivatives `along` (bonds, len(q)) by `missing` (Å)."""
    weight = np.ones(len(coordinates))
    weight[coordinates.n_positional :] = _CELL_SHARE / abs(np.linalg.det(coordinates.lattice)) ** (1 / 3)
    weighted = along * weight
    step = weight * (weighted.T @ np.linalg.solve(weighted @ weighted.T + 0.1 * np.eye(len(weighted)), missing))
    return step * min(1.0, _LONGEST_PUSH / max(float(np.abs(step).max()), 1e-12))
