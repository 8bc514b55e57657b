"""The prototype of a crystal: its Wyckoff fingerprint with the elements' names forgotten.

One crystal can be written with different Wyckoff letters: another origin or other axes,
equally allowed by the space group, permute the letters (perovskite with A at the
corner, or at the body centre). The maps that do so form the affine normalizer of the
space group, whose action on the letters is worked out here from the Wyckoff table.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from itertools import permutations, product

import numpy as np

from crystalformer_rl.crystal.wyckoff import centring_vectors, wyckoff_table

Prototype = tuple[int, tuple[tuple[int, ...], ...]]
"""Space group, and for each element the letters of its sites; canonical over origins, axes and elements."""

_TOLERANCE = 1e-6


def prototype(space_group: int, wyckoff: Iterable[int], elements: Iterable[int]) -> Prototype:
    """The prototype of a crystal from its sites' Wyckoff letters (1 = a) and atomic numbers.

    Equal for crystals that differ in elements, coordinates and lattice parameters alone.
    """
    letters_of: dict[int, list[int]] = {}
    for letter, element in zip(wyckoff, elements, strict=True):
        letters_of.setdefault(int(element), []).append(int(letter))
    groups = list(letters_of.values())
    return space_group, min(
        tuple(sorted(tuple(sorted(images[letter] for letter in letters)) for letters in groups))
        for images in letter_permutations(space_group)
    )


@cache
def letter_permutations(g: int) -> tuple[tuple[int, ...], ...]:
    """All permutations of the Wyckoff letters of space group `g` that its normalizer induces.

    Entry w of a permutation is the image of letter w; entry 0 is 0. The identity is among them.
    """
    identity = tuple(range(wyckoff_table().n_letters(g) + 1))
    if len(identity) <= 3:  # One letter has no choice, and of two the general position is told apart.
        return (identity,)
    generators = {_induced(g, rotation, shift) for rotation, shift in _normalizer_generators(g)} - {identity}
    found, front = {identity}, [identity]
    while front:
        front = [new for old in front for step in generators if (new := tuple(step[w] for w in old)) not in found]
        front = list(dict.fromkeys(front))
        found.update(front)
    return tuple(sorted(found))


def _normalizer_generators(g: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Maps x → P x + t that take the group to itself: all pure translations, and one t for every other P."""
    operations = _distinct_operations(g)
    for shift in _shifts(g, np.eye(3), operations):
        yield np.eye(3), shift
    point_group = {tuple(np.rint(rotation).astype(int).ravel()) for rotation in operations[:, :, :3]}
    for rotation in _candidate_rotations(g):
        if tuple(rotation.astype(int).ravel()) in point_group or not _keeps_lattice(g, rotation):
            continue
        for shift in _shifts(g, rotation, operations)[:1]:
            yield rotation, shift


def _distinct_operations(g: int) -> np.ndarray:
    """The general position without its centring translations: (one for each rotation, 3, 4)."""
    table = wyckoff_table()
    operations = table.operations(g, table.n_letters(g))
    _, first = np.unique(np.rint(operations[:, :, :3]).reshape(len(operations), 9), axis=0, return_index=True)
    return operations[np.sort(first)]


def _candidate_rotations(g: int) -> list[np.ndarray]:
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
    if 143 <= g <= 194:
        return list(_distinct_operations(191)[:, :, :3])
    signs = [np.diag(s) for s in product((1.0, -1.0), repeat=3)]
    return [np.eye(3)[list(order)] @ sign for order in permutations(range(3)) for sign in signs]


def _keeps_lattice(g: int, rotation: np.ndarray) -> bool:
    return bool(_is_lattice_vector(centring_vectors(g) @ rotation.T, g).all())


def _is_lattice_vector(vectors: np.ndarray, g: int) -> np.ndarray:
    """(..., 3) fractional → (...) bool, whether each is a translation of the lattice."""
    delta = vectors[..., None, :] - centring_vectors(g)
    return (np.abs(delta - np.rint(delta)).max(-1) < _TOLERANCE).any(-1)


def _shifts(g: int, rotation: np.ndarray, operations: np.ndarray) -> np.ndarray:
    """(k, 3) grid translations t for which x → P x + t takes the group to itself.

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


def _induced(g: int, rotation: np.ndarray, shift: np.ndarray) -> tuple[int, ...]:
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
