"""How structures are recovered: how many candidates, how far each is relaxed, when one is accepted."""

from __future__ import annotations

from pydantic import Field

from crystalformer_rl.potential.relax_settings import RelaxSettings
from crystalformer_rl.settings import Integer, Number, Section, Text


class RecoverSettings(Section):
    """Recovery of structures for compositions whose energy is known."""

    compositions: Text | None = Field(
        None,
        description="Parquet with `formula` (and `n_entries`, `reserved`) for which structures are recovered and trained on, "
        "where policy.source is `pretrain`; null: none.",
    )
    second: Text | None = Field(
        "sevennet-0", description="A second potential whose energies decide too, so that many more are accepted; null: none."
    )
    limit: Integer = Field(20_000, ge=1, description="Compositions attempted at most, those nearest to the hull first.")
    max_e_above_hull: Number = Field(0.1, ge=0, description="Compositions above this are not attempted, eV/atom.")
    candidates: Integer = Field(8, ge=1, le=64, description="Prototypes of a composition whose energy is computed once.")
    relaxed: Integer = Field(3, ge=1, le=64, description="Of these, the lowest that are relaxed.")
    max_atoms: Integer = Field(20, ge=1, le=200, description="Most atoms in the primitive cell of a candidate.")
    max_evaluations: Integer = Field(20, ge=1, le=1000, description="Evaluations of the potential a relaxation.")
    accepted_from: Number = Field(
        0.75, ge=0, le=1, description="Least probability that a structure is the right one for it to be accepted."
    )
    learned_from: Number = Field(
        0.1,
        ge=0,
        le=1,
        description="Least probability from which a structure counts in pretraining, by as much as it is probable.",
    )

    @property
    def relaxation(self) -> RelaxSettings:
        """Looser than of a reference: what is accepted is told by some 10 meV/atom."""
        return RelaxSettings(fmax=0.05, smax=0.5, max_evaluations=self.max_evaluations)
