"""How much of the space of crystals a set of them covers: effective numbers of kinds, and shares of chemistries."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Hashable, Iterable

from crystalformer_rl.crystal.elements import ATOMIC_NUMBERS, reduced_composition
from crystalformer_rl.crystal.prototype import Template
from crystalformer_rl.crystal.wyckoff import letter_name
from crystalformer_rl.tables.chemistry_columns import CHEMISTRY_WORDS


def _numbers(symbols: str) -> frozenset[int]:
    return frozenset(ATOMIC_NUMBERS[name] for name in symbols.split())


_HALOGENS = _numbers("F Cl Br I At")
_CHALCOGENS = _numbers("S Se Te")
_NO_METALS = _HALOGENS | _CHALCOGENS | _numbers("H He C N O Ne P Ar As Kr Xe Rn")

_ANIONS = _numbers("N O F S Cl Se Br I")

CHEMISTRIES = ("oxide", "halide", "chalcogenide", "intermetallic")
"""Names of the classes that `chemistries` tells; a crystal may be of several, or of none."""


def chemistries(elements: Iterable[int]) -> set[str]:
    """Classes of a compound by its atomic numbers.

    oxide: holds oxygen; halide: a halogen; chalcogenide: S, Se or Te; intermetallic: several elements, all of them metals or B, Si, Ge, Sb.
    An element alone is of none.
    """
    found = set(elements)
    if len(found) < 2:
        return set()
    held = {"oxide": 8 in found, "halide": bool(found & _HALOGENS), "chalcogenide": bool(found & _CHALCOGENS)}
    held["intermetallic"] = not found & _NO_METALS
    return {name for name, holds in held.items() if holds}


def chemistry_counts(crystals: Iterable[Iterable[int]]) -> dict[str, int]:
    """How many crystals, given by their atomic numbers, are of each of `CHEMISTRIES`, and hold an anion (N, O, F, S, Cl, Se, Br, I)."""
    counts = dict.fromkeys(CHEMISTRY_WORDS, 0)
    for elements in map(set, crystals):
        for name in chemistries(elements):
            counts[name] += 1
        counts["anion"] += bool(elements & _ANIONS)
    return counts


def anonymous_formula(atomic_numbers: Iterable[int]) -> tuple[int, ...]:
    """Atoms of each element in the reduced formula, rising, whatever the elements: (1, 1, 3) of SrTiO3."""
    return tuple(sorted(reduced_composition(atomic_numbers).values()))


def template_name(template: Template) -> str:
    """A Wyckoff template in words: `221: a b c` of perovskite."""
    group, letters = template
    return f"{group}: {' '.join(letter_name(letter) for letter in letters)}"


def effective_number(things: Iterable[Hashable]) -> float:
    """The exponential of the entropy of how often each thing occurs (Hill's number of order 1): as many equally frequent ones would be as diverse.

    It grows with the number of things looked at, so sets are compared at equal size. 0 of nothing.
    """
    return _effective(Counter(things).values())


def effective_elements(crystals: Iterable[Iterable[int]]) -> float:
    """`effective_number` of elements, each crystal sharing one vote among the elements that it holds."""
    votes: dict[int, float] = defaultdict(float)
    for elements in crystals:
        held = set(elements)
        for z in held:
            votes[z] += 1 / len(held)
    return _effective(votes.values())


def _effective(votes: Collection[float]) -> float:
    total = sum(votes)
    return math.exp(-sum(v / total * math.log(v / total) for v in votes)) if total else 0.0
