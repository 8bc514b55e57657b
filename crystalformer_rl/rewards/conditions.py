"""Conditions on figures: `e_above_hull < 0.1`."""

from __future__ import annotations

import difflib
import itertools
import math
import operator
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from crystalformer_rl.errors import InputError
from crystalformer_rl.rewards.scored_batch import GROUP_OF, Batch, doubtful, known_figures

_OPERATORS: dict[str, Callable[[Any, float], Any]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
}
_FORM = re.compile(r"\s*([A-Za-z_]\w*)\s*(<=|>=|==|!=|<|>)\s*(\S+)\s*")


@dataclass(frozen=True)
class Condition:
    """A figure compared with a number."""

    figure: str
    comparison: str
    bound: float

    @classmethod
    def parse(cls, text: str) -> Condition:
        """From `<figure> <comparison> <number>`. Raises InputError that names the condition and what is wrong with it."""
        found = _FORM.fullmatch(text)
        if found is None:
            raise InputError(
                f"condition '{text}' is not a comparison; write a figure, one of {', '.join(_OPERATORS)} and a number, such as "
                "'e_above_hull < 0.1'."
            )
        figure, comparison, number = found.groups()
        if figure not in known_figures():
            near = difflib.get_close_matches(figure, known_figures(), n=1)
            advice = f"did you mean '{near[0]}'" if near else f"use one of {', '.join(known_figures())}"
            raise InputError(f"condition '{text}': '{figure}' is not a figure; {advice}.")
        try:
            bound = float(number)
        except ValueError:
            bound = np.nan
        if not np.isfinite(bound):
            raise InputError(f"condition '{text}': '{number}' is not a finite number; write one, such as 0.1.")
        return cls(figure, comparison, bound)

    def __str__(self) -> str:
        return f"{self.figure} {self.comparison} {self.bound}"

    @property
    def needs(self) -> frozenset[str]:
        """The group of figures that must be computed; none for figures of the crystal itself."""
        return frozenset({GROUP_OF[self.figure]}) if self.figure in GROUP_OF else frozenset()

    @property
    def doubtful(self) -> bool:
        """Whether it never holds for a suspect crystal, since it asks for an energy."""
        return doubtful(self.figure)

    def holds(self, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
        """Where the condition holds, and where its figure is known at all: (N,) bool each."""
        values = batch.figure(self.figure)
        return _OPERATORS[self.comparison](values, self.bound), np.isfinite(values)


def parse_conditions(texts: Iterable[str]) -> tuple[Condition, ...]:
    """All conditions of a term. Raises InputError for a text that is none, and for conditions that no figure can meet."""
    conditions = tuple(Condition.parse(text) for text in texts)
    for figure in {condition.figure: None for condition in conditions}:
        together = [condition for condition in conditions if condition.figure == figure]
        if not _possible(together):
            named = " and ".join(f"'{condition}'" for condition in together)
            raise InputError(f"conditions {named} never hold together; leave one out or correct it.")
    return conditions


def _possible(conditions: list[Condition]) -> bool:
    """Whether some number meets all conditions, which are on one figure."""
    bounds = sorted({condition.bound for condition in conditions})
    between = [low / 2 + high / 2 for low, high in itertools.pairwise(bounds)]
    # Between two bounds next to each other all numbers are alike.
    return any(
        all(_OPERATORS[condition.comparison](value, condition.bound) for condition in conditions)
        for value in (-math.inf, *bounds, *between, math.inf)
    )
