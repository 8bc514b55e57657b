"""What may follow what: masks on the logits of Wyckoff letters and elements, and how a run narrows them.

The likelihood and the sampler read their log-probabilities here, so that what is
sampled and what is counted cannot differ.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from crystalformer_rl.policy.batch import symmetry_arrays

FORBIDDEN = -1e10


class Behaviour(NamedTuple):
    """How a run departs from the policy itself. Part of the likelihood, so part of fine-tuning's ratios.

    temperature: divides logits and concentrations; top_p: the smallest set of letters or elements that
    holds this much probability stays; allowed_elements: (119,) bool by atomic number (index 0 is unused).
    """

    temperature: Float[Array, ""]
    top_p: Float[Array, ""]
    allowed_elements: Bool[Array, " atom"]

    @staticmethod
    def make(temperature: float = 1.0, top_p: float = 1.0, allowed_elements: set[int] | None = None) -> Behaviour:
        allowed = np.ones(119, bool)
        if allowed_elements is not None:
            allowed[:] = False
            allowed[sorted(allowed_elements)] = True
        allowed[0] = False
        return Behaviour(jnp.float32(temperature), jnp.float32(top_p), jnp.asarray(allowed))


def first_letter_log_probs(
    logits: Float[Array, "*n wyck"], g: Int[Array, "*n"], behaviour: Behaviour | None
) -> Float[Array, "*n wyck"]:
    """Log-probabilities of the first Wyckoff letter: 1 ≤ W ≤ number of letters."""
    letters = jnp.arange(logits.shape[-1])
    allowed = (letters >= 1) & (letters <= jnp.asarray(symmetry_arrays().letters)[g][..., None])
    return _narrow(_masked(_tempered(logits, behaviour), allowed), behaviour)


def next_letter_log_probs(
    logits: Float[Array, "*n wyck"], g: Int[Array, "*n"], current: Int[Array, "*n"], behaviour: Behaviour | None
) -> Float[Array, "*n wyck"]:
    """Log-probabilities of the letter after `current`.

    Never before the current letter, past it where that position holds one orbit only; after padding
    only padding; never past the last letter of the space group. Padding (0) ends the sequence.
    """
    tables = symmetry_arrays()
    letters = jnp.arange(logits.shape[-1])
    current_ = current[..., None]
    least = current_ + jnp.asarray(tables.no_freedom)[g, current][..., None]
    ends = letters == 0
    in_order = ends | (letters >= least)
    log_probs = _masked(_tempered(logits, behaviour), in_order)
    log_probs = _masked(log_probs, ends | (current_ > 0))
    log_probs = _masked(log_probs, letters <= jnp.asarray(tables.letters)[g][..., None])
    return _narrow(log_probs, behaviour)


def only_padding(log_probs: Float[Array, "*n wyck"]) -> Float[Array, "*n wyck"]:
    """What replaces a letter's log-probabilities at the last place of a sequence, where it must end."""
    return jnp.broadcast_to(jnp.where(jnp.arange(log_probs.shape[-1]) == 0, 0.0, FORBIDDEN), log_probs.shape)


def element_log_probs(
    logits: Float[Array, "*n atom"], letter: Int[Array, "*n"], behaviour: Behaviour | None
) -> Float[Array, "*n atom"]:
    """Log-probabilities of the element: an element where there is a site, padding where there is none."""
    padding = jnp.arange(logits.shape[-1]) == 0
    site = letter[..., None] > 0
    log_probs = _masked(_tempered(logits, behaviour), padding != site)
    if behaviour is None:
        return log_probs
    return _narrow(_masked(log_probs, behaviour.allowed_elements | ~site), behaviour)


def _masked(logits: Array, allowed: Array) -> Array:
    return jax.nn.log_softmax(jnp.where(allowed, logits, logits + FORBIDDEN), axis=-1)


def _tempered(logits: Array, behaviour: Behaviour | None) -> Array:
    return logits if behaviour is None else logits / behaviour.temperature


def _narrow(log_probs: Array, behaviour: Behaviour | None) -> Array:
    """Keep the likeliest choices until they hold `top_p`, renormalized."""
    if behaviour is None:
        return log_probs
    order = jnp.argsort(-log_probs, axis=-1)
    sorted_probs = jnp.exp(jnp.take_along_axis(log_probs, order, axis=-1))
    before = jnp.cumsum(sorted_probs, axis=-1) - sorted_probs
    ranks = jnp.argsort(order, axis=-1)
    kept = jnp.take_along_axis(before < behaviour.top_p, ranks, axis=-1) | (ranks == 0)
    return jnp.where(behaviour.top_p >= 1.0, log_probs, _masked(log_probs, kept))
