"""Columns of predicted structures of a formula."""

from __future__ import annotations

import pyarrow as pa

from crystalformer_rl.tables.column import FLOAT, Column, pick
from crystalformer_rl.tables.crystal_columns import CRYSTALS_AND_TOKENS, LOG_PROBS, NOTE, SAMPLES, STATUS
from crystalformer_rl.tables.discovery_columns import NOVELTY
from crystalformer_rl.tables.energy_columns import HULL, RELAXED
from crystalformer_rl.tables.recovery_columns import RECOVERED

#: A candidate a row, those that were relaxed to rest first, by rising energy.
PREDICTED_STRUCTURES = (
    Column("rank", pa.int64(), "", "place in the ranking, 1 is best"),
    *CRYSTALS_AND_TOKENS,
    Column(
        "prototype",
        pa.string(),
        "",
        "stoichiometry, Pearson symbol, space group and each element's Wyckoff letters: AB_cF8_225_a_b",
    ),
    Column("structure_type", pa.string(), "", "named structure type, such as halide elpasolite, or other"),
    *pick(RELAXED, "energy"),
    *pick(HULL, "formation_energy", "e_above_hull", "e_above_hull_std"),
    Column("above_best", FLOAT, "eV/atom", "energy above the lowest structure of the table"),
    Column(
        "above_known",
        FLOAT,
        "eV/atom",
        "energy above the lowest structure of the formula that the reference knows in this potential; null without one",
    ),
    Column("made_by", pa.string(), "", "policy, substitution, or both, where the row stands for candidates of either"),
    *pick(RECOVERED, "donor", "exchange", "score"),
    Column(
        "p_space_group",
        FLOAT,
        "",
        "probability of the space group it was made in, given the formula; null for a substitution",
    ),
    *pick(LOG_PROBS, "log_prob"),
    *pick(SAMPLES, "behaviour_log_prob"),
    Column(
        "draws",
        pa.int64(),
        "",
        "sequences that the policy drew for the candidate; all but the last had overlapping atoms, or were no crystal",
    ),
    Column(
        "stands_for", pa.int64(), "", "candidates of this structure, before relaxation or after, that the row stands for"
    ),
    *pick(NOVELTY, "duplicate_of", "match_id", "match_role", "known_level", "known_partner", "known_exchange"),
    *pick(RELAXED, "energy_initial", "force_max", "stress_max", "evaluations", "converged"),
    NOTE,
    STATUS,
)
