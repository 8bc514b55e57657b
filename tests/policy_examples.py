"""Small policies and crystals that several tests use, made on the spot."""

from __future__ import annotations

from functools import cache

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from crystalformer_rl.crystal.tokens import Sites, sort_sites
from crystalformer_rl.policy import likelihood
from crystalformer_rl.policy.shape import PolicyShape
from crystalformer_rl.policy.transformer import Policy

SMALL = PolicyShape(num_layers=2, num_heads=2, key_size=8, model_size=16, embed_size=8, h0_size=16)

log_prob = eqx.filter_jit(likelihood.log_prob)
"""The log-probability, compiled once: operation by operation it takes ten seconds for each new shape."""


@cache
def small_policy(seed: int = 0, sharpness: float = 8.0, n_max: int = 21) -> Policy:
    """A random policy whose outputs differ enough that a wrong mask or order would show."""
    shape = PolicyShape(**{**SMALL.to_dict(), "n_max": n_max})
    policy = Policy.init(jax.random.key(seed), shape)
    return eqx.tree_at(lambda p: p.head.w, policy, policy.head.w * sharpness)


def rock_salt() -> Sites:
    """NaCl, Fm-3m: a site at 4a and one at 4b."""
    return sort_sites(225, [1, 2], [11, 17], [[0, 0, 0], [0.5, 0.5, 0.5]], [5.64, 5.64, 5.64, 90, 90, 90])


def rutile() -> Sites:
    """TiO2, P4_2/mnm: 2a and 4f (x, x, 0)."""
    return sort_sites(136, [1, 6], [22, 8], [[0, 0, 0], [0.3053, 0.3053, 0]], [4.594, 4.594, 2.959, 90, 90, 90])


def low_symmetry() -> Sites:
    """A made-up crystal in P-1 with three general sites."""
    coords = [[0.1, 0.2, 0.3], [0.6, 0.15, 0.7], [0.35, 0.8, 0.05]]
    return sort_sites(2, [9, 9, 9], [13, 8, 16], coords, [5.1, 6.2, 7.3, 81, 97, 105])


def examples() -> list[Sites]:
    return [rock_salt(), rutile(), low_symmetry()]


def same_sites(a: Sites, b: Sites) -> bool:
    return (
        a.space_group == b.space_group
        and np.array_equal(a.wyckoff, b.wyckoff)
        and np.array_equal(a.elements, b.elements)
        and np.allclose(a.frac_coords, b.frac_coords)
        and np.allclose(a.lattice_parameters, b.lattice_parameters)
    )


def with_real_lattices(policy: Policy) -> Policy:
    """The policy with lattices of about 8 Å and right angles by its biases, so that most crystals can be evaluated."""
    shape, weights, biases = policy.shape, np.array(policy.head.w), np.array(policy.head.b)
    means = slice(shape.atom_types + shape.Kl, shape.atom_types + 7 * shape.Kl)
    spreads = slice(means.stop, means.stop + 6 * shape.Kl)
    weights[:, means.start : spreads.stop] *= 0.02
    biases[means], biases[spreads] = np.tile([2.6, 2.6, 2.6, 1.55, 1.58, 1.57], shape.Kl), -3.0
    return eqx.tree_at(lambda p: (p.head.w, p.head.b), policy, (jnp.asarray(weights), jnp.asarray(biases)))
