"""Columns of what fine-tuning leaves: every crystal sampled, and one row an update."""

from __future__ import annotations

import pyarrow as pa

from crystalformer_rl.tables.chemistry_columns import CHEMISTRY_MEANINGS
from crystalformer_rl.tables.column import FLOAT, Column, pick
from crystalformer_rl.tables.crystal_columns import SAMPLES, STATUS
from crystalformer_rl.tables.figure_columns import FIGURES

ALWAYS = ("energy", "formation_energy", "e_above_hull")
"""Figures that every crystal of fine-tuning has, whatever its reward looks at."""

ROLLOUTS = (
    *(column for column in SAMPLES if column.name != "status"),
    Column("round", pa.int64(), "", "round of fine-tuning"),
    Column("update", pa.int64(), "", "update within the whole run, from 1"),
    Column(
        "base_log_prob",
        FLOAT,
        "nat",
        "log-probability under the base policy with the masks and temperature of this run, coordinates and lattice at the spread that is "
        "learned from",
    ),
    *pick(FIGURES, *ALWAYS),
    Column("known", pa.bool_(), "", "the pretraining set has a crystal of this formula, space group and Wyckoff letters"),
    Column(
        "repeats",
        pa.int64(),
        "",
        "earlier crystals of this formula, space group and Wyckoff letters: in the batch, and among the last "
        "`repeats_memory` before it",
    ),
    Column("reward", FLOAT, "", "reward in its own unit, failures at their penalty"),
    Column("value", FLOAT, "", "reward less the KL term (ppo, rloo) and the penalty on repeats, with the entropy bonus"),
    Column("advantage", FLOAT, "", "value less the baseline; of grpo in units of its standard deviation in the batch"),
    STATUS,
)
"""Columns of every table of rollouts; those of the reward's own figures and terms come besides."""

UPDATES = (
    Column("round", pa.int64(), "", "round of fine-tuning"),
    Column("update", pa.int64(), "", "update within the whole run, from 1"),
    Column("reward_mean", FLOAT, "", "mean reward of the batch"),
    Column("reward_std", FLOAT, "", "standard deviation of the rewards"),
    Column(
        "stable_fraction",
        FLOAT,
        "",
        "crystals at most the stability threshold above the hull as they are judged, of all sampled",
    ),
    Column("sun_fraction", FLOAT, "", "such crystals, the first of their kind in the batch and not known, of all sampled"),
    Column(
        "kl",
        FLOAT,
        "nat",
        "KL divergence from the base policy of what is learned (letters and elements, or everything), mean of ln p − ln p_base over the batch",
    ),
    Column("kl_standard_error", FLOAT, "nat", "standard error of that mean"),
    Column("kl_k3", FLOAT, "nat", "the same divergence by the low-variance estimator k3, p_base/p − 1 + ln p − ln p_base"),
    Column("kl_k3_standard_error", FLOAT, "nat", "standard error of that mean"),
    Column(
        "kl_needed",
        FLOAT,
        "nat",
        "least KL divergence that gives the batch's stable fraction, from that of the first update, space groups as frequent as before",
    ),
    Column("kl_letters", FLOAT, "nat", "KL divergence of the Wyckoff letters"),
    Column("kl_elements", FLOAT, "nat", "KL divergence of the elements"),
    Column("tau", FLOAT, "", "weight of the KL term, in units of the reward a nat"),
    Column("entropy", FLOAT, "nat", "mean of −ln p over the batch"),
    Column("unique_fraction", FLOAT, "", "different sets of composition, space group and Wyckoff letters, of all sampled"),
    Column("known_fraction", FLOAT, "", "crystals of a kind that the pretraining set has, of all sampled"),
    Column("failed_fraction", FLOAT, "", "crystals that earned the penalty, of all sampled"),
    Column("evaluations", pa.int64(), "", "evaluations of the potential"),
    Column("baseline", FLOAT, "", "mean of the baseline after the update, over all space groups"),
    Column("loss", FLOAT, "", "the objective in the last pass"),
    Column("clip_fraction", FLOAT, "", "crystals that the clip kept from giving a gradient in the last pass"),
    Column("gradient_norm", FLOAT, "", "norm of the gradient in the last pass, before clipping"),
    Column(
        "effective_templates",
        FLOAT,
        "",
        "exponential of the entropy of space groups with their Wyckoff letters in the batch",
    ),
    Column("effective_formulas", FLOAT, "", "the same of anonymous formulas, such as ABX3"),
    Column("effective_elements", FLOAT, "", "the same of elements, each crystal with one vote"),
    *(Column(f"{name}_fraction", FLOAT, "", f"among the batch's: {what}") for name, what in CHEMISTRY_MEANINGS.items()),
)
"""One row an update; the first is of crystals that the base policy drew, at the run's density temperature. Means of the reward's terms come besides."""
