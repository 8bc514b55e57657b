"""What can be rewarded: the built-in terms, and those that users register."""

from __future__ import annotations

import difflib
import importlib
import importlib.metadata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from crystalformer_rl.crystal.elements import atomic_number
from crystalformer_rl.errors import InputError
from crystalformer_rl.rewards.element_values import PER, ElementValues
from crystalformer_rl.rewards.figures import GROUP_OF, Batch

ENTRY_POINTS = "crystalformer_rl.reward_terms"
"""Group of the entry points by which a package offers terms: name = "package.module:factory"."""

UNCERTAIN = ("band_gap", "eps_electronic", "eps_total", "fom", "fom_total")
CERTAIN = ("e_above_hull", "formation_energy", "force", "novelty", "n_elements")


class Term(Protocol):
    """A number for each crystal.

    needs: groups of figures that must be computed first, of `figures.GROUPS`; empty where composition and sites suffice.
    """

    @property
    def needs(self) -> frozenset[str]: ...

    def __call__(self, batch: Batch) -> tuple[np.ndarray, np.ndarray | None]:
        """Value (N,) and standard deviation (N,), or None where there is none, of crystals that all have status ok.

        NaN is for a crystal of which the value is not known. Energies of suspect crystals have been lifted to where
        suspicion begins.
        """
        ...


Factory = Callable[[Mapping[str, Any]], Term]
"""From the options of the configuration to the term. Raises InputError for options that it does not take."""


@dataclass(frozen=True)
class Figure:
    """A figure as it was computed."""

    name: str
    uncertain: bool

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({GROUP_OF[self.name]}) if self.name in GROUP_OF else frozenset()

    def __call__(self, batch: Batch) -> tuple[np.ndarray, np.ndarray | None]:
        return batch.figure(self.name), batch.figure(f"{self.name}_std") if self.uncertain else None


@dataclass(frozen=True)
class ElementFraction:
    """Fraction of the atoms that are of the given elements."""

    numbers: frozenset[int]
    needs: frozenset[str] = frozenset()
    uncertain: bool = False

    def __call__(self, batch: Batch) -> tuple[np.ndarray, None]:
        wanted = sorted(self.numbers)
        return np.array([np.isin(z, wanted).mean() for z in batch.atomic_numbers if z is not None], float), None


@dataclass(frozen=True)
class ElementTable:
    """Mean or sum of a table's values over the elements of a crystal."""

    values: ElementValues
    needs: frozenset[str] = frozenset()
    uncertain: bool = False

    def __call__(self, batch: Batch) -> tuple[np.ndarray, None]:
        return np.array([self.values.of(z) for z in batch.atomic_numbers if z is not None], float), None


def _figure(name: str) -> Factory:
    def make(options: Mapping[str, Any]) -> Term:
        check_options(name, options, ())
        return Figure(name, name in UNCERTAIN)

    return make


def _element_fraction(options: Mapping[str, Any]) -> Term:
    check_options("element_fraction", options, ("elements",))
    symbols = options.get("elements")
    if not isinstance(symbols, list) or not symbols or not all(isinstance(s, str) for s in symbols):
        raise InputError(
            "reward term 'element_fraction' needs the option 'elements', a list of symbols such as [Pb, Cd, Hg] (in "
            f'quotes where YAML takes one for a truth value, as "No"), not {symbols!r}.'
        )
    return ElementFraction(frozenset(atomic_number(s) for s in symbols))


def _element_table(options: Mapping[str, Any]) -> Term:
    check_options("element_table", options, ("table", "per", "missing"))
    path, per, missing = options.get("table"), options.get("per", "atom"), options.get("missing")
    if not isinstance(path, str):
        raise InputError(
            "reward term 'element_table' needs the option 'table', the path of a CSV file with the columns 'element' and "
            f"'value', not {path!r}."
        )
    if per not in PER:
        raise InputError(f"reward term 'element_table', option 'per': {per!r} is not one of {', '.join(PER)}.")
    if missing is not None and (isinstance(missing, bool) or not isinstance(missing, int | float)):
        raise InputError(f"reward term 'element_table', option 'missing': {missing!r} is no number; give one.")
    return ElementTable(ElementValues.read(path, per, missing))


BUILT_IN: dict[str, Factory] = {name: _figure(name) for name in (*CERTAIN, *UNCERTAIN)} | {
    "element_fraction": _element_fraction,
    "element_table": _element_table,
}


def check_options(term: str, options: Mapping[str, Any], known: tuple[str, ...]) -> None:
    """Raises InputError for an option that the term does not take."""
    for name in options:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1)
            advice = (
                f"did you mean '{near[0]}'"
                if near
                else f"it takes {', '.join(known)}"
                if known
                else "it takes none, so leave 'options' out"
            )
            raise InputError(f"reward term '{term}' has no option '{name}'; {advice}.")


def make_term(name: str, options: Mapping[str, Any]) -> Term:
    """The term of that name: built in, registered by an installed package, or `package.module:name`.

    Raises InputError for a name that leads to none.
    """
    if name in BUILT_IN:
        return BUILT_IN[name](options)
    factory = _by_path(name) if ":" in name else _registered(name)
    term = factory(options)
    if not callable(term) or not isinstance(getattr(term, "needs", None), frozenset | set):
        raise InputError(
            f"reward term '{name}' makes a {type(term).__name__}, which is no term; its factory must return a callable "
            "with the attribute 'needs', a frozenset of groups of figures."
        )
    return term


def _registered(name: str) -> Factory:
    found = {point.name: point for point in importlib.metadata.entry_points(group=ENTRY_POINTS)}
    if name not in found:
        names = [*BUILT_IN, *found]
        near = difflib.get_close_matches(name, names, n=1)
        advice = f"did you mean '{near[0]}'" if near else f"use one of {', '.join(names)}, or package.module:name"
        raise InputError(f"'{name}' is no reward term; {advice}.")
    try:
        return found[name].load()
    except (ImportError, AttributeError) as error:
        raise InputError(
            f"reward term '{name}' ({found[name].value}) cannot be loaded ({error}); mend or remove the package of it."
        ) from error


def _by_path(path: str) -> Factory:
    module_name, _, attribute = path.partition(":")
    try:
        factory = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, ValueError) as error:
        raise InputError(
            f"reward term '{path}': cannot import {module_name} ({error}); install it or correct the path."
        ) from error
    except AttributeError as error:
        raise InputError(f"reward term '{path}': {module_name} has no '{attribute}'; correct the name.") from error
    if not callable(factory):
        raise InputError(f"reward term '{path}' is no function that makes a term; name one.")
    return factory
