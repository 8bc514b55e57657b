"""How likely it is that elements replace each other in a structure: pymatgen's data-mined model of ionic substitutions.

G. Hautier et al., Inorganic Chemistry 50, 656 (2011): the probability that an ion is found where another is in the same
structure, learned from the compounds of the Inorganic Crystal Structure Database.
"""

from __future__ import annotations

from functools import cache
from itertools import product
from typing import NamedTuple

import numpy as np

from crystalformer_rl.crystal.elements import SYMBOLS

_READILY = 7.5
"""Logarithm by which an exchange may be rarer than the commonest: zirconium for titanium counts, tin for palladium does not."""


class Exchange(NamedTuple):
    """What replaces what, such as `Ba → Sr`, and the product of the probabilities; None where the model lacks one of them."""

    words: str
    likelihood: float | None


class _Model(NamedTuple):
    """By atomic numbers [old, new], for the charge that both are seen with most often in each other's place.

    cost: (119, 119) how much rarer the exchange is than the commonest, the difference of logarithms; 0 where new is old,
    infinite where the model knows no charge that both take. likelihood: (119, 119) p(new | old); 1 where new is old.
    """

    cost: np.ndarray
    likelihood: np.ndarray


@cache
def _model() -> _Model:
    from pymatgen.analysis.structure_prediction.substitution_probability import SubstitutionProbability

    model = SubstitutionProbability()
    weight, likelihood = np.full((119, 119), -np.inf), np.zeros((119, 119))
    for old, new in product(sorted(model.species, key=str), repeat=2):
        if old.oxi_state == new.oxi_state and model.get_lambda(old, new) > weight[old.Z, new.Z]:
            weight[old.Z, new.Z] = model.get_lambda(old, new)
            likelihood[old.Z, new.Z] = model.cond_prob(new, old)
    cost = weight.max() - weight
    np.fill_diagonal(cost, 0.0)
    np.fill_diagonal(likelihood, 1.0)
    return _Model(cost, likelihood)


def readily_exchanged(a: int, b: int) -> bool:
    """Whether the elements of atomic numbers `a` and `b` often stand in each other's place, with equal charges."""
    return bool(_model().cost[a, b] <= _READILY)


def likeliest_donor(donors: np.ndarray, ways: np.ndarray) -> tuple[int, int]:
    """Which donor turns into a crystal by the fewest and likeliest exchanges.

    donors: (n, k) atomic numbers, the elements of n donors by role. ways: (m, k) the crystal's elements in each way to give them
    the same roles. Returns the places of the donor, the first of equal ones, and of the way.

    Weighed is how often two ions are found in each other's place at all. The conditional probability would favour
    donors of ions so rare that whatever replaces them is likely.
    """
    cost = _model().cost[donors[:, None, :], ways[None, :, :]].sum(-1)
    donor, way = np.unravel_index(int(cost.argmin()), cost.shape)
    return int(donor), int(way)


def exchange(old: np.ndarray, new: np.ndarray) -> Exchange:
    """The exchange of the elements `old` by `new`, role by role."""
    likelihood = float(_model().likelihood[old, new].prod())
    words = ", ".join(f"{SYMBOLS[a - 1]} → {SYMBOLS[b - 1]}" for a, b in zip(old, new, strict=True) if a != b)
    return Exchange(words, likelihood or None)
