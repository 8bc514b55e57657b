"""Candidates for the structures of a formula, whoever makes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from crystalformer_rl.crystal.structure import crystal_status
from crystalformer_rl.crystal.tokens import Sites, primitive
from crystalformer_rl.prediction.policy_candidates import PolicyCandidate
from crystalformer_rl.recovery.prototypes import Prototypes
from crystalformer_rl.tables.status import OK

POLICY, SUBSTITUTION = "policy", "substitution"


@dataclass(frozen=True)
class Proposed:
    """A candidate: sites, or None with the status that says why; made_by: `POLICY` or `SUBSTITUTION`; told: further columns of its row."""

    id: str
    made_by: str
    sites: Sites | None
    status: str
    told: Mapping[str, Any] = field(default_factory=dict)


def by_substitution(counts: Mapping[int, int], prototypes: Prototypes, most: int) -> list[Proposed]:
    """The likeliest known prototypes with a formula's elements, best first."""
    found = []
    for k, one in enumerate(prototypes.candidates(counts, most)):
        status = crystal_status(primitive(one.sites))
        told = {"donor": one.donor, "exchange": one.exchange, "score": round(one.score, 4)}
        found.append(Proposed(f"{SUBSTITUTION}-{k}", SUBSTITUTION, one.sites if status == OK else None, status, told))
    return found


def by_policy(candidates: Sequence[PolicyCandidate], seed: int, probabilities: np.ndarray) -> list[Proposed]:
    """What a policy proposed; probabilities: (230,) of the space groups, with which they were drawn."""
    found = []
    for i, one in enumerate(candidates):
        told = {
            "p_space_group": float(probabilities[one.space_group - 1]),
            "log_prob": one.log_prob,
            "behaviour_log_prob": one.behaviour_log_prob,
            "draws": one.draws,
        }
        found.append(Proposed(f"{POLICY}-{seed}-{i}", POLICY, one.sites, one.status, told))
    return found
