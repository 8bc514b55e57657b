"""What can be rewarded: the built-in terms, and those that users register."""

from __future__ import annotations

import difflib
import importlib
import importlib.metadata
import math
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from crystalformer_rl.crystal.elements import atomic_number
from crystalformer_rl.errors import InputError
from crystalformer_rl.rewards.element_values import PER, ElementValues
from crystalformer_rl.rewards.scored_batch import GROUP_OF, Batch

ENTRY_POINTS = "crystalformer_rl.reward_terms"
"""Group of the entry points by which a package offers terms: name = "package.module:factory"."""

UNCERTAIN = ("band_gap", "eps_electronic", "eps_total", "fom", "fom_total")
CERTAIN = ("e_above_hull", "p_stable", "formation_energy", "force", "novelty", "new_formula", "n_elements")


_OF_ELEMENTS = ("price", "cost", "scarcity", "abundance", "supply", "toxicity")
"""Words for what a table of the elements holds; terms of such names are looked for, and are none."""


class Term(Protocol):
    """A number for each crystal.

    needs: groups of figures that must be computed first, of `figures.GROUPS`; empty where composition and sites suffice.
    """

    @property
    def needs(self) -> frozenset[str]: ...

    def __call__(self, batch: Batch) -> tuple[np.ndarray, np.ndarray | None]:
        """Value (N,) and standard deviation (N,), or None where there is none, of crystals that all have status ok.

        NaN is for a crystal of which the value is not known. Crystals below the hull have been lifted to it, in
        all energies. The batch is never empty, and its arrays are read-only.
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
    if not isinstance(path, str) or "\0" in path:
        raise InputError(
            "reward term 'element_table' needs the option 'table', the path of a CSV file with the columns 'element' and "
            f"'value', not {path!r}."
        )
    if per not in PER:
        raise InputError(f"reward term 'element_table', option 'per': {per!r} is not one of {', '.join(PER)}.")
    if missing is not None and not _is_finite(missing):
        raise InputError(f"reward term 'element_table', option 'missing': {missing!r:.40} is not a finite number; give one.")
    return ElementTable(ElementValues.read(path, per, missing))


def _is_finite(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number too large for a float
        return False


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

    Raises InputError for a name that leads to none, and for whatever goes wrong in making it.
    """
    if name in BUILT_IN:
        return BUILT_IN[name](options)
    factory = _by_path(name) if ":" in name else _registered(name)
    if not callable(factory):
        raise InputError(
            f"reward term '{name}' leads to a {type(factory).__name__}, no function that makes a term; name one."
        )
    try:
        term = factory(dict(options))
        needs = getattr(term, "needs", None)
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"reward term '{name}' cannot be made of its options ({_words(error)}); correct these, or let it be a function "
            "that takes them and returns a term."
        ) from error
    if not callable(term) or not isinstance(needs, frozenset | set):
        raise InputError(
            f"reward term '{name}' makes a {type(term).__name__}, which is not a term; its factory must return a callable "
            "with the attribute 'needs', a frozenset of groups of figures."
        )
    return term


def ask(name: str, term: Term, batch: Batch) -> tuple[np.ndarray, np.ndarray | None]:
    """What a term says of a batch: value (N,) and standard deviation (N,) or None, both float.

    Raises InputError that names the term, for whatever goes wrong in it and for an answer of another form.
    """
    if not len(batch):
        return np.zeros(0), np.zeros(0)
    try:
        answer = term(batch.sealed())
    except InputError:
        raise
    except Exception as error:
        advice = "let it change copies only" if "read-only" in str(error) else "mend it"
        raise InputError(f"reward term '{name}' failed at {len(batch)} crystals ({_words(error)}); {advice}.") from error
    if not isinstance(answer, tuple | list) or len(answer) != 2:
        raise InputError(
            f"reward term '{name}' returned a {type(answer).__name__}, but it must return two things, the values and their "
            "standard deviations, or None for these."
        )
    value, std = answer
    return _numbers(name, "values", value, len(batch)), (
        None if std is None else _numbers(name, "standard deviations", std, len(batch))
    )


def _numbers(name: str, what: str, given: Any, n: int) -> np.ndarray:
    """(n,) float of what a term returned."""
    try:
        array = np.asarray(given)
        if array.dtype.kind not in "biufO":  # text and complex numbers would be converted, too
            raise TypeError(f"{array.dtype} is not real")
        array = array.astype(float)
    except Exception as error:
        raise InputError(f"reward term '{name}' gave {what} that are not numbers ({_words(error)}); mend it.") from error
    if array.shape != (n,):
        raise InputError(
            f"reward term '{name}' gave {what} of shape {array.shape} for {n} crystals; it must give one number a crystal."
        )
    return array


def _words(error: BaseException) -> str:
    """An error of others' code in one line."""
    text = textwrap.shorten(str(error), 300, placeholder=" …").rstrip(".")
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _registered(name: str) -> Any:
    """What packages offer under a name."""
    points = list(importlib.metadata.entry_points(group=ENTRY_POINTS))
    found = {point.value: point for point in points if point.name == name}
    if not found:
        raise InputError(f"'{name}' is not a reward term; {_suggestion(name, [*BUILT_IN, *(p.name for p in points)])}.")
    if len(found) > 1:
        offers = " and ".join(f"{point.dist.name if point.dist else 'one'} ({value})" for value, point in found.items())
        raise InputError(
            f"reward term '{name}' is offered by several packages, {offers}; remove all but one, or write what stands in "
            "brackets instead of the name."
        )
    (point,) = found.values()
    try:
        return point.load()
    except (Exception, SystemExit) as error:
        raise InputError(
            f"reward term '{name}' ({point.value}) cannot be loaded ({_words(error)}); mend or remove the package of it."
        ) from error


def _suggestion(name: str, names: list[str]) -> str:
    """What a name that is not a term was probably meant to be."""
    of_elements = any(word in name.lower() for word in _OF_ELEMENTS)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.8 if of_elements else 0.6)
    if near:
        return f"did you mean '{near[0]}'"
    if of_elements:
        return "use element_table, with a table of a number for each element"
    return f"use one of {', '.join(names)}, or package.module:name"


def _by_path(path: str) -> Any:
    """What `package.module:name` names."""
    module_name, _, attribute = path.partition(":")
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # a module may do anything when it is run
        raise InputError(
            f"reward term '{path}': cannot import {module_name or 'a module'} ({_words(error)}); install or mend it, or "
            "correct the path."
        ) from error
    if not hasattr(module, attribute):
        raise InputError(f"reward term '{path}': {module_name} has no '{attribute}'; correct the name.")
    return getattr(module, attribute)
