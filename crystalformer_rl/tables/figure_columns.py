"""Columns of the figures that a reward may look at."""

from __future__ import annotations

from crystalformer_rl.tables.column import FLOAT, Column, pick
from crystalformer_rl.tables.energy_columns import HULL
from crystalformer_rl.tables.property_columns import PREDICTED

#: What may be computed of a crystal to reward it: of the crystal as sampled, or after the few steps that `reward.relax` allows.
FIGURES = (
    Column(
        "energy",
        FLOAT,
        "eV/atom",
        "total energy of the potential, of the crystal that is judged: as sampled, or after the steps that `reward.relax` allows",
    ),
    Column("formation_energy", FLOAT, "eV/atom", "formation energy from the elemental references, of the same"),
    Column("e_above_hull", FLOAT, "eV/atom", "energy above the convex hull of the reference, of the same"),
    *pick(HULL, "hull_support"),
    Column(
        "p_stable",
        FLOAT,
        "",
        "probability that DFT calls it stable once it is relaxed, from the figures of the unrelaxed crystal",
    ),
    Column("force", FLOAT, "eV/Å", "largest force on an atom, of the same"),
    *PREDICTED,
)
