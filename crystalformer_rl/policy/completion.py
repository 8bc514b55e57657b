"""Exact formulas: which letters and elements can still be completed to the formula that a run asks for.

A crystal's conventional cell must hold a whole number of formula units. Its letters
come in order, each with a multiplicity, and a position without freedom takes one site only; so whether
atoms already placed can be completed is a knapsack problem. It is solved once a
space group, for every state that sampling can reach; the sampler and the likelihood then
mask what has no completion.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import gcd
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from crystalformer_rl.crystal.elements import reduced_formula
from crystalformer_rl.crystal.wyckoff import centring_vectors, letter_name, wyckoff_table
from crystalformer_rl.errors import InputError

_NEVER = 100
"""More sites than any sequence has: what stands for no completion."""

_MOST_STATES = 100_000_000
_LEAST_STATES = 1 << 16
_ELEMENTS_STEP = 4


class Completion(NamedTuple):
    """The least number of sites that completes each state, for every space group of a run.

    A state of space group g is a cursor (the first letter that may still come; for a template, the place) and the
    atoms placed of each of E elements, in units of `unit[g]`. needed: (states,) int8, at
    `start[g] + cursor * size[g] + Σ placed * stride[g]`. elements: (E,) atomic numbers, −1 where the array is filled up. limit: (231, E), the
    most units of each element. sites: of a sequence, at most.
    """

    elements: Int[Array, " e"]
    needed: Int[Array, " states"]
    start: Int[Array, " 231"]
    size: Int[Array, " 231"]
    unit: Int[Array, " 231"]
    stride: Int[Array, "231 e"]
    limit: Int[Array, "231 e"]
    sites: Int[Array, ""]

    def sites_needed(self, g: Int[Array, "*n"], cursor: Int[Array, "*n"], placed: Int[Array, "*n e"]) -> Int[Array, "*n"]:
        """The least number of sites to come; `_NEVER` where no completion exists. `placed` counts atoms."""
        unit, limit = self.unit[g][..., None], self.limit[g]
        units = placed // unit
        inside = ((placed % unit == 0) & (units <= limit)).all(-1)
        state = self.start[g] + cursor * self.size[g] + (jnp.minimum(units, limit) * self.stride[g]).sum(-1)
        return jnp.where(inside, self.needed[state].astype(jnp.int32), _NEVER)

    def complete(self, g: Int[Array, "*n"], placed: Int[Array, "*n e"]) -> Bool[Array, "*n"]:
        """Whether the atoms placed are a whole number of formula units that the run admits."""
        return self.sites_needed(g, jnp.ones_like(g), placed) == 0


@dataclass(frozen=True)
class FormulaRequest:
    """What a run asks of the composition.

    counts: atoms of each element in the reduced formula; units: formula units that a conventional cell may hold, none
    given means any; max_atoms: in the primitive cell; sites: in a sequence, at most; allowed: (28, 119)
    bool, the elements that a letter may hold; template: the letters of all sites, or None.
    """

    counts: Mapping[int, int]
    units: tuple[int, ...]
    max_atoms: int
    sites: int
    allowed: np.ndarray
    template: tuple[int, ...] | None = None

    @cached_property
    def reduced(self) -> dict[int, int]:
        divisor = gcd(*self.counts.values())
        return {z: n // divisor for z, n in sorted(self.counts.items())}

    @property
    def elements(self) -> list[int]:
        return list(self.reduced)

    def name(self) -> str:
        return reduced_formula(np.repeat(list(self.reduced), list(self.reduced.values())))


def make_completion(request: FormulaRequest, space_groups: Sequence[int]) -> tuple[Completion, list[int]]:
    """The table of a run, and those of `space_groups` that can hold the formula.

    Raises InputError with the reason if none can.
    """
    tables, able, reasons, total = {}, [], {}, 0
    for g in space_groups:
        units, reason = _admitted_units(request, g)
        if units:
            tables[g] = _group_table(request, g, units)
            total += tables[g][0].size
            if total > _MOST_STATES:
                raise InputError(
                    f"Formula {request.name()}: too many ways to compose it in all these space groups; name fewer of "
                    "them, or say how many formula units, or allow fewer atoms."
                )
            if tables[g][0].reshape(-1)[_first_cursor(request) * tables[g][1]] <= request.sites:
                able.append(g)
                continue
            reason = _no_sites_reason(request, g, units)
        reasons[g] = reason
    if not able:
        raise InputError(_refusal(request, reasons))
    return _assemble(request, {g: tables[g] for g in able}), able


def _first_cursor(request: FormulaRequest) -> int:
    return 1 if request.template is None else 0


def _admitted_units(request: FormulaRequest, g: int) -> tuple[list[int], str]:
    """Formula units that a conventional cell of `g` may hold by its number of atoms, and why none if none."""
    per_unit = sum(request.reduced.values())
    most_atoms = request.max_atoms * len(centring_vectors(g))
    most = most_atoms // per_unit
    chosen = [z for z in (request.units or range(1, most + 1)) if z <= most]
    if not chosen:
        least = min(request.units) if request.units else 1
        return [], (
            f"{least} formula unit{'s' if least > 1 else ''} make {least * per_unit} atoms, "
            f"its conventional cell may hold {most_atoms} by the limit on atoms"
        )
    divisor = _divisor(request, g)
    fitting = [z for z in chosen if all(z * n % divisor == 0 for n in request.reduced.values())]
    if not fitting:
        return [], f"its multiplicities are all divisible by {divisor}, the atoms of {_units_words(chosen)} are not"
    return fitting, ""


def _units_words(units: Sequence[int]) -> str:
    if len(units) == 1:
        return f"{units[0]} formula unit{'s' if units[0] > 1 else ''}"
    return (
        f"any of {', '.join(map(str, units))} formula units" if len(units) < 4 else f"any of 1 to {max(units)} formula units"
    )


def _letters(request: FormulaRequest, g: int) -> list[int]:
    table = wyckoff_table()
    return list(request.template) if request.template is not None else list(range(1, table.n_letters(g) + 1))


def _divisor(request: FormulaRequest, g: int) -> int:
    return gcd(*(wyckoff_table().multiplicity(g, w) for w in _letters(request, g)))


def _group_table(request: FormulaRequest, g: int, units: Sequence[int]) -> tuple[np.ndarray, int, int, np.ndarray]:
    """(cursors, states of the atoms placed) least sites to completion; the states' number, the unit and the limits (E,)."""
    table, divisor = wyckoff_table(), _divisor(request, g)
    formula = np.array(list(request.reduced.values()))
    limits = max(units) * formula // divisor
    done = np.full(limits + 1, _NEVER, np.int8)
    for z in units:
        done[tuple(z * formula // divisor)] = 0
    letters = _letters(request, g)
    later = [done]
    for letter in reversed(letters):
        multiplicity = table.multiplicity(g, letter) // divisor
        elements = [e for e, z in enumerate(request.elements) if request.allowed[letter, z]]
        if request.template is not None:
            later.append(_one_site(later[-1], multiplicity, elements))
        elif table.no_freedom[g, letter]:
            later.append(np.minimum(later[-1], _one_site(later[-1], multiplicity, elements)))
        else:
            later.append(_any_sites(later[-1], multiplicity, elements))
    if request.template is None:
        later.append(later[-1])  # cursor 0 is never used
    stacked = np.stack(later[::-1]).reshape(len(later), -1)
    return stacked, stacked.shape[1], divisor, limits


def _one_site(after: np.ndarray, multiplicity: int, elements: Sequence[int]) -> np.ndarray:
    """Least sites when exactly one site of this multiplicity comes before those counted in `after`."""
    best = np.full_like(after, _NEVER)
    for e in elements:
        if multiplicity < after.shape[e]:
            here, there = _shifted(after.ndim, e, multiplicity)
            best[here] = np.minimum(best[here], after[there] + 1)
    return np.minimum(best, _NEVER)


def _any_sites(after: np.ndarray, multiplicity: int, elements: Sequence[int]) -> np.ndarray:
    """Least sites when any number of sites of this multiplicity comes before those counted in `after`."""
    best = after.copy()
    for e in elements:
        axis = np.moveaxis(best, e, 0)
        for placed in range(len(axis) - 1 - multiplicity, -1, -1):
            axis[placed] = np.minimum(axis[placed], axis[placed + multiplicity] + 1)
    return np.minimum(best, _NEVER)


def _shifted(ndim: int, axis: int, step: int) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    here, there = [slice(None)] * ndim, [slice(None)] * ndim
    here[axis], there[axis] = slice(None, -step), slice(step, None)
    return tuple(here), tuple(there)


def _assemble(request: FormulaRequest, tables: dict[int, tuple[np.ndarray, int, int, np.ndarray]]) -> Completion:
    # Filled up to few sizes, so that one compiled program serves many formulas.
    n = -(-len(request.elements) // _ELEMENTS_STEP) * _ELEMENTS_STEP
    elements = np.full(n, -1, np.int32)
    elements[: len(request.elements)] = request.elements
    start, size, unit = np.zeros(231, np.int32), np.zeros(231, np.int32), np.ones(231, np.int32)
    stride, limit = np.zeros((231, n), np.int32), np.zeros((231, n), np.int32)
    offset = 0
    for g, (table, states, divisor, limits) in tables.items():
        start[g], size[g], unit[g], limit[g, : len(limits)] = offset, states, divisor, limits
        stride[g, : len(limits)] = np.append(np.cumprod((limits + 1)[::-1])[::-1][1:], 1)
        offset += table.size
    needed = np.full(max(_LEAST_STATES, 1 << (offset - 1).bit_length()), _NEVER, np.int8)
    needed[:offset] = np.concatenate([table.reshape(-1) for table, *_ in tables.values()])
    arrays = (elements, needed, start, size, unit, stride, limit, np.int32(request.sites))
    return Completion(*(jnp.asarray(array) for array in arrays))


def _no_sites_reason(request: FormulaRequest, g: int, units: Sequence[int]) -> str:
    table = wyckoff_table()
    if request.template is not None:
        letters = " ".join(f"{table.multiplicity(g, w)}{letter_name(w)}" for w in request.template)
        return f"the atoms cannot be shared out among the sites {letters}"
    return f"no choice of at most {request.sites} sites on its Wyckoff positions adds up to {_units_words(units)}"


def _refusal(request: FormulaRequest, reasons: dict[int, str]) -> str:
    shown = [f"space group {g}: {reason}" for g, reason in list(reasons.items())[:3]]
    more = f"; and {len(reasons) - 3} more" if len(reasons) > 3 else ""
    return (
        f"Formula {request.name()} fits in none of the space groups asked for ({'; '.join(shown)}{more}); "
        "choose other space groups, more atoms or other formula units."
    )
