"""Oxidation states guessed from a composition of any size.

The guess is pymatgen's `Composition.oxi_state_guesses`: of all ways to give each atom one of its element's known states so that the
charges cancel, the one whose states are the most frequent in the ICSD. pymatgen goes through all ways one by one, and so has to stop
at few atoms; here the best way to reach each charge is built up atom by atom, which takes no longer for a hundred atoms than for ten.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import numpy as np

from crystalformer_rl.crystal.elements import SYMBOLS

_METALLOIDS = frozenset((5, 14, 32, 33, 51))
"""B, Si, Ge, As, Sb; without an element of less metallic kind beside them, they make alloys and not salts."""

_GIVERS = frozenset((1, 14, 51, 52))
"""H, Si, Sb, Te: less electronegative than the other anions, so that beside one that is not paid for they are cations."""

_DIGITS = 9  # of a frequency; sums of equal frequencies must be equal, in whatever order they were added


class _Charges:
    """The charges that some atoms can have together, and how frequent the states are that give each: `scores[k]` of the charge
    `lowest` + k, minus infinity where no states give it.
    """

    def __init__(self, lowest: int, scores: np.ndarray) -> None:
        self.lowest = lowest
        self.scores = scores

    def plus(self, other: _Charges) -> _Charges:
        """Those of both groups of atoms together."""
        scores = np.full(len(self.scores) + len(other.scores) - 1, -np.inf)
        for k in np.flatnonzero(np.isfinite(other.scores)):
            part = scores[k : k + len(self.scores)]
            np.maximum(part, np.round(self.scores + other.scores[k], _DIGITS), out=part)
        return _Charges(self.lowest + other.lowest, scores)

    def score(self, charge: int) -> float:
        """Of one charge; minus infinity where it cannot be."""
        place = charge - self.lowest
        return float(self.scores[place]) if 0 <= place < len(self.scores) else -np.inf


def oxidation_states(counts: Mapping[int, int]) -> dict[str, float]:
    """{symbol: mean oxidation state} of a composition {atomic number: atoms}; empty where no states cancel.

    Ties go to the element that stands first in `counts`, and to its state that pymatgen lists first.
    """
    elements = [(z, _times(_of_atom(z), n)) for z, n in counts.items()]
    if any(len(charges.scores) == 0 for _, charges in elements):
        return {}
    rest = [_Charges(0, np.zeros(1))]  # of the elements that follow each
    for _, charges in reversed(elements):
        rest.append(rest[-1].plus(charges))
    rest.reverse()
    if not np.isfinite(rest[0].score(0)):
        return {}
    found, left = {}, 0
    for (z, charges), after in zip(elements, rest[1:], strict=True):
        chosen = max(
            _in_order(z, counts[z], charges), key=lambda q: round(charges.score(q) + after.score(left - q), _DIGITS - 1)
        )
        found[SYMBOLS[z - 1]] = chosen / counts[z]
        left -= chosen
    return found


def may_be_second_anion(z: int, counts: Mapping[int, int]) -> bool:
    """Whether element `z` may be an anion though another is more electronegative, where no oxidation states cancel.

    counts: {atomic number: atoms} by rising electronegativity. It may not where the others, the less electronegative in their highest
    states and the nonmetals that are more so in their lowest, cannot give it an electron an atom: iodine in an iodate, silicon in
    a silicate. Halogens, nitrogen and selenium must have to give at least two an atom before that is believed, since one may stem from
    pairs of oxygen, or from a formula that is only almost balanced. Nor are silicon and antimony anions in an alloy.
    """
    order = list(counts)
    if z == order[-1] or (
        z in _METALLOIDS and not any(other not in _METALLOIDS and not _is_metal(other) for other in counts)
    ):
        return False
    takers = {other for other in order[order.index(z) :] if not _is_metal(other)}
    left = sum(n * _extreme(other, lowest=other in takers) for other, n in counts.items() if other != z)
    return left >= counts[z] if z in _GIVERS else left > -2 * counts[z]


def _extreme(z: int, lowest: bool) -> int:
    """The lowest state of an element, or its highest; of one that is known by negative states alone, the highest of all reported."""
    from pymatgen.core import Element

    states = _states(z)
    if lowest:
        return min(states, default=0)
    found = max(states, default=0)
    return found if found > 0 else max((int(s) for s in Element.from_Z(z).oxidation_states), default=0)


@cache
def _is_metal(z: int) -> bool:
    from pymatgen.core import Element

    return bool(Element.from_Z(z).is_metal)


def _in_order(z: int, n: int, charges: _Charges) -> list[int]:
    """The charges of n atoms of an element, that of all of them in the state that is listed first before the others."""
    known = [charges.lowest + int(k) for k in np.flatnonzero(np.isfinite(charges.scores))]
    first = n * _states(z)[0]
    return sorted(known, key=lambda q: abs(q - first))


def _times(one: _Charges, n: int) -> _Charges:
    """The charges of n atoms of an element."""
    found = _Charges(0, np.zeros(1 if len(one.scores) else 0))
    for _ in range(n if len(one.scores) else 0):
        found = found.plus(one)
    return found


@cache
def _of_atom(z: int) -> _Charges:
    from pymatgen.core import Composition, Element, Species

    states = _states(z)
    if not states:
        return _Charges(0, np.zeros(0))
    if Composition.oxi_prob is None:  # pymatgen reads them with its first guess
        Composition("NaCl").oxi_state_guesses()
    frequencies = Composition.oxi_prob or {}
    scores = np.full(max(states) - min(states) + 1, -np.inf)
    for state in states:
        scores[state - min(states)] = frequencies.get(Species(Element.from_Z(z).symbol, state), 0)
    return _Charges(min(states), scores)


@cache
def _states(z: int) -> tuple[int, ...]:
    from pymatgen.core import Element

    element = Element.from_Z(z)
    return tuple(int(state) for state in element.icsd_oxidation_states or element.common_oxidation_states)
