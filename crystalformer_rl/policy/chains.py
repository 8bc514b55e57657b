"""Template Markov chains: elements, coordinates and lattices of crystals whose Wyckoff sites stay as they are.

Metropolis chains whose stationary law is the policy's likelihood on a fixed template, or likelihood × exp(reward/τ):
samples that reinforcement learning aims at, without training anything. A proposal changes one site (its
element, its free coordinates, or its element exchanged with another site's) and draws the lattice anew
from the policy, given all else. The proposal's lattice density then cancels, and a step is accepted with
probability min(1, p(w, a', x') / p(w, a, x) · exp((r' − r)/τ)).
N. Metropolis et al., J. Chem. Phys. 21, 1087 (1953); W. K. Hastings, Biometrika 57, 97 (1970).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from crystalformer_rl.crystal.tokens import Sites
from crystalformer_rl.policy.batch import TokenBatch, make_batch, symmetry_arrays
from crystalformer_rl.policy.densities import choose, lattice_log_density, sample_lattice, wrap
from crystalformer_rl.policy.likelihood import log_prob_and_lattice
from crystalformer_rl.policy.sampler import constrained_lattice, crystal_keys
from crystalformer_rl.policy.transformer import Policy

Rewards = Callable[[TokenBatch], np.ndarray]
"""Rewards (B,), finite, of sampled crystals; a lattice that makes no cell must have one, too."""


@dataclass(frozen=True)
class ChainSettings:
    """Moves and their shares; `width` is the standard deviation of a coordinate's move, fractional; `tau` has the reward's unit."""

    element: float = 0.4
    coordinate: float = 0.4
    exchange: float = 0.2
    width: float = 0.05
    tau: float = 0.1


class Chains(NamedTuple):
    """B chains. site_log_prob: log p(w, a, x); lattice_log_prob: log p(l | w, a, x), nats; reward: (B,); accepted: moves so far."""

    tokens: TokenBatch
    site_log_prob: Float[Array, " b"]
    lattice_log_prob: Float[Array, " b"]
    reward: Float[Array, " b"]
    accepted: Int[Array, " b"]

    @property
    def log_prob(self) -> Float[Array, " b"]:
        return self.site_log_prob + self.lattice_log_prob


def start_chains(policy: Policy, crystals: Sequence[Sites], rewards: Rewards | None = None) -> Chains:
    """Chains that start at the given crystals."""
    tokens = make_batch(crystals)
    sites, lattice = _site_log_prob(policy, tokens)
    free = jnp.asarray(symmetry_arrays().free_lattice)[tokens.g]
    density = lattice_log_density(lattice, tokens.l, free, policy.shape.likelihood)
    return Chains(tokens, sites, density, _rewards(tokens, rewards), jnp.zeros(len(crystals), jnp.int32))


def step(
    policy: Policy,
    chains: Chains,
    number: int,
    seed: int,
    settings: ChainSettings,
    allowed: Bool[np.ndarray, "wyck atom"],
    rewards: Rewards | None = None,
) -> Chains:
    """One Metropolis step of every chain. `allowed`: see `constraints.allowed_elements`; `number` and `seed` fix its random numbers."""
    keys = jax.vmap(lambda key: jax.random.fold_in(key, number))(crystal_keys(seed, jnp.arange(len(chains.reward))))
    proposal = _propose(policy, keys, chains.tokens, settings, jnp.asarray(allowed))
    proposal = proposal._replace(reward=_rewards(proposal.tokens, rewards))
    return _accept(keys, chains, proposal, jnp.asarray(allowed), settings.tau)


def _rewards(tokens: TokenBatch, rewards: Rewards | None) -> Float[Array, " b"]:
    return jnp.zeros(len(tokens.g)) if rewards is None else jnp.asarray(rewards(tokens), jnp.float32)


@eqx.filter_jit
def _site_log_prob(policy: Policy, tokens: TokenBatch):  # type: ignore[no-untyped-def]
    parts, lattice = log_prob_and_lattice(policy, tokens)
    return parts.w + parts.xyz + parts.a, lattice


@eqx.filter_jit
def _propose(
    policy: Policy, keys: PRNGKeyArray, tokens: TokenBatch, settings: ChainSettings, allowed: Bool[Array, "wyck atom"]
) -> Chains:
    """A proposal for every chain, its reward still to be found."""
    uniform = jax.vmap(lambda key: jax.random.uniform(key, (14,)))(keys)
    crystals = (tokens.g, tokens.w, tokens.a, tokens.x, uniform)
    moves = (_new_element, _new_coordinates, _exchange)
    moved = [jax.vmap(move, (0, 0, 0, 0, 0, None, None))(*crystals, settings.width, allowed) for move in moves]
    shares = jnp.log(jnp.array([settings.element, settings.coordinate, settings.exchange]))
    kind = jax.vmap(lambda u: choose(u, shares))(uniform[:, 0])
    a, x = (jnp.select([kind == i for i in range(3)], [m[part].T for m in moved]).T for part in (0, 1))
    proposal = tokens._replace(a=a, x=x)
    sites, lattice = _site_log_prob(policy, proposal)
    l = constrained_lattice(tokens.g, jax.vmap(sample_lattice)(uniform[:, 6:13], lattice)).astype(jnp.float32)
    density = lattice_log_density(lattice, l, jnp.asarray(symmetry_arrays().free_lattice)[tokens.g], policy.shape.likelihood)
    nothing = jnp.zeros(len(tokens.g))
    return Chains(proposal._replace(l=l), sites, density, nothing, nothing.astype(jnp.int32))


@eqx.filter_jit
def _accept(keys: PRNGKeyArray, old: Chains, new: Chains, allowed: Bool[Array, "wyck atom"], tau: float) -> Chains:
    """Metropolis' rule. Elements that are not allowed have no probability: a chain that starts with some sheds them first."""
    before, after = (_not_allowed(chains.tokens, allowed) for chains in (old, new))
    log_ratio = new.site_log_prob - old.site_log_prob + (new.reward - old.reward) / tau
    chance = jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, 1_000_000)))(keys)
    accepted = jnp.where(after == before, jnp.log(chance) < log_ratio, after < before)
    new = new._replace(accepted=old.accepted + 1)
    return jax.tree.map(lambda a, b: jnp.where(accepted.reshape(-1, *[1] * (a.ndim - 1)), a, b), new, old)


def _not_allowed(tokens: TokenBatch, allowed: Bool[Array, "wyck atom"]) -> Int[Array, " b"]:
    """Number of sites whose element their letter may not hold."""
    return ((tokens.w > 0) & ~allowed[tokens.w, tokens.a]).sum(-1)


# The three moves act on one crystal: letters (s,), elements (s,), coordinates (s, 3), 14 uniform numbers. Each is
# symmetric: it proposes the way back with the same probability.


def _new_element(g, w, a, x, u, width, allowed):  # type: ignore[no-untyped-def]
    """One of the elements that the letter may hold, each alike."""
    site = choose(u[1], _alike(w > 0))
    return a.at[site].set(choose(u[2], _alike(allowed[w[site]]))), x


def _new_coordinates(g, w, a, x, u, width, allowed):  # type: ignore[no-untyped-def]
    """The free coordinates of a site moved by a Gaussian step; nothing where no site has freedom."""
    tables = symmetry_arrays()
    independent = jnp.asarray(tables.independent)[g, w] & (w > 0)[:, None]
    movable = independent.any(-1)
    site = choose(u[1], _alike(movable))
    steps = width * jax.scipy.special.ndtri(jnp.clip(u[2:5], 1e-7, 1 - 1e-7))
    operation = jnp.asarray(tables.first_operation, x.dtype)[g, w[site]]
    point = x[site]
    for axis in range(3):
        tied = operation[axis, :3] @ point + operation[axis, 3]
        point = point.at[axis].set(wrap(jnp.where(independent[site, axis], point[axis] + steps[axis], tied)))
    return a, jnp.where(movable.any(), x.at[site].set(point), x)


def _exchange(g, w, a, x, u, width, allowed):  # type: ignore[no-untyped-def]
    """The elements of two sites exchanged."""
    first, second = choose(u[1], _alike(w > 0)), choose(u[2], _alike(w > 0))
    return a.at[first].set(a[second]).at[second].set(a[first]), x


def _alike(mask: Bool[Array, " k"]) -> Float[Array, " k"]:
    """Log-weights: 0 where True, never where False."""
    return jnp.where(mask, 0.0, -jnp.inf)
