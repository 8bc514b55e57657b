"""Conditions on figures: `e_above_hull < 0.1`."""

from __future__ import annotations

import difflib
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from crystalformer_rl.errors import InputError
from crystalformer_rl.rewards.figures import GROUP_OF, Batch, doubtful, known_figures

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
                f"condition '{text}' is no comparison; write a figure, one of {', '.join(_OPERATORS)} and a number, such as "
                "'e_above_hull < 0.1'."
            )
        figure, comparison, number = found.groups()
        if figure not in known_figures():
            near = difflib.get_close_matches(figure, known_figures(), n=1)
            advice = f"did you mean '{near[0]}'" if near else f"use one of {', '.join(known_figures())}"
            raise InputError(f"condition '{text}': '{figure}' is no figure; {advice}.")
        try:
            bound = float(number)
        except ValueError:
            bound = np.nan
        if not np.isfinite(bound):
            raise InputError(f"condition '{text}': '{number}' is no finite number; write one, such as 0.1.")
        return cls(figure, comparison, bound)

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
