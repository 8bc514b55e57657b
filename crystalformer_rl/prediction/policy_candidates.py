"""Structures that a policy proposes for a formula."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from crystalformer_rl.crystal.elements import SYMBOLS
from crystalformer_rl.crystal.structure import crystal_status
from crystalformer_rl.crystal.tokens import Sites, primitive
from crystalformer_rl.errors import InputError
from crystalformer_rl.policy.request import Request
from crystalformer_rl.policy.sampler import Samples, draw_space_groups, sample, sites_of
from crystalformer_rl.policy.transformer import Policy
from crystalformer_rl.prediction.contacts import NEAREST, closest_contact
from crystalformer_rl.tables.status import OK, Status

MOST_ATOMS = 20
"""In the primitive cell, as policies are trained."""

DRAWS = 4
"""Sequences drawn for a candidate, at most."""

MOST_CANDIDATES = 1 << 20


@dataclass(frozen=True)
class PolicyCandidate:
    """One of the structures that a policy proposes: its space group and sites, None where no draw gave a crystal, and the status that says why.

    log_prob: under the policy, behaviour_log_prob: with the formula's masks, both given the space group, nats. draws: sequences
    drawn, all but the last in vain.
    """

    space_group: int
    sites: Sites | None
    status: str
    log_prob: float
    behaviour_log_prob: float
    draws: int


def policy_candidates(
    policy: Policy,
    counts: Mapping[int, int],
    n: int,
    space_group_weights: Sequence[float] | np.ndarray,
    *,
    seed: int = 0,
    draws: int = DRAWS,
    most_atoms: int = MOST_ATOMS,
    advance: Callable[[int], object] | None = None,
) -> list[PolicyCandidate]:
    """`n` structures of a formula in any number of units that the primitive cell holds; candidate i depends on (seed, i), not on n.

    counts: {atomic number: atoms} of the reduced formula. space_group_weights: (230,), such as `space_group_probabilities`; groups that
    cannot hold the formula are left out. A candidate whose atoms overlap is drawn again in its space group, `draws` times in all. Raises
    InputError where no group of positive weight can hold the formula.
    """
    if n > MOST_CANDIDATES:
        raise InputError(f"{n} candidates of one formula are more than {MOST_CANDIDATES}; ask for fewer.")
    formula = "".join(f"{SYMBOLS[z - 1]}{k}" for z, k in counts.items())
    behaviour, weights = Request(formula=formula, max_atoms=most_atoms).plan(
        [float(w) for w in space_group_weights], policy.shape.n_max
    )
    groups = draw_space_groups(seed, np.arange(n), weights)
    found: dict[int, PolicyCandidate] = {}
    left = np.arange(n)
    for draw in range(draws):
        # Each draw of a candidate has a number of its own, whatever n is.
        numbers = left + MOST_CANDIDATES * draw
        samples = sample(policy, seed, numbers.tolist(), weights, behaviour, groups=groups[left])
        found |= dict(zip(left.tolist(), _candidates(samples, draw), strict=True))
        before, left = len(left), np.array([i for i in left if found[int(i)].status != OK], int)
        if advance is not None:
            advance(before - len(left))
        if not len(left):
            break
    if advance is not None:
        advance(len(left))
    return [found[i] for i in range(n)]


def _candidates(samples: Samples, before: int) -> list[PolicyCandidate]:
    """Sampled sequences as candidates, each of which was drawn `before` times in vain."""
    found = []
    columns = (np.asarray(samples.tokens.g), samples.log_prob, samples.behaviour_log_prob)
    for (sites, status), g, log_prob, behaviour in zip(sites_of(samples.tokens), *columns, strict=True):
        if sites is not None:
            status = _status(sites)
        kept = sites if status == OK else None
        found.append(PolicyCandidate(int(g), kept, status, float(log_prob), float(behaviour), before + 1))
    return found


def _status(sites: Sites) -> str:
    crystal = primitive(sites)
    status = crystal_status(crystal)
    if status == OK and closest_contact(crystal) < NEAREST:
        return Status.OVERLAPPING_ATOMS
    return status
