"""One batch of crystals of the current policy, and its arrays for the update."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from crystalformer_rl.crystal.tokens import Sites
from crystalformer_rl.policy.batch import TokenBatch
from crystalformer_rl.policy.constraints import Behaviour
from crystalformer_rl.policy.likelihood import log_prob
from crystalformer_rl.policy.sampler import Samples, sample, sites_of
from crystalformer_rl.policy.transformer import Policy

_SHORT = 8
"""Sites; crystals up to this length, most of them, are computed apart from the few long ones, without their padding."""
_LONG_LANES = 16


class Scores(NamedTuple):
    """What the score function says of B crystals.

    reward: (B,) finite; energy (eV/atom), formation_energy, e_above_hull (eV/atom): (B,), NaN where there is none;
    suspect: (B,) bool; status: B names; evaluations: of the potential.
    """

    reward: Float[np.ndarray, " b"]
    energy: Float[np.ndarray, " b"]
    formation_energy: Float[np.ndarray, " b"]
    e_above_hull: Float[np.ndarray, " b"]
    suspect: np.ndarray
    status: list[str]
    evaluations: int


Score = Callable[[Sequence[Sites | None], Sequence[str]], Scores]


class Part(NamedTuple):
    """Crystals of similar length. rows: their places in the batch; weight: 0 for rows that fill up."""

    rows: np.ndarray
    tokens: TokenBatch
    weight: Float[Array, " p"]


class Rollout(NamedTuple):
    """A sampled batch: samples, the crystals they decode to with their statuses, and the parts for the likelihood."""

    samples: Samples
    sites: list[Sites | None]
    status: list[str]
    parts: list[Part]


def roll_out(
    policy: Policy, seed: int, numbers: Sequence[int], space_group_weights: Sequence[float], behaviour: Behaviour
) -> Rollout:
    """Sample the crystals of the given numbers."""
    samples = sample(policy, seed, numbers, space_group_weights, behaviour, batch_size=len(numbers))
    decoded = sites_of(samples.tokens)
    return Rollout(samples, [s for s, _ in decoded], [status for _, status in decoded], split_by_length(samples.tokens))


def split_by_length(tokens: TokenBatch) -> list[Part]:
    """Short crystals in few places, long ones in all, each part filled up to a fixed number of rows."""
    lengths = (np.asarray(tokens.w) > 0).sum(1)
    size, places = tokens.w.shape
    if places <= _SHORT + 1:
        return [_part(tokens, np.arange(size), size, places)]
    short, long = np.flatnonzero(lengths <= _SHORT), np.flatnonzero(lengths > _SHORT)
    parts = [_part(tokens, short, size, _SHORT + 1)] if len(short) else []
    if len(long):
        parts.append(_part(tokens, long, -(-len(long) // _LONG_LANES) * _LONG_LANES, places))
    return parts


def _part(tokens: TokenBatch, rows: np.ndarray, lanes: int, places: int) -> Part:
    filled = np.concatenate([rows, np.full(lanes - len(rows), rows[0])])
    g, w, a, x, l = (np.asarray(leaf)[filled] for leaf in tokens)
    short = TokenBatch(g, w[:, :places], a[:, :places], x[:, :places], l)
    weight = (np.arange(lanes) < len(rows)).astype(np.float32)
    return Part(rows, jax.tree.map(jnp.asarray, short), jnp.asarray(weight))


_total = jax.jit(lambda policy, tokens, behaviour: log_prob(policy, tokens, behaviour).total)


def log_probs(
    policy: Policy, parts: Sequence[Part], size: int, behaviour: Behaviour | None = None
) -> Float[np.ndarray, " b"]:
    """Log-probability of each crystal of a batch given in parts, nats."""
    values = np.zeros(size)
    for part in parts:
        values[part.rows] = np.asarray(_total(policy, part.tokens, behaviour))[: len(part.rows)]
    return values
