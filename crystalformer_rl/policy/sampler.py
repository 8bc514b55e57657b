"""Sample crystals from a policy: one scan step a site, keys and values kept, stop when every sequence has ended.

Crystal i of a run depends on (seed, i), the policy and the run's behaviour alone: every random
draw uses a key folded from the crystal's own number, and batches have a fixed shape inside.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from crystalformer_rl.crystal.lattice import constrain_lattice, lattice_matrix
from crystalformer_rl.crystal.tokens import Sites, make_sites
from crystalformer_rl.crystal.wyckoff import atoms_in_cell
from crystalformer_rl.policy.batch import TokenBatch, symmetry_arrays
from crystalformer_rl.policy.constraints import (
    Behaviour,
    element_log_probs,
    first_letter_log_probs,
    next_letter_log_probs,
    only_padding,
)
from crystalformer_rl.policy.densities import (
    coordinate_log_density,
    coordinate_mixture,
    lattice_log_density,
    lattice_mixture,
    sample_coordinate,
    sample_lattice,
    wrap,
)
from crystalformer_rl.policy.likelihood import log_prob
from crystalformer_rl.policy.transformer import TOKENS_PER_SITE, Cache, Policy


class SampleState(NamedTuple):
    """The state of the loop over sites, for B sequences of up to S places.

    place: number of the site being written; letter_logits: raw logits of its Wyckoff letter; ended: whether
    the padding site was reached; log_prob: behaviour log-probability so far; g: space groups; w, a, x, l: see `TokenBatch`.
    """

    place: Int[Array, ""]
    letter_logits: Float[Array, "b wyck"]
    current: Int[Array, " b"]
    ended: Bool[Array, " b"]
    log_prob: Float[Array, " b"]
    w: Int[Array, "b s"]
    a: Int[Array, "b s"]
    x: Float[Array, "b s 3"]
    l: Float[Array, "b 6"]
    cache: Cache


class Samples(NamedTuple):
    """Sampled sequences: tokens, behaviour log-probability (masks and temperature of the run), policy's log-probability."""

    tokens: TokenBatch
    behaviour_log_prob: Float[Array, " b"]
    log_prob: Float[Array, " b"]


@eqx.filter_jit
def sample_batch(
    policy: Policy, keys: PRNGKeyArray, g: Int[Array, " b"], behaviour: Behaviour
) -> tuple[TokenBatch, Float[Array, " b"]]:
    """Sample one crystal for each key and space group; returns tokens and behaviour log-probabilities."""
    shape, size = policy.shape, g.shape[0]
    places = shape.n_max
    start = SampleState(
        place=jnp.zeros((), jnp.int32),
        letter_logits=policy.first_logits(g),
        current=jnp.ones(size, jnp.int32),
        ended=jnp.zeros(size, bool),
        log_prob=jnp.zeros(size, policy.head.w.dtype),
        w=jnp.zeros((size, places), jnp.int32),
        a=jnp.zeros((size, places), jnp.int32),
        x=jnp.zeros((size, places, 3), policy.head.w.dtype),
        l=jnp.zeros((size, 6), policy.head.w.dtype),
        cache=policy.empty_cache(size, places * TOKENS_PER_SITE),
    )
    end = jax.lax.while_loop(
        lambda state: (state.place < places) & ~state.ended.all(),
        lambda state: _write_site(policy, keys, g, behaviour, state),
        start,
    )
    return TokenBatch(g, end.w, end.a, end.x, end.l), end.log_prob


def _write_site(
    policy: Policy, keys: PRNGKeyArray, g: Int[Array, " b"], behaviour: Behaviour, state: SampleState
) -> SampleState:
    """Write one site of every sequence: letter, then element (or the lattice, where the sequence ends), then coordinates."""
    shape = policy.shape
    site_keys = jax.vmap(lambda key: jax.random.split(jax.random.fold_in(key, state.place), 6))(keys)
    first = first_letter_log_probs(state.letter_logits, g, behaviour)
    later = next_letter_log_probs(state.letter_logits, g, state.current, behaviour)
    letter_log_probs = jnp.where(state.place == 0, first, later)
    if shape.likelihood == "normalized":
        letter_log_probs = jnp.where(state.place == shape.n_max - 1, only_padding(letter_log_probs), letter_log_probs)
    w, w_log_prob = _choose(site_keys[:, 0], letter_log_probs)
    w = jnp.where(state.ended, 0, w)
    position = state.place * TOKENS_PER_SITE
    output, cache = policy.step(policy.embed_w(g, w), position, state.cache)

    ends_now = (w == 0) & ~state.ended
    l, l_log_prob = _draw_lattice(policy, site_keys[:, 5], g, behaviour, output)
    a, a_log_prob = _choose(site_keys[:, 1], element_log_probs(output[:, : shape.atom_types], w, behaviour))
    output, cache = policy.step(policy.embed_a(g, a), position + 1, cache)

    def write_coordinate(
        carry: tuple[Array, Array, Array, Cache], axis: Int[Array, ""]
    ) -> tuple[tuple[Array, Array, Array, Cache], None]:
        x, density_so_far, output, cache = carry
        value, density = _draw_coordinate(policy, site_keys[:, 2 + axis], g, w, x, axis, behaviour, output)
        output, cache = policy.step(policy.embed_x(axis, g, value), position + 2 + axis, cache)
        return (x.at[:, axis].set(value), density_so_far + density, output, cache), None

    nothing = jnp.zeros((w.shape[0], 4), output.dtype)
    # Scanned, not unrolled: the program is half as long and compiles in half the time.
    (x, x_log_prob, output, cache), _ = jax.lax.scan(
        write_coordinate, (nothing[:, :3], nothing[:, 3], output, cache), jnp.arange(3)
    )

    site_log_prob = jnp.where(w > 0, w_log_prob + a_log_prob + x_log_prob, w_log_prob + l_log_prob)
    return SampleState(
        place=state.place + 1,
        letter_logits=output[:, : shape.wyck_types],
        current=jnp.where(w > 0, w, state.current),
        ended=state.ended | (w == 0),
        log_prob=state.log_prob + jnp.where(state.ended, 0.0, site_log_prob),
        w=state.w.at[:, state.place].set(w),
        a=state.a.at[:, state.place].set(jnp.where(state.ended, 0, a)),
        x=state.x.at[:, state.place].set(jnp.where((w > 0)[:, None], x, 0.0)),
        l=jnp.where(ends_now[:, None], l, state.l),
        cache=cache,
    )


def _choose(keys: PRNGKeyArray, log_probs: Float[Array, "b k"]) -> tuple[Int[Array, " b"], Float[Array, " b"]]:
    """One categorical draw a sequence, and its log-probability."""
    choice = jax.vmap(jax.random.categorical)(keys, log_probs).astype(jnp.int32)
    return choice, jnp.take_along_axis(log_probs, choice[:, None], axis=1)[:, 0]


def _draw_coordinate(
    policy: Policy,
    keys: PRNGKeyArray,
    g: Int[Array, " b"],
    w: Int[Array, " b"],
    x: Float[Array, "b 3"],
    axis: Int[Array, ""],
    behaviour: Behaviour,
    output: Float[Array, "b o"],
) -> tuple[Float[Array, " b"], Float[Array, " b"]]:
    """A coordinate drawn where it is independent, else computed from the ones before by the position's standard form."""
    tables = symmetry_arrays()
    mixture = coordinate_mixture(output, policy.shape.Kx, behaviour.temperature)
    drawn = jax.vmap(sample_coordinate)(keys, mixture)
    operation = jnp.asarray(tables.first_operation, x.dtype)[g, w, axis]
    computed = wrap((operation[:, :3] * x).sum(-1) + operation[:, 3])
    value = jnp.where(jnp.asarray(tables.independent)[g, w, axis], drawn, computed)
    counted = jnp.asarray(tables.independent if policy.shape.likelihood == "normalized" else tables.free)[g, w, axis]
    return value, jnp.where(counted, coordinate_log_density(mixture, value), 0.0)


def _draw_lattice(
    policy: Policy, keys: PRNGKeyArray, g: Int[Array, " b"], behaviour: Behaviour, output: Float[Array, "b o"]
) -> tuple[Float[Array, "b 6"], Float[Array, " b"]]:
    """A lattice from the output at a W token, and the log-density of its free parameters; the others as the group has them."""
    shape = policy.shape
    mixture = lattice_mixture(output, shape.atom_types, shape.Kl, behaviour.temperature)
    l = _constrained_lattice(g, jax.vmap(sample_lattice)(keys, mixture))
    free = jnp.asarray(symmetry_arrays().free_lattice)[g]
    return l, lattice_log_density(mixture, l, free, shape.likelihood)


def _constrained_lattice(g: Int[Array, " b"], l: Float[Array, "b 6"]) -> Float[Array, "b 6"]:
    """Scaled lattice parameters with those that the space group ties or fixes set to what it demands (radians)."""
    right, hexagonal = jnp.pi / 2, 2 * jnp.pi / 3
    a, b, c, alpha, beta, gamma = (l[:, i] for i in range(6))
    fixed_gamma = jnp.where((g >= 143) & (g <= 194), hexagonal, right)
    return jnp.stack(
        [
            a,
            jnp.where(g >= 75, a, b),
            jnp.where(g >= 195, a, c),
            jnp.where(g >= 3, right, alpha),
            jnp.where(g >= 16, right, beta),
            jnp.where(g >= 3, fixed_gamma, gamma),
        ],
        axis=-1,
    )


LANES = 64
"""Sequences side by side on a CPU, whatever the batch's size: the compiled arithmetic of a row can change with it."""

_log_prob_of = eqx.filter_jit(lambda policy, tokens: log_prob(policy, tokens).total)


def crystal_keys(seed: int, numbers: Int[Array, " b"]) -> PRNGKeyArray:
    """The random key of each crystal of a run."""
    base = jax.random.key(seed)
    return jax.vmap(lambda i: jax.random.fold_in(base, i))(numbers)


def draw_space_groups(seed: int, numbers: np.ndarray, weights: Sequence[float]) -> np.ndarray:
    """Space group of each crystal of a run, drawn with `weights` (230,); depends on (seed, number) alone."""
    log_weights = jnp.log(jnp.asarray(weights, jnp.float32))
    keys = jax.vmap(lambda key: jax.random.fold_in(key, 1_000_000))(crystal_keys(seed, jnp.asarray(numbers)))
    return np.asarray(jax.vmap(lambda key: jax.random.categorical(key, log_weights))(keys)) + 1


def sample(
    policy: Policy,
    seed: int,
    numbers: Sequence[int],
    space_group_weights: Sequence[float],
    behaviour: Behaviour,
    *,
    batch_size: int = 64,
    advance: Callable[[int], object] | None = None,
) -> Samples:
    """Crystals of the given numbers of a run, each with its space group drawn first.

    Every batch is filled up, so that one compiled program serves all: on a CPU to `LANES`, which is as fast as
    more; on an accelerator to the multiple of `LANES` that holds `batch_size`.
    """
    batch_size = LANES if jax.default_backend() == "cpu" else -(-batch_size // LANES) * LANES
    numbers_ = np.asarray(numbers, np.int32)
    groups = draw_space_groups(seed, numbers_, space_group_weights)
    parts = []
    for start in range(0, len(numbers_), batch_size):
        chosen = np.minimum(np.arange(start, start + batch_size), len(numbers_) - 1)
        tokens, behaviour_log_prob = sample_batch(
            policy, crystal_keys(seed, jnp.asarray(numbers_[chosen])), jnp.asarray(groups[chosen], jnp.int32), behaviour
        )
        part = Samples(tokens, behaviour_log_prob, _log_prob_of(policy, tokens))
        size = min(batch_size, len(numbers_) - start)
        parts.append(jax.tree.map(lambda leaf, n=size: np.asarray(leaf[:n]), part))
        if advance is not None:
            advance(size)
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


def sites_of(tokens: TokenBatch) -> list[tuple[Sites | None, str]]:
    """The crystals of a batch as sites, with a status; None where lengths or angles make no cell."""
    g, w, a, x, l = (np.asarray(leaf, float if leaf.ndim > 1 else int) for leaf in tokens)
    return [_sites(int(g[i]), w[i].astype(int), a[i].astype(int), x[i], l[i]) for i in range(len(g))]


def _sites(g: int, w: np.ndarray, a: np.ndarray, x: np.ndarray, l: np.ndarray) -> tuple[Sites | None, str]:
    n = int((w > 0).sum())
    if n == 0 or n == len(w):
        return None, "no_crystal"
    parameters = np.concatenate([l[:3] * atoms_in_cell(g, w[:n]) ** (1 / 3), np.degrees(l[3:])])
    parameters = constrain_lattice(g, parameters)
    inside = np.all(parameters > 0) and np.all(parameters[3:] < 180)
    if not inside or not np.all(np.isfinite(lattice_matrix(parameters))):
        return None, "bad_lattice"
    return make_sites(g, w[:n], a[:n], x[:n], parameters), "ok"
