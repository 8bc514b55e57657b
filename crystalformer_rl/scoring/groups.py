"""Which figures are computed together: the function of the worker that gives each group, and the columns of its answer."""

from __future__ import annotations

from crystalformer_rl.tables.column import pick
from crystalformer_rl.tables.crystal_columns import CRYSTALS_AND_TOKENS, ID, STATUS
from crystalformer_rl.tables.energy_columns import RELAXED
from crystalformer_rl.tables.figure_columns import FIGURES
from crystalformer_rl.tables.property_columns import PROPERTIES

ANSWERS = {
    "energy": (ID, *pick(FIGURES, "energy"), STATUS),
    "force": (ID, *pick(FIGURES, "energy", "force"), STATUS),
    "properties": PROPERTIES,
    # The crystal is the best one that a few steps met, which the figures are of; the tokens are where the next step would lead.
    "walk": (*CRYSTALS_AND_TOKENS, *pick(FIGURES, "energy", "force"), *pick(RELAXED, "evaluations"), STATUS),
}
"""Columns of the answer by the group of figures that is asked for."""

FUNCTIONS = {
    "energy": "crystalformer_rl.scoring.figure_answers:energies",
    "force": "crystalformer_rl.scoring.figure_answers:forces",
    "properties": "crystalformer_rl.scoring.figure_answers:properties",
    "walk": "crystalformer_rl.scoring.figure_answers:walk",
}
