"""Log-probability of crystals under a policy, in its four parts."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from crystalformer_rl.policy.batch import TokenBatch, symmetry_arrays
from crystalformer_rl.policy.constraints import (
    Behaviour,
    Progress,
    atoms_so_far,
    element_log_probs,
    letter_log_probs,
    only_padding,
)
from crystalformer_rl.policy.densities import (
    GaussianMixture,
    coordinate_log_density,
    coordinate_mixture,
    lattice_log_density,
    lattice_mixture,
)
from crystalformer_rl.policy.transformer import Policy


class LogProb(NamedTuple):
    """Log-probabilities (nats) of B crystals: Wyckoff letters, free coordinates, elements, free lattice parameters."""

    w: Float[Array, " b"]
    xyz: Float[Array, " b"]
    a: Float[Array, " b"]
    l: Float[Array, " b"]

    @property
    def choices(self) -> Float[Array, " b"]:
        """Of letters and elements: which kind of crystal it is."""
        return self.w + self.a

    @property
    def densities(self) -> Float[Array, " b"]:
        """Of coordinates and lattice: where its atoms sit."""
        return self.xyz + self.l

    @property
    def total(self) -> Float[Array, " b"]:
        return self.w + self.xyz + self.a + self.l


def log_prob(
    policy: Policy,
    batch: TokenBatch,
    behaviour: Behaviour | None = None,
    *,
    dropout: float = 0.0,
    key: PRNGKeyArray | None = None,
) -> LogProb:
    """Log-probability of each crystal of `batch`, given its space group.

    With a `behaviour`, the renormalized likelihood under its masks and temperature: the one with
    which a run that used it samples.
    """
    return log_prob_and_lattice(policy, batch, behaviour, dropout=dropout, key=key)[0]


def log_prob_and_lattice(
    policy: Policy,
    batch: TokenBatch,
    behaviour: Behaviour | None = None,
    *,
    dropout: float = 0.0,
    key: PRNGKeyArray | None = None,
) -> tuple[LogProb, GaussianMixture]:
    """`log_prob`, and the mixture (B, Kl) from which the policy draws the lattice of each crystal."""
    shape, tables = policy.shape, symmetry_arrays()
    temperature = 1.0 if behaviour is None else behaviour.temperature
    # Only a published policy's sequence can fill its last place.
    closed = batch.w.shape[1] < shape.n_max or shape.likelihood == "normalized"
    outputs = policy.outputs(batch.g, batch.w, batch.a, batch.x, closed=closed, dropout=dropout, key=key)
    groups = jnp.broadcast_to(batch.g[:, None], batch.w.shape)

    places = jnp.broadcast_to(jnp.arange(batch.w.shape[1]), batch.w.shape)
    before = jnp.concatenate([jnp.ones_like(batch.w[:, :1]), batch.w[:, :-1]], axis=1)
    progress = Progress(groups, before, places, atoms_so_far(groups, batch.w, batch.a, behaviour))
    first = policy.first_output(batch.g)[:, None]
    before_letters = jnp.concatenate([first, outputs[:, :-1, 4, : first.shape[-1]]], axis=1)
    letters = letter_log_probs(policy.letter_logits(before_letters, groups), progress, behaviour)
    if shape.likelihood == "normalized" and batch.w.shape[1] == shape.n_max:
        letters = letters.at[:, -1].set(only_padding(letters[:, -1]))
    w = _pick(letters, batch.w).sum(-1)

    elements = element_log_probs(policy.element_logits(outputs[..., 0, :]), batch.w, progress, behaviour)
    a = _pick(elements, batch.a).sum(-1)

    mixture = coordinate_mixture(outputs[..., 1:4, :], shape, temperature)
    counted = jnp.asarray(tables.independent if shape.likelihood == "normalized" else tables.free)[groups, batch.w]
    density = coordinate_log_density(mixture, batch.x)
    xyz = jnp.where(counted & (batch.w > 0)[..., None], density, 0.0).sum((-1, -2))

    # A published policy that fills its last place never comes to draw a lattice.
    ended = (batch.w == 0).any(-1)
    end = jnp.argmax(batch.w == 0, axis=-1)
    at_end = jnp.take_along_axis(outputs[..., 0, :], end[:, None, None], axis=1)[:, 0]
    lattice = lattice_mixture(at_end, shape, temperature)
    free = jnp.asarray(tables.free_lattice)[batch.g]
    density_of_lattice = lattice_log_density(lattice, batch.l, free, shape.likelihood)
    return LogProb(w, xyz, a, jnp.where(ended, density_of_lattice, 0.0)), lattice


def closing_state(policy: Policy, batch: TokenBatch) -> Float[Array, "b d"]:
    """What the policy has made of a whole crystal: its state where the sequence has ended, from which the lattice is drawn.

    At the last place where a published policy's sequence never ended.
    """
    closed = batch.w.shape[1] < policy.shape.n_max or policy.shape.likelihood == "normalized"
    states = policy.hidden(batch.g, batch.w, batch.a, batch.x, closed=closed)
    end = jnp.where((batch.w == 0).any(-1), jnp.argmax(batch.w == 0, axis=-1), batch.w.shape[1] - 1)
    return jnp.take_along_axis(states[..., 0, :], end[:, None, None], axis=1)[:, 0]


def _pick(log_probs: Float[Array, "*n k"], index: Array) -> Float[Array, "*n"]:
    return jnp.take_along_axis(log_probs, index[..., None], axis=-1)[..., 0]
