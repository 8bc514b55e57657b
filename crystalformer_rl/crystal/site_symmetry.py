"""What space groups and Wyckoff positions have in common with their relatives, whatever their numbers and letters are."""

from __future__ import annotations

from functools import cache

import numpy as np

from crystalformer_rl.crystal.wyckoff import N_LETTERS, N_SPACE_GROUPS, centring_vectors, wyckoff_table

_KINDS = {
    (1, 3): 0,
    (1, -1): 1,
    (1, 0): 2,
    (1, 1): 3,
    (1, 2): 4,
    (-1, -3): 5,
    (-1, 1): 6,
    (-1, 0): 7,
    (-1, -1): 8,
    (-1, -2): 9,
}
"""Determinant and trace of a point operation → 1, 2, 3, 4, 6, −1, m, −3, −4, −6, as the International Tables name them."""

_LAST = (2, 15, 74, 142, 167, 194, 230)
"""Last space group of each crystal system, from triclinic to cubic."""

_GENERIC = np.array([0.1234, 0.3171, 0.4287])
"""A point of no symmetry."""

SITE_FEATURES, GROUP_FEATURES = 39, 21


@cache
def site_features() -> np.ndarray:
    """(231, 28, 39) float32 features of a position by [space group, letter]; zero where there is none.

    The site symmetry: its operations by kind (10, fractions) and along which axes they lie (6), log of its order; log of the sites in the primitive
    cell; which coordinates are free, and independent (6); the representative's operation: rotation part (9), translation as
    sine and cosine (6).
    """
    table = wyckoff_table()
    found = np.zeros((N_SPACE_GROUPS + 1, N_LETTERS + 1, SITE_FEATURES), np.float32)
    for g in range(1, N_SPACE_GROUPS + 1):
        for w in range(1, table.n_letters(g) + 1):
            own, symmetry = table.operations(g, w)[0], site_symmetry(g, w)
            phases = 2 * np.pi * own[:, 3]
            found[g, w] = [
                *_kinds(symmetry) / len(symmetry),
                *np.mean([_axis(operation.tobytes()) for operation in symmetry], axis=0),
                np.log(len(symmetry)) / 2,
                np.log(table.multiplicity(g, w) / len(centring_vectors(g))) / 2,
                *table.free[g, w],
                *table.independent[g, w],
                *own[:, :3].ravel(),
                *np.sin(phases),
                *np.cos(phases),
            ]
    return found


@cache
def group_features() -> np.ndarray:
    """(231, 21) float32 features of a space group; row 0 is zero.

    Its point group: operations by kind (10, fractions) and log of their number; lattice points in the conventional cell; the fraction of operations
    with a translation; of proper ones among these, screws; the crystal system (7).
    """
    found = np.zeros((N_SPACE_GROUPS + 1, GROUP_FEATURES), np.float32)
    for g in range(1, N_SPACE_GROUPS + 1):
        operations = _one_a_rotation(g)
        moving = operations[np.abs(operations[:, :, 3] % 1).sum(1) > 1e-6]
        kinds = _kinds(operations[:, :, :3])
        found[g] = [
            *kinds / len(operations),
            np.log(len(operations)) / 2,
            len(centring_vectors(g)) / 2,
            len(moving) / len(operations),
            _kinds(moving[:, :, :3])[:5].sum() / len(operations),
            *np.eye(len(_LAST))[np.searchsorted(_LAST, g)],
        ]
    return found


def site_symmetry(g: int, w: int) -> np.ndarray:
    """(n, 3, 3) rotation parts of the operations of space group `g` that leave a site of letter `w` where it is."""
    table = wyckoff_table()
    own, operations = table.operations(g, w)[0], table.operations(g, table.n_letters(g))
    site = own[:, :3] @ _GENERIC + own[:, 3]
    moved = operations[:, :, :3] @ site + operations[:, :, 3] - site
    return operations[(np.abs(moved - np.round(moved)) < 1e-6).all(1)][:, :, :3]


def _one_a_rotation(g: int) -> np.ndarray:
    """(n, 3, 4) operations of a group, the first of each rotation part."""
    operations = wyckoff_table().operations(g, wyckoff_table().n_letters(g))
    _, first = np.unique(operations[:, :, :3].reshape(len(operations), 9), axis=0, return_index=True)
    return operations[np.sort(first)]


def _kinds(rotations: np.ndarray) -> np.ndarray:
    """(10,) how many of each kind there are."""
    return np.bincount([_kind(rotation.tobytes()) for rotation in rotations], minlength=len(_KINDS)).astype(float)


@cache
def _kind(rotation: bytes) -> int:
    matrix = np.frombuffer(rotation).reshape(3, 3)
    return _KINDS[round(np.linalg.det(matrix)), round(np.trace(matrix))]


@cache
def _axis(rotation: bytes) -> np.ndarray:
    """(6,) upper triangle of the axis of a rotation, or the normal of a mirror, times itself; zero for 1 and −1."""
    matrix = np.frombuffer(rotation).reshape(3, 3)
    proper = matrix * round(np.linalg.det(matrix))
    if np.array_equal(proper, np.eye(3)):
        return np.zeros(6)
    # the sum of a rotation's powers projects on its axis
    projection = np.mean([np.linalg.matrix_power(proper, k) for k in range(12)], axis=0)
    axis = projection[:, np.abs(projection).max(0).argmax()]
    axis = axis / np.abs(axis).max()
    return np.outer(axis, axis)[np.triu_indices(3)]
