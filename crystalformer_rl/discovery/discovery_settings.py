"""How a policy's crystals are judged and ranked."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from crystalformer_rl.hull.stability import STABLE_BELOW
from crystalformer_rl.settings import Number, Section


class EvaluateSettings(Section):
    """The figures of a policy."""

    stable_below: Number = Field(
        STABLE_BELOW, ge=0, le=10, description="Largest energy above the hull that counts as stable, eV/atom."
    )


class RankSettings(Section):
    """The table of candidates."""

    by: Literal["e_above_hull", "fom", "fom_total"] = Field(
        "e_above_hull",
        description="Best first by: e_above_hull, the energy above the hull; or fom (fom_total), the product of electronic (total) "
        "dielectric constant and band gap, stable crystals first.",
    )
