"""Drawing crystals from a policy."""

from __future__ import annotations

from pydantic import Field

from crystalformer_rl.settings import Integer, Number, Section


class SampleSettings(Section):
    """Drawing crystals from a policy."""

    n: Integer = Field(512, ge=1, le=10_000_000, description="Crystals to sample from each policy.")
    batch: Integer = Field(
        256,
        ge=1,
        le=100_000,
        description="Crystals in a file and job. A larger n only adds files; another batch size makes all of them again.",
    )
    temperature: Number = Field(1.0, gt=0, le=10, description="Temperature of every choice; 1 samples the policy itself.")
