"""Which elements of a compound are known to replace each other on its sites, so that an ordered crystal may be a solid solution.

Rules of thumb of crystal chemistry, narrower than the similarity that makes two crystals orderings of one parent: rare earths among
themselves; elements of one group of like size; neighbours among the transition metals of one row.
"""

from __future__ import annotations

from itertools import combinations

from crystalformer_rl.crystal.elements import SYMBOLS

_RARE_EARTHS = frozenset({21, 39, *range(57, 72)})
_OF_METALS, _OF_OTHERS = 0.17, 0.25
"""Difference of Slater's radii over their mean, up to which elements of a group mix."""


def mixing(elements: frozenset[int]) -> list[str]:
    """The elements that mix with another of the compound, as symbols."""
    found = {z for pair in combinations(sorted(elements), 2) if _mix(*pair) for z in pair}
    return [SYMBOLS[z - 1] for z in sorted(found)]


def _mix(a: int, b: int) -> bool:
    from pymatgen.core import Element

    if {a, b} <= _RARE_EARTHS:
        return {a, b} != {21, 57}  # scandium is too small for lanthanum
    one, other = Element.from_Z(a), Element.from_Z(b)
    if one.atomic_radius is None or other.atomic_radius is None or 1 in (a, b):
        return False
    difference = abs(one.atomic_radius - other.atomic_radius) / (one.atomic_radius + other.atomic_radius) * 2
    if one.group == other.group and one.row > 2 and other.row > 2:
        return bool(difference <= (_OF_METALS if one.is_metal and other.is_metal and one.group < 15 else _OF_OTHERS))
    neighbours = one.row == other.row and abs(one.group - other.group) == 1
    return bool(neighbours and one.is_transition_metal and other.is_transition_metal and difference <= _OF_METALS / 2)
