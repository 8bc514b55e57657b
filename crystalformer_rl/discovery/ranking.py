"""In which order crystals are recommended, and which are left out of the best."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from crystalformer_rl.crystal.elements import ELEMENT_GROUPS, SYMBOLS
from crystalformer_rl.errors import InputError
from crystalformer_rl.tables.conditions import Condition, parse_conditions
from crystalformer_rl.tables.discovery_columns import EVALUATED, KNOWN_COMPOUND

_Row = dict[str, Any]

MERITS = ("fom", "fom_total")
REWARD = "reward"
CHANCE = "p_stable"
_BY_ENERGY = "e_above_hull"
NUMBERS = tuple(c.name for c in EVALUATED if pa.types.is_floating(c.type) or pa.types.is_integer(c.type))
"""Columns of the evaluated crystals that can rank, and on which conditions can be; the reward can rank too."""


@dataclass(frozen=True)
class Ranking:
    """How crystals are ordered.

    by: `p_stable`: falling, by both potentials where a second one judged; crystals without one after those that have it, by energy. `e_above_hull`: rising, all below the hull alike, then by falling support of the hull for each of its sub-systems, converged
    and new ones first; where all crystals are of one formula, by energy alone. `fom`, `fom_total`: stable crystals first, by falling figure of merit.
    Another column: stable crystals first, by its falling value, or with a minus before the name by its rising one. `reward`:
    the same, by what the crystal earns at rest. where:
    conditions; exclude: elements. Crystals that do not meet these stand after all others.
    """

    by: str = CHANCE
    where: tuple[Condition, ...] = ()
    exclude: frozenset[str] = frozenset()

    @classmethod
    def of(cls, by: str, where: Sequence[str] = (), exclude: Sequence[str] = ()) -> Ranking:
        """From the configuration's words. Raises InputError for a column or an element that there is not."""
        if by.removeprefix("-") not in (REWARD, *NUMBERS):
            raise InputError(f"'{by}' ranks nothing; use one of {', '.join((REWARD, *NUMBERS))}.")
        elements: set[str] = set()
        for name in exclude:
            if name not in ELEMENT_GROUPS and name not in SYMBOLS:
                raise InputError(f"'{name}' is not an element symbol; write one, or {' or '.join(ELEMENT_GROUPS)}.")
            elements |= set(ELEMENT_GROUPS.get(name, (name,)))
        return cls(by, parse_conditions(where, NUMBERS), frozenset(elements))

    @property
    def rule(self) -> str:
        """The order in words."""
        column = self.by.removeprefix("-")
        if self.by == CHANCE:
            words = "by falling probability of being stable, by both potentials where a second one judged; without one, and where all are of one formula, by rising energy above the hull"
        elif self.by == _BY_ENERGY:
            words = "by rising energy above the hull; all on it or below alike, by falling support of the hull for each sub-system, converged and new ones first"
        elif self.by in MERITS:
            which = " with the total dielectric constant" if self.by == "fom_total" else ""
            words = (
                f"stable crystals first, by falling figure of merit{which}; then the others by rising energy above the hull"
            )
        else:
            words = f"stable crystals first, by {'rising' if self.by != column else 'falling'} {column}; then the others by rising energy above the hull"
        conditions = [str(condition) for condition in self.where]
        if conditions:
            words += f"; first those with {' and '.join(conditions)}"
        return words + (f"; last those with {_named(self.exclude)}" if self.exclude else "")

    def left_out(self, row: _Row) -> str | None:
        """Why a crystal is not among those recommended; None where it is."""
        symbols = {SYMBOLS[z - 1] for z in row["atomic_numbers"] or ()}
        if found := sorted(symbols & self.exclude, key=SYMBOLS.index):
            return f"contains {' and '.join(found)}"
        for condition in self.where:
            value = row[condition.figure]
            if value is None:
                return f"{condition.figure} is not known"
            if not condition.compare(value):
                return f"not {condition}"
        return None

    def key(self, row: _Row, one_formula: bool) -> tuple[Any, ...]:
        """What a crystal is sorted by, best first."""
        out = self.left_out(row) is not None
        height = row["e_above_hull"]
        energy = (height if one_formula else max(height, 0.0), -_support(row), not row["converged"])
        new = row["known_level"] in KNOWN_COMPOUND
        if self.by == CHANCE:
            return out, *(() if one_formula else (-chance(row),)), *energy, new
        if self.by == _BY_ENERGY:
            return out, *energy, new
        column = self.by.removeprefix("-")
        value = row[column]
        merit = math.inf if value is None or not row["stable"] else value if self.by != column else -value
        return out, not row["stable"], merit, *energy, new


def chance(row: _Row) -> float:
    """The probability of being stable, by both potentials where a second one judged; −1 where there is none."""
    found = [row[name] for name in ("p_stable_judged", "p_stable") if row[name] is not None]
    return float(found[0]) if found else -1.0


def _support(row: _Row) -> float:
    """Known compositions for each sub-system of two or more elements: a system of more elements has many more of both."""
    n = len(set(row["atomic_numbers"] or ()))
    return (row["hull_support"] or 0) / max(2**n - n - 1, 1)


def _named(elements: frozenset[str]) -> str:
    """Elements in words, whole groups by their names."""
    left, words = set(elements), []
    for name, members in ELEMENT_GROUPS.items():
        if set(members) <= left:
            words.append({"noble_gases": "noble gases", "no_stable_isotope": "elements without a stable isotope"}[name])
            left -= set(members)
    return " or ".join([*words, *sorted(left, key=SYMBOLS.index)])
