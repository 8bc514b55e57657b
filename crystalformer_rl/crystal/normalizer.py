"""Equivalent descriptions of one crystal: other origins and axes that its space group allows.

The maps x → P x + t that take a space group to itself form its normalizer. Each
turns a description of a crystal (letters, representatives) into another of the same
crystal: rock salt with sodium at 4a, or at 4b. What follows works the maps out from
the Wyckoff table, so that no table of normalizers has to be trusted.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import permutations, product

import numpy as np

from crystalformer_rl.crystal.wyckoff import centring_vectors, wyckoff_table

_TOLERANCE = 1e-6


@dataclass(frozen=True)
class NormalizerMap:
    """x → rotation x + shift, fractional, conventional cell; and what it does to letters and axes.

    letters: entry w is the letter that a site of letter w gets, entry 0 is 0. axes: new axis i runs along
    old axis `axes[i]`, so that new lengths are the old ones in this order.
    """

    rotation: np.ndarray
    shift: np.ndarray
    letters: tuple[int, ...]
    axes: tuple[int, int, int]


@cache
def normalizer_maps(g: int) -> tuple[NormalizerMap, ...]:
    """The maps of the normalizer of `g` that lead to different descriptions; the identity comes first.

    One of each coset of the space group, so that no two give the same description to every crystal.
    Left out are: mirror images, which would turn a chiral crystal into its other hand; shifts along the axes
    of a polar group, a continuum; and other cells of triclinic and monoclinic lattices, of which there
    is not an end.
    """
    operations = distinct_operations(g)
    maps: dict[tuple[int, ...], NormalizerMap] = {}
    for rotation in _proper_rotations(g):
        if not keeps_lattice(g, rotation):
            continue
        for shift in _fixed_shifts(g, rotation, operations):
            key = min(_grid_key(op, rotation, shift, centring) for op in operations for centring in centring_vectors(g))
            if key not in maps:
                axes = tuple(int(i) for i in np.abs(rotation).argmax(1)) if g < 143 else (0, 1, 2)
                maps[key] = NormalizerMap(rotation, shift, induced_letters(g, rotation, shift), axes)  # type: ignore[arg-type]
    return tuple(maps.values())


def _grid_key(operation: np.ndarray, rotation: np.ndarray, shift: np.ndarray, centring: np.ndarray) -> tuple[int, ...]:
    """The map followed by an operation of the group, in whole numbers: equal for maps of one coset after `min`."""
    turned = operation[:, :3] @ rotation
    moved = operation[:, :3] @ shift + operation[:, 3] + centring
    return (*np.rint(turned).astype(int).ravel().tolist(), *(np.rint(moved * 24).astype(int) % 24).tolist())


def _fixed_shifts(g: int, rotation: np.ndarray, operations: np.ndarray) -> np.ndarray:
    """`grid_shifts` without those along polar axes."""
    shifts = grid_shifts(g, rotation, operations)
    return shifts[(shifts[:, polar_axes(g)] == 0).all(1)]


def polar_axes(g: int) -> np.ndarray:
    """(3,) bool: the axes along which the origin of `g` is free."""
    return (distinct_operations(g)[:, :, :3] == np.eye(3)).all((0, 1))


def _proper_rotations(g: int) -> list[np.ndarray]:
    """Rotations of the lattice's own system, and exchanges of axes of orthorhombic cells; the identity first."""
    if g <= 2:
        return [np.eye(3)]
    if g <= 15:
        return [np.eye(3), np.diag([-1.0, 1.0, -1.0])]
    candidates = _hexagonal_rotations() if 143 <= g <= 194 else _signed_permutations()
    if 75 <= g <= 142:
        candidates = [rotation for rotation in candidates if abs(rotation[2, 2]) == 1]
    proper = [rotation for rotation in candidates if np.linalg.det(rotation) > 0]
    return sorted(proper, key=lambda rotation: not np.array_equal(rotation, np.eye(3)))


def distinct_operations(g: int) -> np.ndarray:
    """The general position without its centring translations: (one for each rotation, 3, 4)."""
    table = wyckoff_table()
    operations = table.operations(g, table.n_letters(g))
    _, first = np.unique(np.rint(operations[:, :, :3]).reshape(len(operations), 9), axis=0, return_index=True)
    return operations[np.sort(first)]


def candidate_rotations(g: int) -> list[np.ndarray]:
    """Unimodular matrices among which the rotation parts of the normalizer lie, or that generate them."""
    if g <= 2:  # Permutations of the axes and one shear generate all changes of a triclinic cell.
        shear = np.eye(3)
        shear[0, 1] = 1.0
        return [np.eye(3)[list(order)] for order in permutations(range(3))] + [shear]
    if g <= 15:  # Any other a and c in the plane across the axis b; small entries cover all classes modulo two.
        matrices = []
        for p, q, r, s in product(range(-2, 3), repeat=4):
            if abs(p * s - q * r) == 1:
                matrices.append(np.array([[p, 0, q], [0, 1.0, 0], [r, 0, s]]))
        return matrices
    return _hexagonal_rotations() if 143 <= g <= 194 else _signed_permutations()


def _hexagonal_rotations() -> list[np.ndarray]:
    return list(distinct_operations(191)[:, :, :3])


def _signed_permutations() -> list[np.ndarray]:
    signs = [np.diag(s) for s in product((1.0, -1.0), repeat=3)]
    return [np.eye(3)[list(order)] @ sign for order in permutations(range(3)) for sign in signs]


def keeps_lattice(g: int, rotation: np.ndarray) -> bool:
    """Whether `rotation` takes the centring of `g` to itself."""
    return bool(_is_lattice_vector(centring_vectors(g) @ rotation.T, g).all())


def _is_lattice_vector(vectors: np.ndarray, g: int) -> np.ndarray:
    """(..., 3) fractional → (...) bool, whether each is a translation of the lattice."""
    delta = vectors[..., None, :] - centring_vectors(g)
    return (np.abs(delta - np.rint(delta)).max(-1) < _TOLERANCE).any(-1)


def grid_shifts(g: int, rotation: np.ndarray, operations: np.ndarray) -> np.ndarray:
    """(k, 3) grid translations t for which x → P x + t takes the group to itself, by rising (x, y, z).

    From P(R x + s) + t = R'(P x + t) + s' modulo the lattice, with R' = P R P⁻¹:
    P s + (1 − R') t − s' must be a lattice vector for every operation (R, s).
    """
    inverse = np.linalg.inv(rotation)
    by_rotation = {tuple(np.rint(op[:, :3]).astype(int).ravel()): op for op in operations}
    # Thirds occur in the trigonal and hexagonal groups alone; a grid of 1/24 gives the same permutations in all 230.
    grid = 12 if 143 <= g <= 194 else 8
    shifts = np.stack(np.meshgrid(*[np.arange(grid)] * 3, indexing="ij"), -1).reshape(-1, 3) / grid
    for operation in operations:
        image = rotation @ operation[:, :3] @ inverse
        target = by_rotation.get(tuple(np.rint(image).astype(int).ravel()))
        if target is None:
            return np.empty((0, 3))
        rest = rotation @ operation[:, 3] - target[:, 3] + shifts @ (np.eye(3) - image).T
        shifts = shifts[_is_lattice_vector(rest, g)]
    return shifts


def induced_letters(g: int, rotation: np.ndarray, shift: np.ndarray) -> tuple[int, ...]:
    """The permutation of the letters by the map x → P x + t; entry 0 is 0."""
    table = wyckoff_table()
    generic = np.array([0.1234, 0.2718, 0.4142])
    images = [0]
    for letter in range(1, table.n_letters(g) + 1):
        first = table.operations(g, letter)[0]
        images.append(
            _letter_at(g, rotation @ (first[:, :3] @ generic + first[:, 3]) + shift, table.multiplicity(g, letter))
        )
    return tuple(images)


def _letter_at(g: int, point: np.ndarray, multiplicity: int) -> int:
    """The Wyckoff letter of a point whose orbit has `multiplicity` atoms in the conventional cell."""
    table = wyckoff_table()
    general = table.operations(g, table.n_letters(g))
    orbit = general[:, :, :3] @ point + general[:, :, 3]
    for letter in range(1, table.n_letters(g) + 1):
        if table.multiplicity(g, letter) != multiplicity:
            continue
        first = table.operations(g, letter)[0]
        delta = orbit @ first[:, :3].T + first[:, 3] - orbit
        if (np.abs(delta - np.rint(delta)).max(-1) < _TOLERANCE).any():
            return letter
    raise AssertionError(f"no Wyckoff letter of space group {g} at {point}")
