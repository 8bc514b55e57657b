"""How probable each space group is for a formula: p(g | formula) of its lowest structure.

A kernel density over the known compounds of the same stoichiometry, each weighted by how readily the formula's elements take the
places of its own, with the stoichiometry's and the training set's frequencies as the prior.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from crystalformer_rl.recovery.prototypes import Prototypes

SHARPNESS = 0.85
"""Exponent of the likeness, which is a log-odds: below 1, since what the elements of one compound say is said again by the others."""

_PRIOR_WEIGHT = 100.0
"""Of the prior, in units of a donor whose elements are no likelier than chance."""

_STOICHIOMETRY_WEIGHT = 20.0
"""Compounds of a stoichiometry that count as much as the training set's frequencies."""


def space_group_probabilities(
    counts: Mapping[int, int], prototypes: Prototypes, trained: Sequence[float] | np.ndarray, sharpness: float = SHARPNESS
) -> np.ndarray:
    """p(g | formula), (230,), sum 1.

    counts: {atomic number: atoms} of the reduced formula, whose own compounds do not count. trained: (230,) how often the policy saw each group,
    in any unit.
    """
    groups, likeness = prototypes.likeness_by_group(counts)
    seen = np.asarray(trained, float)
    if not seen.sum() > 0:
        seen = np.ones(230)
    alike = np.bincount(groups - 1, minlength=230)
    prior = (alike + _STOICHIOMETRY_WEIGHT * seen / seen.sum()) / (alike.sum() + _STOICHIOMETRY_WEIGHT)
    weights = np.bincount(groups - 1, np.exp(sharpness * likeness), minlength=230)
    return (weights + _PRIOR_WEIGHT * prior) / (weights.sum() + _PRIOR_WEIGHT)
