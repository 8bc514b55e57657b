"""What an update minimizes: arrays in, a loss for each crystal and diagnostics out."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float


class Loss(NamedTuple):
    """value: (B,) to minimize; clipped: (B,) 1 where the clip decided, so that the crystal gives no gradient."""

    value: Float[Array, " b"]
    clipped: Float[Array, " b"]


def ppo(log_prob: Float[Array, " b"], old_log_prob: Float[Array, " b"], advantage: Float[Array, " b"], clip: float) -> Loss:
    """The clipped surrogate, −min(ρ A, clip(ρ, 1 ± clip) A), with ρ the ratio of whole-crystal probabilities.

    J. Schulman et al., arXiv 1707.06347, equation 7. `old_log_prob` is the one with which the crystal was sampled.
    """
    ratio = jnp.exp(log_prob - old_log_prob)
    plain = ratio * advantage
    clipped = jnp.clip(ratio, 1 - clip, 1 + clip) * advantage
    return Loss(-jnp.minimum(plain, clipped), (clipped < plain).astype(ratio.dtype))


OBJECTIVES = {"ppo": ppo}
