"""The named structure types that cubic ionic crystals and intermetallics mostly have, told by space group, sites and elements.

A type is a prototype: space group and the Wyckoff positions that share an element, whatever the choice of origin. Where two
types have one prototype, the elements decide: fluorite has its anion where antifluorite has its cation.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from crystalformer_rl.crystal.elements import ATOMIC_NUMBERS, electronegativity_rank
from crystalformer_rl.crystal.prototype import Prototype, prototype

OTHER = "other"
HALIDE_ELPASOLITE, HALIDE_PEROVSKITE = "halide elpasolite", "halide perovskite"

HALOGENS = frozenset(ATOMIC_NUMBERS[name] for name in ("F", "Cl", "Br", "I", "At"))
NONMETALS = HALOGENS | {ATOMIC_NUMBERS[name] for name in ("H", "C", "N", "O", "P", "S", "Se", "Te", "As")}
"""Elements that are the anion where they are the most electronegative of a compound."""

# Space group, and the letter of each site with a placeholder for its element, the last the one with most atoms a site.
_SITES: dict[str, tuple[int, tuple[tuple[int, str], ...]]] = {
    "elpasolite": (225, ((1, "B"), (2, "C"), (3, "A"), (5, "X"))),
    "K2PtCl6": (225, ((1, "B"), (3, "A"), (5, "X"))),
    "perovskite": (221, ((1, "A"), (2, "B"), (3, "X"))),
    "rock salt": (225, ((1, "A"), (2, "X"))),
    "caesium chloride": (221, ((1, "A"), (2, "X"))),
    "zinc blende": (216, ((1, "A"), (3, "X"))),
    "fluorite": (225, ((1, "A"), (3, "X"))),
    "half-Heusler": (216, ((1, "A"), (2, "B"), (3, "C"))),
    "full Heusler": (225, ((1, "A"), (2, "B"), (3, "C"))),
    "inverse Heusler": (216, ((1, "A"), (2, "B"), (3, "C"), (4, "B"))),
    "quaternary Heusler": (216, ((1, "A"), (2, "B"), (3, "C"), (4, "D"))),
}

_MULTIPLICITY = {(225, 5): 24, (225, 3): 8, (221, 3): 3, (221, 4): 3}


@cache
def _prototypes() -> dict[Prototype, str]:
    found = {}
    for name, (group, sites) in _SITES.items():
        placeholders = {label: k for k, label in enumerate(sorted({label for _, label in sites}), start=1)}
        found[prototype(group, [letter for letter, _ in sites], [placeholders[label] for _, label in sites])] = name
    return found


def structure_type(space_group: int, wyckoff: Iterable[int], elements: Iterable[int]) -> str:
    """The name of a crystal's structure type from its sites' letters (1 = a) and atomic numbers; `other` where it has none.

    Elpasolites and perovskites are named `halide …` where the anion, the element on the site of multiplicity 24 or 3, is
    a halogen, and `anti-…` where that is not a non-metal.
    """
    letters, numbers = list(wyckoff), [int(z) for z in elements]
    name = _prototypes().get(prototype(space_group, letters, numbers), OTHER)
    if name in ("elpasolite", "K2PtCl6", "perovskite"):
        anion = numbers[max(range(len(letters)), key=lambda k: _MULTIPLICITY.get((space_group, letters[k]), 1))]
        kind = "halide " if anion in HALOGENS else "" if anion in NONMETALS else "anti-"
        return kind + name
    if name == "fluorite":
        on_eight = next(z for letter, z in zip(letters, numbers, strict=True) if letter == 3)
        return "fluorite" if on_eight == max(numbers, key=electronegativity_rank) else "antifluorite"
    return name
