"""What a crystal is when its coordinates are forgotten: its kind, and with the elements' names forgotten too, its prototype.

One crystal can be written with different Wyckoff letters: another origin or other axes,
equally allowed by the space group, permute the letters (perovskite with A at the
corner, or at the body centre): see `crystal.normalizer`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache, lru_cache
from itertools import groupby, islice, permutations, product

import numpy as np

from crystalformer_rl.crystal.normalizer import (
    candidate_rotations,
    distinct_operations,
    grid_shifts,
    induced_letters,
    keeps_lattice,
)
from crystalformer_rl.crystal.wyckoff import wyckoff_table

_RIGHT_HAND = {
    78: 76, 95: 91, 96: 92, 145: 144, 153: 151, 154: 152, 170: 169, 172: 171, 179: 178, 181: 180, 213: 212,
}  # fmt: skip


def one_hand(space_group: int) -> int:
    """The space group, or of a group that has a mirror image among the 230 the lower number: crystals of both are one structure."""
    return _RIGHT_HAND.get(space_group, space_group)


Prototype = tuple[int, tuple[tuple[int, ...], ...]]
"""Space group, and for each element the letters of its sites; canonical over origins, axes, hands and elements."""


def prototype(space_group: int, wyckoff: Iterable[int], elements: Iterable[int]) -> Prototype:
    """The prototype of a crystal from its sites' Wyckoff letters (1 = a) and atomic numbers.

    Equal for crystals that differ in elements, coordinates and lattice parameters alone.
    """
    return elements_by_role(space_group, wyckoff, elements)[0]


def elements_by_role(
    space_group: int, wyckoff: Iterable[int], elements: Iterable[int]
) -> tuple[Prototype, tuple[tuple[int, ...], ...]]:
    """The prototype, and the elements in the order of its groups of letters.

    There are several such orders where other origins or axes let elements change places: rock salt has two.
    """
    space_group = one_hand(space_group)
    groups = list(_letters_of(wyckoff, elements).items())
    forms: dict[tuple[tuple[int, ...], ...], set[tuple[int, ...]]] = {}
    for images in _images(space_group, frozenset().union(*(letters for _, letters in groups))):
        placed = sorted((tuple(sorted(images[letter] for letter in letters)), element) for element, letters in groups)
        forms.setdefault(tuple(letters for letters, _ in placed), set()).add(tuple(element for _, element in placed))
    form = min(forms)
    return (space_group, form), tuple(sorted(forms[form]))


def every_order(found: Prototype, orders: Iterable[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """`orders` of elements by role, with those that have equal groups of letters in every order."""
    return sorted({way for order in orders for way in _permuted(found[1], order)})


def _permuted(form: tuple[tuple[int, ...], ...], elements: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    runs = [
        [element for _, element in run] for _, run in groupby(zip(form, elements, strict=True), key=lambda pair: pair[0])
    ]
    # Seven elements on equal sites have 5,040 orders; of more, which hardly occur, the first of them are enough.
    for orders in islice(product(*(permutations(run) for run in runs)), 5040):
        yield tuple(element for order in orders for element in order)


Template = tuple[int, tuple[int, ...]]
"""Space group and the letters of all sites; canonical over origins, axes and hands."""


def template(space_group: int, wyckoff: Iterable[int]) -> Template:
    """The Wyckoff template of a crystal: which positions are occupied, whatever elements share them."""
    space_group, letters = one_hand(space_group), [int(letter) for letter in wyckoff]
    return space_group, min(
        tuple(sorted(images[letter] for letter in letters)) for images in _images(space_group, frozenset(letters))
    )


Kind = tuple[int, tuple[tuple[int, tuple[int, ...]], ...]]
"""Space group, and each element with the letters of its sites; canonical over origins and axes."""


def kind(space_group: int, wyckoff: Iterable[int], elements: Iterable[int]) -> Kind:
    """The kind of a crystal: composition, space group and Wyckoff letters, the same for all origins and axes.

    Crystals of one kind differ in free coordinates and lattice parameters alone, so most of them are one structure.
    """
    groups = sorted(_letters_of(wyckoff, elements).items())
    return space_group, min(
        tuple((element, tuple(sorted(images[letter] for letter in letters))) for element, letters in groups)
        for images in _images(space_group, frozenset().union(*(letters for _, letters in groups)))
    )


def _letters_of(wyckoff: Iterable[int], elements: Iterable[int]) -> dict[int, list[int]]:
    """{element: the letters of its sites}."""
    letters: dict[int, list[int]] = {}
    for letter, element in zip(wyckoff, elements, strict=True):
        letters.setdefault(int(element), []).append(int(letter))
    return letters


@lru_cache(maxsize=1 << 14)
def _images(g: int, letters: frozenset[int]) -> tuple[dict[int, int], ...]:
    """What the permutations make of these letters, each outcome once: of many permutations few differ on few letters."""
    used = sorted(letters)
    outcomes = {tuple(permutation[w] for w in used) for permutation in letter_permutations(g)}
    return tuple(dict(zip(used, outcome, strict=True)) for outcome in sorted(outcomes))


@cache
def letter_permutations(g: int) -> tuple[tuple[int, ...], ...]:
    """All permutations of the Wyckoff letters of space group `g` that its normalizer induces.

    Entry w of a permutation is the image of letter w; entry 0 is 0. The identity is among them.
    """
    identity = tuple(range(wyckoff_table().n_letters(g) + 1))
    if len(identity) <= 3:  # One letter has no choice, and of two the general position is told apart.
        return (identity,)
    generators = {induced_letters(g, rotation, shift) for rotation, shift in _normalizer_generators(g)} - {identity}
    found, front = {identity}, [identity]
    while front:
        front = [new for old in front for step in generators if (new := tuple(step[w] for w in old)) not in found]
        front = list(dict.fromkeys(front))
        found.update(front)
    return tuple(sorted(found))


def _normalizer_generators(g: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Maps x → P x + t that take the group to itself: all pure translations, and one t for every other P."""
    operations = distinct_operations(g)
    for shift in grid_shifts(g, np.eye(3), operations):
        yield np.eye(3), shift
    point_group = {tuple(np.rint(rotation).astype(int).ravel()) for rotation in operations[:, :, :3]}
    for rotation in candidate_rotations(g):
        if tuple(rotation.astype(int).ravel()) in point_group or not keeps_lattice(g, rotation):
            continue
        for shift in grid_shifts(g, rotation, operations)[:1]:
            yield rotation, shift
