"""Charge balance of a composition: can its elements' known oxidation states sum to zero?"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from crystalformer_rl.crystal.elements import reduced_composition


def charge_balanced(atomic_numbers: Iterable[int]) -> bool:
    """Whether some assignment of oxidation states, one to each atom, sums to zero.

    The states are those that pymatgen lists as seen in the ICSD, or the common ones where
    the ICSD has none; atoms of one element may differ (Fe₃O₄). Elements and crystals of
    metals alone are balanced: they need no ions. The sums are built up atom by atom, so
    that the time grows with the number of atoms and not of assignments.
    """
    counts = reduced_composition(atomic_numbers)
    if len(counts) == 1 or metals_alone(counts):
        return True
    sums = {0}
    for z, n in counts.items():
        for _ in range(n):
            sums = {total + state for total in sums for state in _states(z)}
    return 0 in sums


def metals_alone(atomic_numbers: Iterable[int]) -> bool:
    """Whether all are metals, so that nothing takes their electrons."""
    return all(_is_metal(z) for z in atomic_numbers)


@cache
def _states(z: int) -> tuple[int, ...]:
    from pymatgen.core import Element

    element = Element.from_Z(z)
    return tuple(element.icsd_oxidation_states or element.common_oxidation_states)


@cache
def _is_metal(z: int) -> bool:
    from pymatgen.core import Element

    return bool(Element.from_Z(z).is_metal)
