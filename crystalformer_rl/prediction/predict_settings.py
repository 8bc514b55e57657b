"""How structures of a formula are predicted: how many candidates of which generator, and how many of them are relaxed."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from crystalformer_rl.potential.relax_settings import RelaxSettings
from crystalformer_rl.settings import Integer, Section

Generator = Literal["policy", "substitution", "both"]


class PredictSettings(Section):
    """Prediction of the structures of a formula."""

    n: Integer = Field(200, ge=1, le=100_000, description="Candidates of the policy.")
    by: Generator = Field(
        "both", description="Who makes candidates: the policy, known prototypes with their elements exchanged, or both."
    )
    draws: Integer = Field(
        4,
        ge=1,
        le=64,
        description="Sequences that the policy draws for a candidate, at most: one whose atoms overlap is drawn again.",
    )
    prototypes: Integer = Field(
        64, ge=1, le=10_000, description="Known prototypes that take the formula's elements, at most."
    )
    max_atoms: Integer = Field(20, ge=1, le=200, description="Most atoms in the primitive cell.")
    tried: Integer = Field(
        24,
        ge=1,
        le=10_000,
        description="Candidates of each generator, the lowest by energy as made, that are relaxed by a few steps.",
    )
    relaxed: Integer = Field(6, ge=1, le=10_000, description="Of these, the lowest that are relaxed to rest.")
    first_evaluations: Integer = Field(6, ge=1, le=1000, description="Evaluations of the potential in those few steps.")
    max_evaluations: Integer = Field(40, ge=1, le=1000, description="Evaluations of the potential until rest.")

    @property
    def few_steps(self) -> RelaxSettings:
        """Enough to tell the hopeless from the rest."""
        return RelaxSettings(fmax=0.05, smax=0.5, max_evaluations=self.first_evaluations)

    @property
    def to_rest(self) -> RelaxSettings:
        """As the entries of a reference are relaxed, nearly."""
        return RelaxSettings(fmax=0.03, smax=0.3, max_evaluations=self.max_evaluations)

    @property
    def generators(self) -> tuple[str, ...]:
        """Their names in tables."""
        return ("policy", "substitution") if self.by == "both" else (self.by,)
