"""What a comparison knows of one policy."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crystalformer_rl.reference.identity import PotentialIdentity

Row = dict[str, Any]

BASE = "base"
ARM_AND_SEED = re.compile(r"(.+)-(0|[1-9]\d*)")
"""Name of a policy of an arm: `ppo-0`."""


@dataclass(frozen=True)
class Run:
    """One policy: the base policy, or one seed of an arm.

    crystals: rows of the EVALUATED table; metrics: its row; judged: rows of the judge's HULL table in the same order, or None;
    rollouts, updates: rows of all rounds in their order, none for the base policy; settings: the run configuration that
    its fine-tuning had, with its digest; potential, judge: identities of the potentials that rewarded and judged, None
    where not recorded; inputs: files that were read.
    """

    policy: str
    arm: str
    seed: int | None
    metrics: Row
    crystals: list[Row]
    judged: list[Row] | None = None
    rollouts: list[Row] = field(default_factory=list)
    updates: list[Row] = field(default_factory=list)
    settings: Row = field(default_factory=dict)
    settings_sha256: str = ""
    potential: PotentialIdentity | None = None
    judge: PotentialIdentity | None = None
    inputs: tuple[Path, ...] = ()

    @property
    def moves(self) -> bool:
        """Fine-tuning changed the policy; another arm scores the base policy's crystals alone."""
        return self.settings.get("finetune", {}).get("algorithm") != "none"

    @property
    def selects(self) -> bool:
        """Its crystals are the best of those that were scored, and were not drawn afterwards."""
        return not self.moves and {crystal["id"] for crystal in self.crystals} <= {row["id"] for row in self.rollouts}

    @property
    def evaluations(self) -> int:
        """Evaluations of the potential that fine-tuning took."""
        return sum(row["evaluations"] for row in self.updates)
