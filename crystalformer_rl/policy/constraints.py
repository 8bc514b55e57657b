"""What may follow what: masks on the logits of Wyckoff letters and elements, and how a run narrows them.

The likelihood and the sampler read their log-probabilities here, so that what is
sampled and what is counted cannot differ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from crystalformer_rl.policy.batch import symmetry_arrays
from crystalformer_rl.policy.completion import Completion

FORBIDDEN = -1e10


class Behaviour(NamedTuple):
    """How a run departs from the policy itself. Part of the likelihood, so part of fine-tuning's ratios.

    temperature: divides logits and concentrations; top_p: the smallest set of letters or elements that
    holds this much probability stays, None keeps all; allowed: (28, 119) bool, the elements (by atomic number, index 0 is unused) that
    a Wyckoff letter may hold; template: (places,) the letters of all sites, then 0; formula: see `Completion`; most: (231,) atoms
    that a conventional cell of each space group may hold, None for any number (a formula knows its own).
    """

    temperature: Float[Array, ""]
    top_p: Float[Array, ""] | None
    allowed: Bool[Array, "wyck atom"]
    template: Int[Array, " places"] | None = None
    formula: Completion | None = None
    most: Int[Array, " 231"] | None = None

    @staticmethod
    def make(
        temperature: float = 1.0,
        top_p: float = 1.0,
        allowed: np.ndarray | None = None,
        template: Sequence[int] | None = None,
        formula: Completion | None = None,
        places: int = 21,
        most: np.ndarray | None = None,
    ) -> Behaviour:
        """`allowed` as `allowed_elements` makes it; a template of at most `places` − 1 letters."""
        letters = None if template is None else jnp.asarray([*template, *[0] * (places - len(template))], jnp.int32)
        table = allowed_elements() if allowed is None else allowed
        kept = None if top_p >= 1 else jnp.float32(top_p)
        cells = None if most is None else jnp.asarray(most, jnp.int32)
        return Behaviour(jnp.float32(temperature), kept, jnp.asarray(table), letters, formula, cells)

    @property
    def counted(self) -> int:
        """Numbers of atoms that the run keeps: of each element of its formula, or of all together where they are limited."""
        return len(self.formula.elements) if self.formula is not None else int(self.most is not None)


def allowed_elements(
    only: set[int] | None = None, never: AbstractSet[int] = frozenset(), by_letter: Mapping[int, set[int]] | None = None
) -> np.ndarray:
    """(28, 119) bool by letter and atomic number: elements of `only` (None: all) but not of `never`; a letter of
    `by_letter` holds those of its own set among them.
    """
    table = np.zeros((28, 119), bool)
    table[1:, sorted(only) if only is not None else slice(1, None)] = True
    table[:, sorted(never)] = False
    for letter, elements in (by_letter or {}).items():
        chosen = np.zeros(119, bool)
        chosen[sorted(elements)] = True
        table[letter] &= chosen
    return table


class Progress(NamedTuple):
    """Where a sequence stands before a site's letter is chosen.

    g: space group; current: the letter before (1 at the first place); place: number of the site; atoms: (E,) atoms so
    far of each element of the run's formula, or of all together, or of none (`Behaviour.counted`).
    """

    g: Int[Array, "*n"]
    current: Int[Array, "*n"]
    place: Int[Array, "*n"]
    atoms: Int[Array, "*n e"]


def letter_log_probs(
    logits: Float[Array, "*n wyck"], progress: Progress, behaviour: Behaviour | None
) -> Float[Array, "*n wyck"]:
    """Log-probabilities of the next letter, of the first one where `place` is 0."""
    tempered = _tempered(logits, behaviour)
    first = _first_letter(tempered, progress.g)
    log_probs = jnp.where((progress.place == 0)[..., None], first, _next_letter(tempered, progress.g, progress.current))
    if behaviour is None:
        return log_probs
    return _narrow(_masked(log_probs, _letters_of_the_run(progress, behaviour)), behaviour)


def _first_letter(logits: Float[Array, "*n wyck"], g: Int[Array, "*n"]) -> Float[Array, "*n wyck"]:
    """1 ≤ W ≤ number of letters."""
    letters = jnp.arange(logits.shape[-1])
    return _masked(logits, (letters >= 1) & (letters <= jnp.asarray(symmetry_arrays().letters)[g][..., None]))


def _next_letter(logits: Float[Array, "*n wyck"], g: Int[Array, "*n"], current: Int[Array, "*n"]) -> Float[Array, "*n wyck"]:
    """Never before the current letter, past it where that position holds one orbit only; after padding
    only padding; never past the last letter of the space group. Padding (0) ends the sequence.
    """
    tables = symmetry_arrays()
    letters = jnp.arange(logits.shape[-1])
    current_ = current[..., None]
    least = current_ + jnp.asarray(tables.no_freedom)[g, current][..., None]
    ends = letters == 0
    in_order = ends | (letters >= least)
    log_probs = _masked(logits, in_order)
    log_probs = _masked(log_probs, ends | (current_ > 0))
    return _masked(log_probs, letters <= jnp.asarray(tables.letters)[g][..., None])


def _letters_of_the_run(progress: Progress, behaviour: Behaviour) -> Bool[Array, "*n wyck"]:
    """Letters that the run's elements, template and formula leave; all where the sequence has ended."""
    letters = jnp.arange(behaviour.allowed.shape[0])
    holds = behaviour.allowed.any(-1)
    may_end = jnp.ones(progress.g.shape, bool)
    if behaviour.formula is not None:
        everywhere = jnp.broadcast_to(letters, (*progress.g.shape, len(letters)))
        holds = _completable(progress, everywhere, behaviour).any(-1)
        may_end = behaviour.formula.complete(progress.g, progress.atoms)
    elif behaviour.most is not None:
        grown = progress.atoms + jnp.asarray(symmetry_arrays().multiplicities, jnp.int32)[progress.g]
        holds = holds & (grown <= behaviour.most[progress.g][..., None])
    allowed = jnp.where(letters == 0, may_end[..., None], holds)
    if behaviour.template is not None:
        allowed = letters == behaviour.template[progress.place][..., None]
    return allowed | ((progress.current == 0) & (progress.place > 0))[..., None]


def _completable(progress: Progress, letter: Int[Array, "*n w"], behaviour: Behaviour) -> Bool[Array, "*n w e"]:
    """Whether a site of `letter` with each element of the formula can be completed to the formula."""
    tables, formula = symmetry_arrays(), behaviour.formula
    assert formula is not None
    g = jnp.broadcast_to(progress.g[..., None], letter.shape)
    multiplicity = jnp.asarray(tables.multiplicities)[g, letter]
    placed = progress.atoms[..., None, None, :] + multiplicity[..., None, None] * jnp.eye(
        len(formula.elements), dtype=jnp.int32
    )
    last_letter = jnp.asarray(tables.letters)[g]
    if behaviour.template is None:
        cursor = jnp.minimum(letter, last_letter) + jnp.asarray(tables.no_freedom)[g, letter]
    else:
        cursor = jnp.broadcast_to(jnp.minimum(progress.place + 1, (behaviour.template > 0).sum())[..., None], g.shape)
    per_element = (*letter.shape, len(formula.elements))
    g, cursor = (jnp.broadcast_to(x[..., None], per_element) for x in (g, cursor))
    needed = formula.sites_needed(g, cursor, placed)
    fits = progress.place[..., None, None] + 1 + needed <= formula.sites
    exists = (letter >= 1) & (letter <= last_letter)
    return fits & exists[..., None] & behaviour.allowed[letter][..., formula.elements]


def only_padding(log_probs: Float[Array, "*n wyck"]) -> Float[Array, "*n wyck"]:
    """What replaces a letter's log-probabilities at the last place of a sequence, where it must end."""
    return jnp.broadcast_to(jnp.where(jnp.arange(log_probs.shape[-1]) == 0, 0.0, FORBIDDEN), log_probs.shape)


def element_log_probs(
    logits: Float[Array, "*n atom"], letter: Int[Array, "*n"], progress: Progress, behaviour: Behaviour | None
) -> Float[Array, "*n atom"]:
    """Log-probabilities of the element: an element where there is a site, padding where there is none.

    `progress` is that before `letter` was chosen.
    """
    padding = jnp.arange(logits.shape[-1]) == 0
    site = letter[..., None] > 0
    log_probs = _masked(_tempered(logits, behaviour), padding != site)
    if behaviour is None:
        return log_probs
    allowed = behaviour.allowed[letter]
    if behaviour.formula is not None:
        completable = _completable(progress, letter[..., None], behaviour)[..., 0, :]
        named = behaviour.formula.elements[:, None] == jnp.arange(logits.shape[-1])
        allowed = (completable[..., None] & named).any(-2)
    return _narrow(_masked(log_probs, allowed | ~site), behaviour)


def atoms_so_far(
    g: Int[Array, "b s"], w: Int[Array, "b s"], a: Int[Array, "b s"], behaviour: Behaviour | None
) -> Int[Array, "b s e"]:
    """Atoms before each place, as many columns as the behaviour counts."""
    if behaviour is None or not behaviour.counted:
        return jnp.zeros((*w.shape, 0), jnp.int32)
    each = atoms_of_sites(g, w, a, behaviour)
    return jnp.cumsum(each, axis=-2) - each


def atoms_of_sites(
    g: Int[Array, "*n"], w: Int[Array, "*n"], a: Int[Array, "*n"], behaviour: Behaviour
) -> Int[Array, "*n e"]:
    """Atoms that sites hold in the conventional cell, as many columns as the behaviour counts."""
    if not behaviour.counted:
        return jnp.zeros((*w.shape, 0), jnp.int32)
    multiplicity = jnp.asarray(symmetry_arrays().multiplicities, jnp.int32)[g, w]
    if behaviour.formula is None:
        return multiplicity[..., None]
    return multiplicity[..., None] * (a[..., None] == behaviour.formula.elements)


def _masked(logits: Array, allowed: Array) -> Array:
    return jax.nn.log_softmax(jnp.where(allowed, logits, logits + FORBIDDEN), axis=-1)


def _tempered(logits: Array, behaviour: Behaviour | None) -> Array:
    return logits if behaviour is None else logits / behaviour.temperature


def _narrow(log_probs: Array, behaviour: Behaviour | None) -> Array:
    """Keep the likeliest choices until they hold `top_p`, renormalized."""
    if behaviour is None or behaviour.top_p is None:
        return log_probs
    order = jnp.argsort(-log_probs, axis=-1)
    sorted_probs = jnp.exp(jnp.take_along_axis(log_probs, order, axis=-1))
    before = jnp.cumsum(sorted_probs, axis=-1) - sorted_probs
    ranks = jnp.argsort(order, axis=-1)
    kept = jnp.take_along_axis(before < behaviour.top_p, ranks, axis=-1) | (ranks == 0)
    return _masked(log_probs, kept)
