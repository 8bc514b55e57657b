"""From which known compound a crystal is had by exchanging elements, and how likely such an exchange is.

The likelihood is that of pymatgen's data-mined model of ionic substitutions (G. Hautier et al., Inorganic Chemistry 50, 656 (2011)):
the probability that an ion is found where another is in the same structure, learned from the compounds of the Inorganic Crystal
Structure Database. Ions have charges, so compounds of metals alone have no such likelihood.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from functools import cache
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from crystalformer_rl.crystal.elements import SYMBOLS

_UNSEEN = 1000.0
"""Distance to an element that has no Mendeleev number."""


class Exchange(NamedTuple):
    """What replaces what, such as `Ba → Sr`, and how likely that is; None where the model cannot say.

    weight: how often the ions are seen in each other's place at all, by its logarithm; −∞ where the model cannot say. By it exchanges
    compare: the conditional likelihood favours ions so rare that whatever replaces them is likely.
    """

    words: str
    likelihood: float | None
    weight: float


def nearest_donors(donors: np.ndarray, ways: np.ndarray, most: int) -> list[tuple[int, int]]:
    """Which donors turn into a crystal by the fewest exchanges, of those by the nearest elements.

    donors: (n, k) atomic numbers, the elements of n donors by role. ways: (m, k) the crystal's elements in each way to give them
    the same roles. Returns places of donor and way, at most `most` with the fewest exchanges, the nearest first; equal ones in
    their order. Near are elements that are near in Pettifor's order (Mendeleev numbers).
    """
    old, new = donors[:, None, :], ways[None, :, :]
    changed = (old != new).sum(-1)
    numbers = _mendeleev()
    distance = np.where(old == new, 0.0, np.abs(numbers[old] - numbers[new])).sum(-1)
    way = np.array([np.lexsort((distance[i], changed[i]))[0] for i in range(len(donors))])
    rows = np.arange(len(donors))
    order = np.lexsort((rows, distance[rows, way], changed[rows, way]))
    fewest = changed[order[0], way[order[0]]]
    return [(int(i), int(way[i])) for i in order[:most] if changed[i, way[i]] == fewest]


def exchange(old: Sequence[int], new: Sequence[int], counts: Sequence[int]) -> Exchange:
    """The exchange of the elements `old` by `new`, role by role, in a compound of `counts` atoms of each role."""
    pairs = [(int(a), int(b)) for a, b in zip(old, new, strict=True)]
    words = ", ".join(f"{SYMBOLS[a - 1]} → {SYMBOLS[b - 1]}" for a, b in pairs if a != b)
    return Exchange(words, *_likelihood(pairs, counts))


def _likelihood(pairs: Sequence[tuple[int, int]], counts: Sequence[int]) -> tuple[float | None, float]:
    """The product of p(new ion | old ion) over the exchanged elements, and the sum of their weights.

    Each element has the charge of the one it replaces. Of the assignments of charges that balance, and of which the model has seen
    every exchange, the one that is seen most often counts; None where there is none, as in compounds of metals alone.
    """
    from pymatgen.core import Element

    if all(Element.from_Z(z).is_metal for pair in pairs for z in pair):
        return None, -math.inf
    seen = _model()
    options = [seen.get(pair, {}) for pair in pairs]
    best: tuple[float | None, float] = None, -math.inf
    for charges in product(*options):
        if abs(sum(n * charge for n, charge in zip(counts, charges, strict=True))) > 1e-9:
            continue
        found = [option[charge] for (a, b), option, charge in zip(pairs, options, charges, strict=True) if a != b]
        weight, likelihood = sum(w for w, _ in found), float(np.prod([p for _, p in found]))
        if weight > best[1]:
            best = likelihood, weight
    return best


@cache
def _model() -> dict[tuple[int, int], dict[float, tuple[float, float]]]:
    """{(old, new): {charge: (weight of the pair, p(new | old))}} of the pairs of equal charge that the model has seen."""
    from pymatgen.analysis.structure_prediction.substitution_probability import SubstitutionProbability

    model: Any = SubstitutionProbability()
    found: dict[tuple[int, int], dict[float, tuple[float, float]]] = {}
    for old, new in product(sorted(model.species, key=str), repeat=2):
        weight = model.get_lambda(old, new)
        if old.oxi_state == new.oxi_state and (old == new or weight > model.alpha):
            found.setdefault((old.Z, new.Z), {})[old.oxi_state] = weight, model.cond_prob(new, old)
    return found


@cache
def _mendeleev() -> np.ndarray:
    """(119,) Mendeleev numbers by atomic number, far from all others where there is none."""
    from pymatgen.core import Element

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        numbers = [Element.from_Z(z).mendeleev_no for z in range(1, 119)]
    return np.array([0.0] + [_UNSEEN + z if n is None else float(n) for z, n in enumerate(numbers, start=1)])
