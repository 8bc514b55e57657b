"""How often a policy makes a kind of crystal, wherever its atoms sit: the probability of its letters and elements.

Coordinates and lattice are marginalized by importance sampling. The policy is made to write the kind's template and formula, by the masks
that a run would use; what the masks took away of each choice, p/q of the letters and elements along the way, is then the weight of the crystal written
(T. Kloek, H. K. van Dijk, Econometrica 46, 1 (1978)). Densities of coordinates and lattice are the same in p and q, and cancel.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from crystalformer_rl.crystal.elements import symbol
from crystalformer_rl.crystal.prototype import Kind, kind, letter_permutations
from crystalformer_rl.crystal.wyckoff import letter_name, wyckoff_table
from crystalformer_rl.policy.request import Request
from crystalformer_rl.policy.sampler import LANES, sample
from crystalformer_rl.policy.transformer import Policy

SAMPLES = 4 * LANES
"""Crystals written for each set of letters that the kind may be written with."""


class KindProbability(NamedTuple):
    """Probability that a sampled crystal is of a kind, and its standard error. 1/value samples hold one of them on average."""

    value: float
    standard_error: float


def kind_probability(
    policy: Policy, asked: Kind, space_group_weights: Sequence[float], *, samples: int = SAMPLES, seed: int = 0
) -> KindProbability:
    """The probability of a kind (`crystal.prototype.kind`) under a policy whose space groups are drawn with weights (230,).

    Zero where the policy has no room for its sites, or never draws its space group. The estimate is unbiased; where none of the crystals written comes out as
    the kind it is zero with an error of zero, which says less than that the kind is impossible.
    """
    group, occupied = asked
    weights = np.asarray(space_group_weights, float)
    share = float(weights[group - 1] / weights.sum())
    letters = [letter for _, own in occupied for letter in own]
    if share <= 0 or len(letters) >= policy.shape.n_max:
        return KindProbability(0.0, 0.0)
    only = [float(g == group) for g in range(1, 231)]
    value, variance = 0.0, 0.0
    for number, template in enumerate(sorted({tuple(sorted(p[w] for w in letters)) for p in letter_permutations(group)})):
        found = _weights(policy, asked, _request(asked, template), only, samples, seed + number)
        value += float(found.mean())
        variance += float(found.var(ddof=1)) / samples
    return KindProbability(share * value, share * math.sqrt(variance))


def _request(asked: Kind, template: tuple[int, ...]) -> Request:
    """These letters, and the elements of the kind in their numbers."""
    group, occupied = asked
    table = wyckoff_table()
    atoms: Counter[int] = Counter()
    for element, letters in occupied:
        atoms[element] += sum(table.multiplicity(group, letter) for letter in letters)
    units = math.gcd(*atoms.values())
    formula = "".join(f"{symbol(z)}{n // units}" for z, n in sorted(atoms.items()))
    return Request(
        wyckoff=[letter_name(letter) for letter in template],
        formula=formula,
        formula_units=[units],
        max_atoms=atoms.total(),
    )


def _weights(policy: Policy, asked: Kind, request: Request, only: Sequence[float], samples: int, seed: int) -> np.ndarray:
    """(samples,) p/q of each crystal that came out as the kind, 0 of the others."""
    behaviour, _ = request.plan(only, policy.shape.n_max)
    found = sample(policy, seed, range(samples), only, behaviour)
    tokens = found.tokens
    ratio = np.exp(np.asarray(found.log_prob, float) - np.asarray(found.behaviour_log_prob, float))
    for i, (w, a) in enumerate(zip(np.asarray(tokens.w), np.asarray(tokens.a), strict=True)):
        placed = w > 0
        if kind(asked[0], w[placed], a[placed]) != asked:
            ratio[i] = 0.0
    return ratio
