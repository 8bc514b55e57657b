"""Crystals that meet what no mask can hold: each is drawn again until it does.

The rest of a crystal decides whether it holds lithium or is charge balanced, so no choice on the way can be forbidden. Drawing
again samples the policy conditioned on what is wanted; log-probabilities are those before the condition, which adds one
constant.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import numpy as np

from crystalformer_rl.crystal.tokens import Sites
from crystalformer_rl.policy.constraints import Behaviour
from crystalformer_rl.policy.sampler import Samples, sample, sites_of
from crystalformer_rl.policy.transformer import Policy
from crystalformer_rl.tables.status import Status

ATTEMPTS = 100
"""Times that a crystal is drawn before it is given up."""

Accepts = Callable[[Sites], bool]


def sample_accepted(
    policy: Policy,
    seed: int,
    numbers: Sequence[int],
    space_group_weights: Sequence[float],
    behaviour: Behaviour,
    accepts: Accepts | None,
    *,
    batch_size: int = 64,
    advance: Callable[[int], object] | None = None,
) -> tuple[Samples, list[tuple[Sites | None, str]]]:
    """Crystals of the given numbers of a run, and what they decode to with statuses: `unwanted` where `accepts` refused all attempts.

    Sequences that are no crystal keep their status and are not drawn again. Crystal i depends on the seed and i alone, as in `sampler.sample`.
    """
    told = None if accepts is not None else advance
    samples = sample(policy, seed, numbers, space_group_weights, behaviour, batch_size=batch_size, advance=told)
    found = sites_of(samples.tokens)
    if accepts is None:
        return samples, found
    samples = jax.tree.map(np.array, samples)
    left, told_of = _refused(found, range(len(numbers)), accepts), 0
    for attempt in range(1, ATTEMPTS):
        if advance is not None:
            advance(len(numbers) - len(left) - told_of)
        told_of = len(numbers) - len(left)
        if not left:
            return samples, found
        asked = [numbers[i] for i in left]
        again = sample(policy, seed, asked, space_group_weights, behaviour, batch_size=batch_size, attempt=attempt)
        for whole, part in zip(jax.tree.leaves(samples), jax.tree.leaves(again), strict=True):
            whole[left] = part
        for i, decoded in zip(left, sites_of(again.tokens), strict=True):
            found[i] = decoded
        left = _refused(found, left, accepts)
    for i in left:
        found[i] = (None, Status.UNWANTED)
    if advance is not None:
        advance(len(numbers) - told_of)
    return samples, found


def _refused(found: Sequence[tuple[Sites | None, str]], rows: Sequence[int], accepts: Accepts) -> list[int]:
    return [i for i in rows if (sites := found[i][0]) is not None and not accepts(sites)]
