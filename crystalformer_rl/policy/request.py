"""What a user asks of a run's crystals, checked and turned into the masks and space groups of the run."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from crystalformer_rl.crystal.elements import parse_formula, symbol
from crystalformer_rl.crystal.wyckoff import LETTERS, centring_vectors, letter_name, wyckoff_table
from crystalformer_rl.errors import InputError
from crystalformer_rl.policy.completion import FormulaRequest, make_completion
from crystalformer_rl.policy.constraints import Behaviour, allowed_elements

MAX_ATOMS = 40
"""Atoms in a primitive cell that a formula may fill by default; policies are trained on cells of at most 20."""


@dataclass(frozen=True)
class Request:
    """Constraints on a run's crystals; the defaults ask for nothing.

    elements, forbidden: atomic numbers, `elements` None for all; site_elements: what each letter (1 = a) may hold;
    wyckoff: the letters of all sites, such as ("1a", "b"), none for any; formula: such as "Cs2LiLuF6", empty for
    any; formula_units: in the conventional cell, none for any number up to max_atoms atoms in the primitive cell; max_atoms: None for any
    number, of a formula for 40.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    elements: set[int] | None = None
    forbidden: set[int] = field(default_factory=set)
    site_elements: Mapping[int, set[int]] = field(default_factory=dict)
    wyckoff: Sequence[str] = ()
    formula: str = ""
    formula_units: Sequence[int] = ()
    max_atoms: int | None = None

    def plan(self, weights: Sequence[float], n_max: int) -> tuple[Behaviour, list[float]]:
        """The run's behaviour, and the weights (230,) of those space groups that can hold what is asked.

        `n_max`: places of the policy. Raises InputError if no space group of positive weight can, with the reason.
        """
        allowed = allowed_elements(self.elements, self.forbidden, self.site_elements)
        groups = [g for g in range(1, 231) if weights[g - 1] > 0]
        template = self._template(groups, n_max) if self.wyckoff else None
        most = None
        if self.max_atoms is not None and not self.formula:
            most = np.array([0, *(self.max_atoms * len(centring_vectors(g)) for g in range(1, 231))])
        able = [g for g in groups if _some_letter_holds(g, allowed, template)]
        if able and most is not None:
            able = [g for g in able if _least_atoms(g, allowed, template) <= most[g]]
            if not able:
                raise InputError(
                    f"No space group asked for has a primitive cell of at most {self.max_atoms} atoms with such sites; allow more atoms."
                )
        if not able:
            raise InputError(
                "No Wyckoff position of the space groups asked for may hold any element; allow more elements, or other ones "
                "on its sites."
            )
        formula = None
        if self.formula:
            asked = parse_formula(self.formula)
            _check_elements(self.formula, asked, allowed)
            request = FormulaRequest(
                asked, tuple(self.formula_units), self.max_atoms or MAX_ATOMS, n_max - 1, allowed, template
            )
            formula, able = make_completion(request, able)
        elif self.formula_units:
            raise InputError("Formula units are given, but no formula that they count; give one too.")
        behaviour = Behaviour.make(self.temperature, self.top_p, allowed, template, formula, n_max, most)
        return behaviour, [weights[g - 1] * (g in set(able)) for g in range(1, 231)]

    def _template(self, groups: list[int], n_max: int) -> tuple[int, ...]:
        if len(groups) != 1:
            raise InputError(
                "Wyckoff positions are named, which are those of one space group; choose exactly one space group."
            )
        letters = parse_wyckoff(groups[0], self.wyckoff)
        if len(letters) >= n_max:
            raise InputError(
                f"{len(letters)} Wyckoff positions are named, the policy has room for {n_max - 1}; leave some out."
            )
        return letters


def parse_wyckoff(g: int, names: Sequence[str]) -> tuple[int, ...]:
    """Sites such as "4a", "b" (1 = a) in the order of their letters. Raises InputError for what `g` has not."""
    table, letters = wyckoff_table(), []
    for name in names:
        found = re.fullmatch(r"(\d*)([A-Za-z])", name)
        letter = LETTERS.find(found[2]) + 1 if found else 0
        if not found or not 1 <= letter <= table.n_letters(g):
            last = letter_name(table.n_letters(g))
            raise InputError(f"'{name}' is not a Wyckoff position of space group {g}; its letters go from a to {last}.")
        multiplicity = table.multiplicity(g, letter)
        if found[1] and int(found[1]) != multiplicity:
            raise InputError(f"Space group {g} has no position {name}; {found[2]} has multiplicity {multiplicity}.")
        letters.append(letter)
    letters.sort()
    for before, after in itertools.pairwise(letters):
        if before == after and table.no_freedom[g, before]:
            raise InputError(f"Position {letter_name(before)} of space group {g} holds one site only; name it once.")
    return tuple(letters)


def _some_letter_holds(g: int, allowed: np.ndarray, template: tuple[int, ...] | None) -> bool:
    holds = np.asarray(allowed.any(1))
    if template is not None:
        return all(holds[letter] for letter in template)
    return bool(holds[1 : wyckoff_table().n_letters(g) + 1].any())


def _least_atoms(g: int, allowed: np.ndarray, template: tuple[int, ...] | None) -> int:
    """Atoms in the conventional cell of the template, or of the smallest site that may hold an element."""
    table = wyckoff_table()
    if template is not None:
        return sum(table.multiplicity(g, letter) for letter in template)
    return min(table.multiplicity(g, w) for w in range(1, table.n_letters(g) + 1) if allowed[w].any())


def _check_elements(formula: str, asked: Mapping[int, int], allowed: np.ndarray) -> None:
    missing = [symbol(z) for z in asked if not allowed[:, z].any()]
    if missing:
        raise InputError(f"Formula {formula} holds {missing[0]}, which is not allowed; allow it or change the formula.")
