"""Conditions of a reward's terms on the figures of a batch."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from crystalformer_rl.rewards.scored_batch import GROUP_OF, Batch, known_figures
from crystalformer_rl.tables.conditions import Condition, parse_conditions


def parse(texts: Iterable[str]) -> tuple[Condition, ...]:
    """All conditions of a term. Raises InputError as `tables.conditions.parse_conditions` does."""
    return parse_conditions(texts, known_figures())


def needs(condition: Condition) -> frozenset[str]:
    """The group of figures that must be computed; none for figures of the crystal itself."""
    return frozenset({GROUP_OF[condition.figure]}) if condition.figure in GROUP_OF else frozenset()


def holds(condition: Condition, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
    """Where the condition holds, and where its figure is known at all: (N,) bool each."""
    values = batch.figure(condition.figure)
    return condition.compare(values), np.isfinite(values)
