"""Sample crystals from a policy: a loop over tokens that keeps keys and values, in stages of growing length.

Crystal i of a run depends on (seed, i), the policy and the run's behaviour alone: every random
draw uses a key folded from the crystal's own number, and batches have fixed shapes inside.

Attention streams the whole cache at every token, and a batch lasts as long as its longest crystal. So a batch
starts with a short cache; the few sequences that outgrow it move together into narrower batches with a longer one.
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
    Progress,
    atoms_of_sites,
    element_log_probs,
    letter_log_probs,
    only_padding,
)
from crystalformer_rl.policy.densities import (
    choose,
    coordinate_log_density,
    coordinate_mixture,
    lattice_log_density,
    lattice_mixture,
    sample_coordinate,
    sample_lattice,
    wrap,
)
from crystalformer_rl.policy.transformer import TOKENS_PER_SITE, Cache, Policy
from crystalformer_rl.tables.status import Status

LANES = 64
"""Sequences side by side on a CPU, whatever the batch's size: the compiled arithmetic of a row can change with it."""

WAVE = 4
"""Batches that start together on a CPU, so that the few long sequences of all of them fill up the later stages."""

_STAGES = ((2, 1), (4, 2), (7, 2), (11, 4))
"""(places, divisor): a stage goes up to so many places, and holds the batch's size over the divisor. A last one goes to the end."""

_LAST_DIVISOR = 4


class SampleState(NamedTuple):
    """The state of the loop over tokens, for B sequences of up to S places.

    position: number of the token being chosen; output: (B, o) raw output at the token before it; current: the last Wyckoff
    letter, 0 once the sequence has ended; done: its lattice is drawn too; atoms: (B, E), see `Progress`;
    log_prob, behaviour_log_prob: so far, under the policy and under the run's behaviour; w, a, x, l: see `TokenBatch`.
    """

    position: Int[Array, ""]
    output: Float[Array, "b o"]
    current: Int[Array, " b"]
    done: Bool[Array, " b"]
    atoms: Int[Array, "b e"]
    log_prob: Float[Array, " b"]
    behaviour_log_prob: Float[Array, " b"]
    w: Int[Array, "b s"]
    a: Int[Array, "b s"]
    x: Float[Array, "b s 3"]
    l: Float[Array, "b 6"]
    cache: Cache | None


class Samples(NamedTuple):
    """Sampled sequences: tokens, behaviour log-probability (masks and temperature of the run), policy's log-probability."""

    tokens: TokenBatch
    behaviour_log_prob: Float[Array, " b"]
    log_prob: Float[Array, " b"]


class Run(NamedTuple):
    """What the tokens of B sequences are drawn with: a random key and a space group each, and the run's behaviour."""

    keys: PRNGKeyArray
    g: Int[Array, " b"]
    behaviour: Behaviour


class Chance(NamedTuple):
    """The random numbers of one token. uniform: (B, 7) in [0, 1); keys: for what needs more of them."""

    keys: PRNGKeyArray
    uniform: Float[Array, "b 7"]


class Lanes(NamedTuple):
    """A batch on its way. rows: place in the result of each lane, of fewer lanes than there are where the rest fill up."""

    run: Run
    state: SampleState
    rows: np.ndarray


def stages(places: int, lanes: int) -> list[tuple[int, int]]:
    """(places, lanes) of each stage for a policy of so many places, at a batch of `lanes`."""
    shorter = [(end, lanes // divisor) for end, divisor in _STAGES if end < places]
    return [*shorter, (places, lanes // _LAST_DIVISOR)]


def sample_batch(
    policy: Policy, keys: PRNGKeyArray, g: Int[Array, " b"], behaviour: Behaviour, lanes: int = LANES
) -> Samples:
    """One crystal for each key and space group; their number must be a multiple of `lanes`, and that of 4."""
    result = _blank_samples(np.asarray(g), policy.shape.n_max)
    (places, _), *later = stages(policy.shape.n_max, lanes)
    chunks = [slice(i, i + lanes) for i in range(0, len(g), lanes)]
    runs = [Run(keys[chunk], g[chunk], behaviour) for chunk in chunks]
    batches = [
        Lanes(run, blank_state(policy, run.g, behaviour, places), np.arange(len(g))[chunk])
        for run, chunk in zip(runs, chunks, strict=True)
    ]
    for stage in [*later, None]:
        batches = [batch._replace(state=_run_stage(policy, batch.run, batch.state)) for batch in batches]
        left = [_put_down(result, batch, everything=stage is None) for batch in batches]
        if not any(map(len, left)):
            break
        assert stage is not None
        batches = _gather(batches, left, *stage)
    return jax.tree.map(jnp.asarray, result)


def _gather(batches: list[Lanes], left: list[np.ndarray], places: int, lanes: int) -> list[Lanes]:
    """The lanes that are left of all batches, in new batches of `lanes` with room for `places` places."""
    source = np.concatenate([np.full(len(part), i) for i, part in enumerate(left)])
    lane = np.concatenate(left)
    rows = np.concatenate([batch.rows[part] for batch, part in zip(batches, left, strict=True)])
    runs, states = [batch.run for batch in batches], [batch.state for batch in batches]
    gathered = []
    for start in range(0, len(rows), lanes):
        part = slice(start, start + lanes)
        source_of, lane_of = (jnp.asarray(np.resize(array[part], lanes)) for array in (source, lane))
        gathered.append(Lanes(*_take(runs, states, source_of, lane_of, places), rows[part]))
    return gathered


def _blank_samples(g: np.ndarray, places: int) -> Samples:
    size = len(g)
    integers, reals = np.zeros((size, places), np.int32), np.zeros((size, places, 3), np.float32)
    tokens = TokenBatch(g, integers, integers.copy(), reals, np.zeros((size, 6), np.float32))  # type: ignore[arg-type]
    return Samples(tokens, np.zeros(size), np.zeros(size))  # type: ignore[arg-type]


def _put_down(result: Samples, batch: Lanes, *, everything: bool) -> np.ndarray:
    """Copy finished lanes (or all) to their rows; returns the lanes that are left."""
    state, rows = batch.state, batch.rows
    over = np.asarray(state.done)[: len(rows)] | everything
    lanes, places = np.flatnonzero(over), state.w.shape[1]
    tokens = result.tokens
    for whole, part in ((tokens.w, state.w), (tokens.a, state.a), (tokens.x, state.x)):
        whole[rows[lanes], :places] = np.asarray(part)[lanes]  # type: ignore[index]
    for whole, part in (
        (tokens.l, state.l),
        (result.behaviour_log_prob, state.behaviour_log_prob),
        (result.log_prob, state.log_prob),
    ):
        whole[rows[lanes]] = np.asarray(part)[lanes]  # type: ignore[index]
    return np.flatnonzero(~over)


@eqx.filter_jit
def blank_state(policy: Policy, g: Int[Array, " b"], behaviour: Behaviour, places: int) -> SampleState:
    """Sequences before their first letter."""
    shape, size, dtype = policy.shape, g.shape[0], policy.head.w.dtype
    first = policy.first_output(g)
    return SampleState(
        position=jnp.zeros((), jnp.int32),
        output=jnp.pad(first, ((0, 0), (0, shape.output_size - first.shape[1]))),
        current=jnp.ones(size, jnp.int32),
        done=jnp.zeros(size, bool),
        atoms=jnp.zeros((size, behaviour.counted), jnp.int32),
        log_prob=jnp.zeros(size, dtype),
        behaviour_log_prob=jnp.zeros(size, dtype),
        w=jnp.zeros((size, places), jnp.int32),
        a=jnp.zeros((size, places), jnp.int32),
        x=jnp.zeros((size, places, 3), jnp.float32),
        l=jnp.zeros((size, 6), jnp.float32),
        cache=policy.empty_cache(size, places * TOKENS_PER_SITE),
    )


@eqx.filter_jit
def _take(
    runs: list[Run], states: list[SampleState], source: Int[Array, " b"], lane: Int[Array, " b"], places: int
) -> tuple[Run, SampleState]:
    """Lane `lane` of batch `source` in each place of a new batch, with room for `places` places."""

    def pick(*leaves: Array) -> Array:
        if not leaves[0].ndim:
            # The position: batches with lanes left are at the stage's end, one whose sequences were all done may not be.
            return jnp.stack(leaves).max()
        # Picked batch by batch, so that only these lanes are copied, not all.
        picked = leaves[0][lane]
        for number, leaf in enumerate(leaves[1:], start=1):
            picked = jnp.where((source == number).reshape(-1, *[1] * (leaf.ndim - 1)), leaf[lane], picked)
        return picked

    state = jax.tree.map(pick, *states)
    more = places - state.w.shape[1]
    wider = state._replace(
        w=jnp.pad(state.w, ((0, 0), (0, more))),
        a=jnp.pad(state.a, ((0, 0), (0, more))),
        x=jnp.pad(state.x, ((0, 0), (0, more), (0, 0))),
        cache=jax.tree.map(lambda leaf: jnp.pad(leaf, ((0, 0), (0, 0), (0, more * TOKENS_PER_SITE), (0, 0))), state.cache),
    )
    keys = jax.random.wrap_key_data(pick(*(jax.random.key_data(run.keys) for run in runs)))
    return Run(keys, pick(*(run.g for run in runs)), runs[0].behaviour), wider


@eqx.filter_jit
def _run_stage(policy: Policy, run: Run, state: SampleState) -> SampleState:
    """Choose tokens until every sequence is done or the stage's places are full."""
    end = state.w.shape[1] * TOKENS_PER_SITE
    return jax.lax.while_loop(
        lambda state: (state.position < end) & ~state.done.all(),
        lambda state: _write_token(policy, run, state),
        state,
    )


def _write_token(policy: Policy, run: Run, state: SampleState) -> SampleState:
    """Choose the next token of every sequence from the last output, and read it."""
    written, token = choose_token(policy, run, state._replace(cache=None))
    assert state.cache is not None
    output, cache = policy.step(token, state.position, state.cache)
    return written._replace(position=state.position + 1, output=output, cache=cache)


def choose_token(policy: Policy, run: Run, state: SampleState) -> tuple[SampleState, Float[Array, "b d"]]:
    """The next token of every sequence, drawn from the last output: the state with it, and its embedding.

    The state's cache is not needed; `position` and `output` are left to whoever evaluates the network.
    """
    kind = state.position % TOKENS_PER_SITE
    keys = jax.vmap(lambda key: jax.random.fold_in(key, state.position))(run.keys)
    chance = Chance(keys, jax.vmap(lambda key: jax.random.uniform(key, (7,)))(keys))
    # One copy of the network serves all kinds of tokens: the program is short and compiles fast.
    writers = (_write_letter, _write_element, _write_coordinate)
    branches = [lambda write=write: write(policy, run, chance, state) for write in writers]
    return jax.lax.switch(jnp.minimum(kind, 2), branches)


def _progress(run: Run, state: SampleState, current: Int[Array, " b"]) -> Progress:
    place = state.position // TOKENS_PER_SITE
    return Progress(run.g, current, jnp.broadcast_to(place, current.shape), state.atoms)


def _write_letter(policy: Policy, run: Run, chance: Chance, state: SampleState) -> tuple[SampleState, Float[Array, "b d"]]:
    """The Wyckoff letter of the next site, or the end."""
    shape, place = policy.shape, state.position // TOKENS_PER_SITE
    logits, progress = policy.letter_logits(state.output, run.g), _progress(run, state, state.current)
    plain, ours = letter_log_probs(logits, progress, None), letter_log_probs(logits, progress, run.behaviour)
    if shape.likelihood == "normalized":
        plain, ours = (jnp.where(place == shape.n_max - 1, only_padding(p), p) for p in (plain, ours))
    w = jax.vmap(choose)(chance.uniform[:, 0], ours)
    w = jnp.where(state.current == 0, 0, w)
    state = _count(state, _pick(plain, w), _pick(ours, w), state.current > 0)
    return state._replace(w=state.w.at[:, place].set(w), current=w), policy.embed_w(run.g, w)


def _write_element(policy: Policy, run: Run, chance: Chance, state: SampleState) -> tuple[SampleState, Float[Array, "b d"]]:
    """The element of a site; the lattice where the sequence has just ended."""
    place = state.position // TOKENS_PER_SITE
    before = jnp.where(place == 0, 1, state.w[:, jnp.maximum(place - 1, 0)])
    logits, progress = policy.element_logits(state.output), _progress(run, state, before)
    plain = element_log_probs(logits, state.current, progress, None)
    ours = element_log_probs(logits, state.current, progress, run.behaviour)
    a = jax.vmap(choose)(chance.uniform[:, 0], ours)
    l, plain_density, density = _draw_lattice(policy, run, chance.uniform, state)
    site, ends_now = state.current > 0, (state.current == 0) & ~state.done
    state = _count(state, _pick(plain, a), _pick(ours, a), site)
    state = _count(state, plain_density, density, ends_now)
    state = state._replace(
        a=state.a.at[:, place].set(jnp.where(site, a, 0)),
        atoms=state.atoms + atoms_of_sites(run.g, state.current, a, run.behaviour),
        l=jnp.where(ends_now[:, None], l, state.l),
        done=state.done | ends_now,
    )
    return state, policy.embed_a(run.g, a)


def _write_coordinate(
    policy: Policy, run: Run, chance: Chance, state: SampleState
) -> tuple[SampleState, Float[Array, "b d"]]:
    """A coordinate drawn where it is independent, else computed from the ones before by the position's standard form."""
    shape, tables = policy.shape, symmetry_arrays()
    place, axis = state.position // TOKENS_PER_SITE, state.position % TOKENS_PER_SITE - 2
    g, w, x = run.g, state.current, state.x[:, place]
    plain, ours = (coordinate_mixture(state.output, shape, temperature) for temperature in (1.0, run.behaviour.temperature))
    drawn = jax.vmap(sample_coordinate)(chance.keys, chance.uniform[:, 0], ours)
    operation = jnp.asarray(tables.first_operation, x.dtype)[g, w, axis]
    computed = wrap((operation[:, :3] * x).sum(-1) + operation[:, 3])
    value = jnp.where(jnp.asarray(tables.independent)[g, w, axis], drawn, computed).astype(jnp.float32)
    counted = jnp.asarray(tables.independent if shape.likelihood == "normalized" else tables.free)[g, w, axis] & (w > 0)
    state = _count(state, coordinate_log_density(plain, value), coordinate_log_density(ours, value), counted)
    value = jnp.where(w > 0, value, 0.0)
    return state._replace(x=state.x.at[:, place, axis].set(value)), policy.embed_x(axis, g, value)


def _count(state: SampleState, plain: Array, ours: Array, where: Bool[Array, " b"]) -> SampleState:
    """Add log-probabilities under the policy and under the run's behaviour."""
    return state._replace(
        log_prob=state.log_prob + jnp.where(where, plain, 0.0),
        behaviour_log_prob=state.behaviour_log_prob + jnp.where(where, ours, 0.0),
    )


def _pick(log_probs: Float[Array, "b k"], choice: Int[Array, " b"]) -> Float[Array, " b"]:
    return jnp.take_along_axis(log_probs, choice[:, None], axis=1)[:, 0]


def _draw_lattice(
    policy: Policy, run: Run, uniform: Float[Array, "b 7"], state: SampleState
) -> tuple[Float[Array, "b 6"], Array, Array]:
    """A lattice from the output at a W token, and the log-density of its free parameters under the policy and under the run's
    behaviour; the others are as the group has them.
    """
    shape = policy.shape
    plain, ours = (lattice_mixture(state.output, shape, temperature) for temperature in (1.0, run.behaviour.temperature))
    drawn = jax.vmap(sample_lattice)(uniform, ours)
    l = constrained_lattice(run.g, drawn).astype(jnp.float32)
    free = jnp.asarray(symmetry_arrays().free_lattice)[run.g]
    plain_density, density = (lattice_log_density(mixture, l, free, shape.likelihood) for mixture in (plain, ours))
    return l, plain_density, density


def constrained_lattice(g: Int[Array, " b"], l: Float[Array, "b 6"]) -> Float[Array, "b 6"]:
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


def crystal_keys(seed: int, numbers: Int[Array, " b"], attempt: int = 0) -> PRNGKeyArray:
    """The random key of each crystal of a run, for its first or a later attempt."""
    base = jax.random.key(seed)
    keys = jax.vmap(lambda i: jax.random.fold_in(base, i))(numbers)
    return jax.vmap(lambda key: jax.random.fold_in(key, 2_000_000 + attempt))(keys) if attempt else keys


def draw_space_groups(seed: int, numbers: np.ndarray, weights: Sequence[float], attempt: int = 0) -> np.ndarray:
    """Space group of each crystal of a run, drawn with `weights` (230,); depends on (seed, number, attempt) alone."""
    log_weights = jnp.log(jnp.asarray(weights, jnp.float32))
    keys = jax.vmap(lambda key: jax.random.fold_in(key, 1_000_000))(crystal_keys(seed, jnp.asarray(numbers), attempt))
    return np.asarray(jax.vmap(lambda key: jax.random.categorical(key, log_weights))(keys)) + 1


def sample(
    policy: Policy,
    seed: int,
    numbers: Sequence[int],
    space_group_weights: Sequence[float],
    behaviour: Behaviour,
    *,
    batch_size: int = 64,
    groups: np.ndarray | None = None,
    attempt: int = 0,
    advance: Callable[[int], object] | None = None,
) -> Samples:
    """Crystals of the given numbers of a run, each with its space group drawn first, or with those of `groups` (n,).

    attempt: another draws other crystals of the same numbers. Every batch is filled up, so that few compiled programs serve all: on a CPU to `LANES`, which is as fast as
    more; on an accelerator to the multiple of `LANES` that holds `batch_size`.
    """
    on_cpu = jax.default_backend() == "cpu"
    lanes = LANES if on_cpu else -(-batch_size // LANES) * LANES
    wave = lanes * (WAVE if on_cpu else 1)
    numbers_ = np.asarray(numbers, np.int32)
    if groups is None:
        groups = draw_space_groups(seed, numbers_, space_group_weights, attempt)
    parts = []
    for start in range(0, len(numbers_), wave):
        size = min(wave, len(numbers_) - start)
        chosen = np.minimum(np.arange(start, start + -(-size // lanes) * lanes), len(numbers_) - 1)
        keys = crystal_keys(seed, jnp.asarray(numbers_[chosen]), attempt)
        part = sample_batch(policy, keys, jnp.asarray(groups[chosen], jnp.int32), behaviour, lanes)
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
        return None, Status.NO_CRYSTAL
    parameters = np.concatenate([l[:3] * atoms_in_cell(g, w[:n]) ** (1 / 3), np.degrees(l[3:])])
    parameters = constrain_lattice(g, parameters)
    inside = np.all(parameters > 0) and np.all(parameters[3:] < 180)
    if not inside or not np.all(np.isfinite(lattice_matrix(parameters))):
        return None, Status.BAD_LATTICE
    return make_sites(g, w[:n], a[:n], x[:n], parameters), Status.OK
