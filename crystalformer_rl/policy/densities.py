"""Mixture densities of coordinates (von Mises) and lattice (Gaussian): parameters, log-density, sampling."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from crystalformer_rl.policy.shape import Likelihood, PolicyShape


class VonMisesMixture(NamedTuple):
    """Mixture over the angle (x − ½)·2π. log_weights, location, kappa: (*n, Kx)."""

    log_weights: Float[Array, "*n k"]
    location: Float[Array, "*n k"]
    kappa: Float[Array, "*n k"]


class GaussianMixture(NamedTuple):
    """Mixture over the six scaled lattice parameters. log_weights (*n, Kl); mean, sigma: (*n, Kl, 6)."""

    log_weights: Float[Array, "*n k"]
    mean: Float[Array, "*n k 6"]
    sigma: Float[Array, "*n k 6"]


def coordinate_mixture(
    output: Float[Array, "*n o"], shape: PolicyShape, temperature: float | Array = 1.0
) -> VonMisesMixture:
    """Read a coordinate's mixture off a raw output. Temperature flattens the weights and the concentrations."""
    logits, location, raw = jnp.split(output[..., : 3 * shape.Kx], 3, axis=-1)
    kappa = jax.nn.softplus(raw) / (temperature * shape.density_temperature)
    return VonMisesMixture(jax.nn.log_softmax(logits / temperature), location, kappa)


def lattice_mixture(output: Float[Array, "*n o"], shape: PolicyShape, temperature: float | Array = 1.0) -> GaussianMixture:
    """Read the lattice mixture off a raw output, past the elements. Temperature widens it by its square root."""
    start, components = shape.atom_types, shape.Kl
    logits, mean, raw = jnp.split(output[..., start : start + 13 * components], [components, 7 * components], axis=-1)
    mean, raw = (part.reshape(*output.shape[:-1], components, 6) for part in (mean, raw))
    sigma = (jax.nn.softplus(raw) + 1e-3) * jnp.sqrt(temperature * shape.density_temperature)
    return GaussianMixture(jax.nn.log_softmax(logits / temperature), mean, sigma)


def coordinate_log_density(mixture: VonMisesMixture, x: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """Log-density of the angle (x − ½)·2π; no Jacobian for the change to x."""
    delta = (x[..., None] - 0.5) * (2 * jnp.pi) - mixture.location
    # κ(cos δ − 1) in the form that keeps its digits for sharp peaks; i0e carries the e^κ.
    exponent = -2 * mixture.kappa * jnp.square(jnp.sin(delta / 2))
    log_density = exponent - jnp.log(2 * jnp.pi * jax.scipy.special.i0e(mixture.kappa))
    return jax.nn.logsumexp(mixture.log_weights + log_density, axis=-1)


def lattice_log_density(
    mixture: GaussianMixture, l: Float[Array, "*n 6"], free: Bool[Array, "*n 6"], likelihood: Likelihood
) -> Float[Array, "*n"]:
    """Log-density of the free lattice parameters, jointly or one by one (see `PolicyShape`)."""
    z = (l[..., None, :] - mixture.mean) / mixture.sigma
    log_normal = -0.5 * (jnp.square(z) + jnp.log(2 * jnp.pi)) - jnp.log(mixture.sigma)
    if likelihood == "normalized":
        joint = jnp.where(free[..., None, :], log_normal, 0.0).sum(-1)
        return jax.nn.logsumexp(mixture.log_weights + joint, axis=-1)
    each = jax.nn.logsumexp(mixture.log_weights[..., None] + log_normal, axis=-2)
    return jnp.where(free, each, 0.0).sum(-1)


def choose(u: Float[Array, ""], log_probs: Float[Array, " k"]) -> Int[Array, ""]:
    """The choice that a uniform number in [0, 1) makes; never one of probability zero."""
    cumulative = jnp.cumsum(jnp.exp(log_probs.astype(jnp.float32)))
    return (cumulative <= u * cumulative[-1]).sum().astype(jnp.int32)


def sample_coordinate(key: PRNGKeyArray, u: Float[Array, ""], mixture: VonMisesMixture) -> Float[Array, ""]:
    """One coordinate in [0, 1) from a mixture without batch axes. `u` in [0, 1) picks the component."""
    k = choose(u, mixture.log_weights)
    angle = mixture.location[k] + sample_von_mises(key, mixture.kappa[k])
    return wrap(angle / (2 * jnp.pi) + 0.5)


def wrap(x: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """Into [0, 1); rounding can leave exactly 1, which is 0."""
    wrapped = x - jnp.floor(x)
    return jnp.where(wrapped >= 1.0, 0.0, wrapped)


def sample_lattice(u: Float[Array, " 7"], mixture: GaussianMixture) -> Float[Array, " 6"]:
    """Six scaled lattice parameters from a mixture without batch axes: one component for all six.

    `u`: seven uniform numbers in [0, 1), the first picks the component.
    """
    k = choose(u[0], mixture.log_weights)
    inside = jnp.clip(u[1:], 1e-7, 1 - 1e-7)
    return mixture.mean[k] + mixture.sigma[k] * jax.scipy.special.ndtri(inside)


def sample_von_mises(key: PRNGKeyArray, kappa: Float[Array, ""]) -> Float[Array, ""]:
    """One angle in [−π, π] around 0 by rejection from a wrapped Cauchy.

    D. J. Best and N. I. Fisher, J. R. Stat. Soc. C 28, 152 (1979), with every difference of
    nearly equal numbers rewritten, so that concentrations of 10⁶ keep their digits in float32.
    """
    kappa = jnp.maximum(kappa, 1e-4)
    root = jnp.sqrt(1 + 4 * kappa**2)
    gap = (jnp.sqrt(2 * (1 + root)) - 1 - 1 / (root + 2 * kappa)) / (2 * kappa)  # 1 − ρ
    excess = gap**2 / (2 * jnp.maximum(1 - gap, 1e-12))  # r − 1

    def propose(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        trial = state[0]
        # Far from the numbers that a caller may draw from `key` itself.
        u, v, sign = jax.random.uniform(jax.random.fold_in(key, 1_000_000 + trial), (3,), kappa.dtype)
        one_minus_z = 2 * jnp.square(jnp.sin(0.5 * jnp.pi * u))
        # 1 − f with f = (1 + r z)/(r + z) the cosine of the proposed angle
        one_minus_f = excess * one_minus_z / (2 + excess - one_minus_z)
        c = kappa * (excess + one_minus_f)
        v = jnp.maximum(v, jnp.finfo(kappa.dtype).tiny)
        accepted = (c * (2 - c) > v) | (jnp.log(c / v) + 1 - c >= 0)
        angle = 2 * jnp.arcsin(jnp.sqrt(jnp.clip(one_minus_f / 2, 0, 1)))
        return trial + 1, jnp.where(sign < 0.5, angle, -angle), accepted

    start = (jnp.zeros((), jnp.int32), jnp.zeros((), kappa.dtype), jnp.zeros((), bool))
    return jax.lax.while_loop(lambda state: ~state[2], propose, start)[1]
