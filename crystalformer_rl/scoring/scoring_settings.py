"""How crystals are scored, apart from what they earn."""

from __future__ import annotations

from pydantic import Field

from crystalformer_rl.settings import Integer, Section


class ScoringSettings(Section):
    """How crystals are scored in fine-tuning, apart from what they earn."""

    workers: Integer = Field(
        1,
        ge=1,
        le=256,
        description="Workers with the potential that score a batch side by side, each on a core and with a gigabyte of memory; their number changes no "
        "result. On two cores one is enough: the policy learns beside it.",
    )
