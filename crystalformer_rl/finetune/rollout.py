"""One batch of crystals of the current policy, and its arrays for the update."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from crystalformer_rl.crystal.prototype import kind
from crystalformer_rl.crystal.tokens import Sites
from crystalformer_rl.policy.accepted import Accepts, sample_accepted
from crystalformer_rl.policy.batch import TokenBatch
from crystalformer_rl.policy.constraints import Behaviour
from crystalformer_rl.policy.likelihood import log_prob
from crystalformer_rl.policy.sampler import Samples
from crystalformer_rl.policy.transformer import Policy

_BOUNDS = (2, 4, 6, 10)
"""Longest crystal, in sites, of each part but the last: most crystals are short, and padding is work."""
_SITES = 96
"""Places for sites in a part, on a CPU: where there are few long crystals, few lanes stay empty beside them."""


class Scores(NamedTuple):
    """What the score function says of B crystals.

    reward: (B,) finite; terms: name → (B,) each term's share of the reward, NaN where the crystal failed; figures: name →
    (B,) what was computed of a crystal, NaN where there is none, `energy`, `formation_energy` and `e_above_hull` (eV/atom, as
    sampled) among them; known: (B,) bool, the pretraining set has a
    crystal of this formula, space group and Wyckoff letters; status: B names; evaluations: of the potential; ahead: each crystal
    after one more step of relaxation, None where nothing is known of that, and empty where nothing is of any.
    """

    reward: Float[np.ndarray, " b"]
    terms: dict[str, Float[np.ndarray, " b"]]
    figures: dict[str, Float[np.ndarray, " b"]]
    known: np.ndarray
    status: list[str]
    evaluations: int
    ahead: Sequence[Sites | None] = ()


Score = Callable[[Sequence[Sites | None], Sequence[str]], Scores]
Knows = Callable[[Sequence[Sites | None]], np.ndarray]
"""Of which crystals the policy was trained on one of the same kind, and on one of the same formula: (B, 2) bool."""


class Part(NamedTuple):
    """Crystals of similar length in a fixed number of lanes. rows: (p,) their places in the batch, the first one again
    where a lane is filled up; weight: (p,) 0 for such lanes, else 1.
    """

    rows: np.ndarray
    tokens: TokenBatch
    weight: Float[Array, " p"]


class Rollout(NamedTuple):
    """A sampled batch of B crystals: samples, the crystals they decode to with their statuses, and their kinds.

    kinds: (B,) numbers that crystals of one composition, space group and Wyckoff letters share (`crystal.prototype.kind`);
    0 where there is no crystal.
    """

    samples: Samples
    sites: list[Sites | None]
    status: list[str]
    kinds: np.ndarray

    def first(self, n: int) -> Rollout:
        """The first `n` crystals."""
        samples = jax.tree.map(lambda leaf: leaf[:n], self.samples)
        return Rollout(samples, self.sites[:n], self.status[:n], self.kinds[:n])


def roll_out(
    policy: Policy,
    seed: int,
    numbers: Sequence[int],
    space_group_weights: Sequence[float],
    behaviour: Behaviour,
    accepts: Accepts | None = None,
) -> Rollout:
    """Sample the crystals of the given numbers, each again until it is accepted."""
    samples, decoded = sample_accepted(
        policy, seed, numbers, space_group_weights, behaviour, accepts, batch_size=len(numbers)
    )
    sites = [s for s, _ in decoded]
    return Rollout(samples, sites, [status for _, status in decoded], np.array([kind_number(s) for s in sites]))


def kind_number(sites: Sites | None) -> int:
    """A digest of the crystal's kind in 63 bits, the same on every machine."""
    if sites is None:
        return 0
    text = repr(kind(sites.space_group, sites.wyckoff, sites.elements))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def parts_of(tokens: TokenBatch, rows: np.ndarray) -> list[Part]:
    """The crystals of `rows` sorted into parts by length, so that little work goes into padding.

    Every part of one length has the same number of lanes: one compiled program serves it.
    """
    places = tokens.w.shape[1]
    bounds = [bound for bound in _BOUNDS if bound < places - 1] + [places - 1]
    on_cpu = jax.default_backend() == "cpu"
    lengths = (np.asarray(tokens.w)[rows] > 0).sum(1)
    bucket = np.searchsorted(bounds, np.minimum(lengths, places - 1))
    host = jax.tree.map(np.asarray, tokens)
    parts = []
    for number, bound in enumerate(bounds):
        members = rows[bucket == number]
        lanes = max(4, _SITES // bound) if on_cpu else 256
        parts += [_part(host, members[k : k + lanes], lanes, bound + 1) for k in range(0, len(members), lanes)]
    return parts


def _part(tokens: TokenBatch, rows: np.ndarray, lanes: int, places: int) -> Part:
    weight = (np.arange(lanes) < len(rows)).astype(np.float32)
    filled = np.concatenate([rows, np.full(lanes - len(rows), rows[0])])
    g, w, a, x, l = (np.asarray(leaf)[filled] for leaf in tokens)
    short = TokenBatch(g, w[:, :places], a[:, :places], x[:, :places], l)
    return Part(filled, jax.tree.map(jnp.asarray, short), jnp.asarray(weight))


@eqx.filter_jit
def _three(policy: Policy, tokens: TokenBatch, behaviour: Behaviour) -> Float[Array, "p 3"]:
    found = log_prob(policy, tokens, behaviour)
    return jnp.stack([found.w, found.a, found.densities], axis=-1)


def log_probs(policy: Policy, parts: Sequence[Part], size: int, behaviour: Behaviour) -> Float[np.ndarray, "b 3"]:
    """Log-probability of each crystal of a batch of `size` given in parts, nats, with masks and temperature: of its letters, its
    elements, and its coordinates and lattice.
    """
    values = np.zeros((size, 3))
    for part in parts:
        values[part.rows] = np.asarray(_three(policy, part.tokens, behaviour))
    return values
