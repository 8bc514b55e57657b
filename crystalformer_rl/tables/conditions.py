"""Conditions on named figures: `e_above_hull < 0.1`, `band_gap between 1.2 and 1.6`."""

from __future__ import annotations

import difflib
import itertools
import math
import operator
import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any

from crystalformer_rl.errors import InputError

_OPERATORS: dict[str, Callable[[Any, float], Any]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
}
_FORM = re.compile(r"\s*([A-Za-z_]\w*)\s*(<=|>=|==|!=|<|>)\s*(\S+)\s*")
_BETWEEN = re.compile(r"\s*([A-Za-z_]\w*)\s+between\s+(\S+)\s+and\s+(\S+)\s*")


@dataclass(frozen=True)
class Condition:
    """A figure compared with a number."""

    figure: str
    comparison: str
    bound: float

    def __str__(self) -> str:
        return f"{self.figure} {self.comparison} {self.bound}"

    def compare(self, values: Any) -> Any:
        """Where the condition holds for a number or an array of them; a NaN meets only `!=`."""
        return _OPERATORS[self.comparison](values, self.bound)


def parse_conditions(texts: Iterable[str], names: Collection[str]) -> tuple[Condition, ...]:
    """All conditions in `texts`, of figures among `names`; both bounds of `between` are included.

    Raises InputError for a text that is no condition, an unknown figure, and conditions that no figure can meet.
    """
    conditions = tuple(condition for text in texts for condition in _parsed(text, names))
    for figure in {condition.figure: None for condition in conditions}:
        together = [condition for condition in conditions if condition.figure == figure]
        if not _possible(together):
            named = " and ".join(f"'{condition}'" for condition in together)
            raise InputError(f"conditions {named} never hold together; leave one out or correct it.")
    return conditions


def _parsed(text: str, names: Collection[str]) -> tuple[Condition, ...]:
    if found := _BETWEEN.fullmatch(text):
        figure, low, high = found.groups()
        return _condition(text, figure, ">=", low, names), _condition(text, figure, "<=", high, names)
    if found := _FORM.fullmatch(text):
        figure, comparison, number = found.groups()
        return (_condition(text, figure, comparison, number, names),)
    raise InputError(
        f"condition '{text}' is not a comparison; write a figure, one of {', '.join(_OPERATORS)} and a number, such as "
        "'e_above_hull < 0.1', or 'band_gap between 1.2 and 1.6'."
    )


def _condition(text: str, figure: str, comparison: str, number: str, names: Collection[str]) -> Condition:
    if figure not in names:
        near = difflib.get_close_matches(figure, names, n=1)
        advice = f"did you mean '{near[0]}'" if near else f"use one of {', '.join(names)}"
        raise InputError(f"condition '{text}': '{figure}' is not a figure; {advice}.")
    try:
        bound = float(number)
    except ValueError:
        bound = math.nan
    if not math.isfinite(bound):
        raise InputError(f"condition '{text}': '{number}' is not a finite number; write one, such as 0.1.")
    return Condition(figure, comparison, bound)


def _possible(conditions: list[Condition]) -> bool:
    """Whether some number meets all conditions, which are on one figure."""
    bounds = sorted({condition.bound for condition in conditions})
    between = [low / 2 + high / 2 for low, high in itertools.pairwise(bounds)]
    # Between two bounds next to each other all numbers are alike.
    return any(
        all(condition.compare(value) for condition in conditions) for value in (-math.inf, *bounds, *between, math.inf)
    )
