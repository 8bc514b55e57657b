"""How a policy's crystals are judged and ranked."""

from __future__ import annotations

from pydantic import Field, model_validator

from crystalformer_rl.hull.stability import STABLE_BELOW
from crystalformer_rl.settings import Integer, Number, Section, Text


class EvaluateSettings(Section):
    """The figures of a policy."""

    stable_below: Number = Field(
        STABLE_BELOW, ge=0, le=10, description="Largest energy above the hull that counts as stable, eV/atom."
    )


class JudgeSettings(Section):
    """A second potential, which no reward has seen, and its hull."""

    potential: Text = Field("sevennet-0", description="As resources.potential; best one of another architecture.")
    reference: Text = Field(
        "embedded",
        description="Whose hull it judges by: `embedded`, the run's own reference with the DFT energies and the judge's bias (for chgnet-r2scan "
        "a reference in that potential); or a Parquet file.",
    )


class RankSettings(Section):
    """The table of candidates."""

    by: str = Field(
        "p_stable",
        description="Best first by: p_stable, the probability of being stable, by both potentials where a second one judged; e_above_hull, the energy above the hull, all below it alike; fom (fom_total), the product of "
        "electronic (total) dielectric constant and band gap, stable crystals first; or another column of the evaluated crystals, "
        "largest first, with a minus before its name smallest first; reward, what the crystal earns at rest by the run's reward.",
    )
    scored: Integer = Field(
        32,
        ge=0,
        description="Best crystals that fine-tuning scored, each kind once, that are relaxed and ranked beside the samples.",
    )
    judge: Integer = Field(
        50,
        ge=0,
        description="Best candidates that the judge relaxes too, new ones first, before the ranking is made; 0: none.",
    )
    where: list[str] = Field(
        [], description="Conditions on columns of the evaluated crystals, such as 'band_gap between 1.2 and 1.6'."
    )
    exclude: list[str] = Field(
        ["noble_gases", "no_stable_isotope"],
        description="Elements whose compounds are left out of the best: symbols, noble_gases, no_stable_isotope.",
    )

    @model_validator(mode="after")
    def _means_something(self) -> RankSettings:
        from crystalformer_rl.discovery.ranking import Ranking
        from crystalformer_rl.errors import InputError

        try:
            Ranking.of(self.by, self.where, self.exclude)
        except InputError as error:
            raise ValueError(str(error)) from None
        return self
