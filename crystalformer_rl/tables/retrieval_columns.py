"""Columns of what says whether good crystals were retrieved or discovered."""

from __future__ import annotations

import pyarrow as pa

from crystalformer_rl.tables.column import FLOAT, Column

RETRIEVAL = (
    Column("policy", pa.string(), "", "arm and seed, or tuned"),
    Column("arm", pa.string(), "", "way of spending the evaluations"),
    Column("seed", pa.int64(), "", "seed of the run; null where it is that of the configuration"),
    Column("round", pa.int64(), "", "last round whose crystals count"),
    Column("k", pa.int64(), "", "best by reward that are taken, each kind once; null: all kinds that were scored"),
    Column("scored", pa.int64(), "", "crystals scored up to the end of the round"),
    Column("evaluations", pa.int64(), "", "evaluations of the potential up to then"),
    Column("n", pa.int64(), "", "kinds taken; fewer than k where fewer were scored"),
    Column(
        "targets",
        pa.int64(),
        "",
        "kinds to retrieve: the best of the pretraining entries by a scorer that rewarded nobody; null without one",
    ),
    Column("found", pa.int64(), "", "of these, among the kinds taken"),
    Column("recall", FLOAT, "", "found of the targets"),
    Column("precision", FLOAT, "", "found of the kinds taken"),
    Column("enrichment", FLOAT, "", "precision as a multiple of the base policy's at the same k after as many rounds"),
    Column("evaluations_per_target", FLOAT, "", "evaluations up to then for each target found; null where none is"),
    Column("known_structure_fraction", FLOAT, "", "of the kinds taken: the pretraining set has the kind"),
    Column("known_formula_fraction", FLOAT, "", "the pretraining set has the formula in other kinds alone"),
    Column("new_formula_fraction", FLOAT, "", "the pretraining set has not the formula"),
    Column("stable_fraction", FLOAT, "", "of the kinds taken: at most the stability threshold above the hull as scored"),
)
"""One row for each policy, round and number taken. Equal kinds share composition, space group and Wyckoff letters."""
