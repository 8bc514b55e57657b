"""Columns of novelty, of evaluated crystals, of a policy's metrics and of ranked candidates."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from crystalformer_rl.tables.chemistry_columns import CHEMISTRY_MEANINGS
from crystalformer_rl.tables.column import FLOAT, Column, pick
from crystalformer_rl.tables.crystal_columns import CRYSTALS, ID, NOTE, SPACE_GROUP, STATUS
from crystalformer_rl.tables.energy_columns import HULL, JUDGED, PROBABILITIES, RELAXED
from crystalformer_rl.tables.property_columns import IN_TRAINING, PREDICTED, SOFT_MODE

KNOWN_COMPOUND = ("structure", "ordering", "formula")
"""Known levels of a compound that is known, if in another structure; what has none of these is new in words."""

NOVELTY = (
    ID,
    Column("novel", pa.bool_(), "", "no structure of the reference's pretraining set matches"),
    Column("rediscovered", pa.bool_(), "", "novel, and matches a held-out entry, which the policy never saw"),
    Column("match_id", pa.string(), "", "the reference entry that matches, if any"),
    Column("match_role", pa.string(), "", "role of that entry: pretraining, recovered or held_out"),
    Column(
        "known_level",
        pa.string(),
        "",
        "structure, ordering, formula, substitution, prototype, chemical_system or none: what the reference knows",
    ),
    Column(
        "known_partner",
        pa.string(),
        "",
        "a reference entry that shows that level, or elemental-X for an element X; of a substitution, the donor",
    ),
    Column("known_exchange", pa.string(), "", "of a substitution, which elements of the donor are replaced by which"),
    Column(
        "known_exchange_likelihood",
        FLOAT,
        "",
        "probability of that exchange by pymatgen's substitution model; null where it cannot say, as of metals alone",
    ),
    Column(
        "known_exchange_matches",
        pa.bool_(),
        "",
        "of a substitution, whether the donor with its elements exchanged is this structure, free coordinates and all",
    ),
    Column("space_group_001", pa.int32(), "", "space group found in this crystal at 0.01 Å"),
    Column("space_group_01", pa.int32(), "", "space group found in this crystal at 0.1 Å"),
    Column("unique", pa.bool_(), "", "of the crystals of one structure in this table, the one with the smallest id"),
    Column("duplicate_of", pa.string(), "", "that row, where this is another of its structure"),
    Column("unique_parent", pa.bool_(), "", "the same as unique where orderings of one disordered parent are one"),
    STATUS,
)


POLICY = Column("policy", pa.string(), "", "name of the policy that made the crystal")


_KNOWN = (
    *pick(NOVELTY, "novel", "rediscovered", "match_id", "match_role", "known_level", "known_partner"),
    *pick(
        NOVELTY, "known_exchange", "known_exchange_likelihood", "known_exchange_matches", "space_group_001", "space_group_01"
    ),
)


_CHANCES = (*pick(HULL, "e_above_hull_expected"), *PROBABILITIES)
_JUDGED = (
    *pick(JUDGED, "judge", "judge_e_above_hull", "judge_e_above_hull_std", "judge_disagreement"),
    *pick(JUDGED, "p_stable_judged", "p_on_hull_judged", "judge_status"),
)


#: One crystal a row with all that the stages say of it.
EVALUATED = (
    ID,
    POLICY,
    *pick(CRYSTALS, "formula"),
    SPACE_GROUP,
    *pick(CRYSTALS, "atomic_numbers", "frac_coords", "lattice"),
    Column("template", pa.string(), "", "space group and letters of all sites, relaxed, the same for all origins and axes"),
    Column("log_prob", FLOAT, "nat", "log-probability under the policy that made it"),
    Column("shortest_distance", FLOAT, "Å", "shortest distance of two atoms before relaxation"),
    Column("charge_balanced", pa.bool_(), "", "known oxidation states can sum to zero, or all elements are metals"),
    Column("valid", pa.bool_(), "", "a readable crystal whose atoms are more than 0.5 Å apart, before relaxation"),
    Column(
        "low_dimensional",
        pa.bool_(),
        "",
        "7 Å of vacuum or more, relaxed where that succeeded: a layer, chain or molecule, which the hull takes for a bulk crystal",
    ),
    *pick(RELAXED, "energy", "energy_initial", "energy_error", "energy_error_applicability", "evaluations", "converged"),
    *pick(HULL, "formation_energy", "e_above_hull", "e_above_hull_std", "below_hull"),
    *_CHANCES,
    *pick(HULL, "p_stable_initial"),
    *pick(HULL, "formation_energy_initial", "e_above_hull_initial"),
    *pick(HULL, "decomposition_formulas", "energy_from", "hull_support"),
    *_JUDGED,
    Column("stable_initial", pa.bool_(), "", "at most the stability threshold above the hull, before relaxation"),
    Column("stable", pa.bool_(), "", "at most the stability threshold above the hull, after relaxation"),
    *PREDICTED,
    SOFT_MODE,
    IN_TRAINING,
    *_KNOWN,
    *pick(NOVELTY, "unique", "duplicate_of", "unique_parent"),
    Column("sun", pa.bool_(), "", "stable after relaxation, unique and novel"),
    Column("sun_new_formula", pa.bool_(), "", "the same, and of a formula that the reference does not know"),
    Column("failed_stage", pa.string(), "", "the stage that failed first: sample, relax, hull or novelty"),
    Column("properties_status", pa.string(), "", "status of the property models, apart: stability does not need them"),
    NOTE,
    STATUS,
)


_SHARES = {
    "valid": "readable crystals whose atoms are more than 0.5 Å apart, before relaxation",
    **CHEMISTRY_MEANINGS,
    "low_dimensional": "layers, chains and molecules with 7 Å of vacuum or more",
    "charge_balanced": "crystals whose known oxidation states can sum to zero, or of metals alone",
    "completed": "crystals that passed relaxation, hull and novelty",
    "converged": "crystals whose relaxation converged",
    "stable_initial": "stable before relaxation",
    "stable": "stable after relaxation",
    "on_hull_initial": "on the hull, to within 1e-6 eV/atom, or below it before relaxation",
    "on_hull": "on the hull, to within 1e-6 eV/atom, or below it after relaxation",
    "far_below_hull": "more than 0.1 eV/atom below the hull after relaxation, where the hull may be incomplete",
    "unique": "different structures among the policy's crystals: of each, one crystal",
    "novel": "no pretraining structure matches",
    "rediscovered": "novel, and matches a held-out entry",
    "sun_initial": "stable before relaxation, unique and novel",
    "sun": "stable after relaxation, unique and novel",
    "sun_new_formula": "the same, and of a formula that the reference does not know",
    "sun_credible": "the same, charge-balanced, and without noble gases and elements that have no stable isotope",
    "crystalformer_rl_sun": "at most 0.1 eV/atom above the hull, unique, no pretraining structure matches",
    "mattergen_sun": "at most 0.1 eV/atom above the hull, unique and not in the reference, orderings of one parent alike",
    "lemat_sun": "valid and charge-balanced, on the hull or below it, unique, no structure of the reference matches",
    "lemat_msun": "the same, above the hull by at most 0.1 eV/atom",
    "chemeleon2_sun": "on the hull or below it as sampled, unique, no structure of the reference matches",
    "chemeleon2_msun": "the same, at most 0.1 eV/atom",
}


def share_columns(name: str, words: str) -> Iterator[Column]:
    """The columns of a share of all crystals sampled: count, fraction, and both ends of its interval."""
    yield Column(f"{name}_count", pa.int64(), "", f"{words}: number of crystals")
    yield Column(f"{name}_fraction", FLOAT, "", f"{words}: fraction of all crystals sampled")
    yield Column(f"{name}_low", FLOAT, "", f"{words}: lower end of the fraction's 95 % interval (Wilson)")
    yield Column(f"{name}_high", FLOAT, "", f"{words}: upper end of the fraction's 95 % interval (Wilson)")


#: One row a policy. Fractions count all rows sampled in the denominator.
METRICS = (
    POLICY,
    Column("n", pa.int64(), "", "crystals sampled: the denominator of every fraction"),
    Column("stability_threshold", FLOAT, "eV/atom", "largest energy above hull that counts as stable"),
    *(column for name, words in _SHARES.items() for column in share_columns(name, words)),
    Column(
        "p_stable_mean",
        FLOAT,
        "",
        "mean of p_stable over all crystals, those without one as 0: the share that DFT is expected to call stable",
    ),
    Column("p_on_hull_mean", FLOAT, "", "the same of p_on_hull"),
    Column(
        "e_above_hull_initial_mean",
        FLOAT,
        "eV/atom",
        "mean energy above hull before relaxation, where known",
    ),
    Column("e_above_hull_initial_median", FLOAT, "eV/atom", "its median"),
    Column("e_above_hull_mean", FLOAT, "eV/atom", "mean energy above hull after relaxation, where known"),
    Column("e_above_hull_median", FLOAT, "eV/atom", "its median"),
    Column("hull_support_q1", FLOAT, "", "lower quartile of the number of competing compositions, hull_support"),
    Column("hull_support_median", FLOAT, "", "its median"),
    Column("hull_support_q3", FLOAT, "", "its upper quartile"),
    Column("stable_band_gap_mean", FLOAT, "eV", "mean predicted band gap of the stable crystals"),
    Column("stable_fom_mean", FLOAT, "eV", "mean predicted figure of merit of the stable crystals"),
    Column("insulators_among_stable", FLOAT, "", "of the stable crystals with predictions, those with a predicted gap"),
    Column("insulator_fom_mean", FLOAT, "eV", "mean predicted figure of merit of these"),
    Column("pareto_front", pa.int64(), "", "distinct ones that no other beats in gap and in electronic dielectric constant"),
    Column(
        "pareto_hypervolume",
        FLOAT,
        "eV",
        "area of gap and electronic dielectric constant, from 0 eV and 1, that some distinct one beats",
    ),
    Column(
        "effective_templates",
        FLOAT,
        "",
        "effective number of Wyckoff templates, exp of the entropy of how often each occurs; it grows with n",
    ),
    Column("effective_formulas", FLOAT, "", "the same of anonymous formulas, such as ABC3"),
    Column("effective_elements", FLOAT, "", "the same of elements, each crystal sharing one vote among those that it holds"),
    Column("evaluations", pa.int64(), "", "evaluations of the potential spent on relaxation"),
    Column("judged_count", pa.int64(), "", "crystals that a second potential judged; null where none was asked"),
    Column("judged_stable_count", pa.int64(), "", "of them, stable by the first potential"),
    Column("confirmed_count", pa.int64(), "", "of these, stable by the second one too"),
    Column("known_levels", pa.string(), "", "crystals by what the reference knows of them, as JSON {level: count}"),
    Column("failures", pa.string(), "", "crystals that failed, as JSON {stage: {status: count}}"),
)


#: What a second potential says of evaluated crystals.
JUDGED_CRYSTALS = (ID, POLICY, *pick(CRYSTALS, "formula"), *JUDGED)


#: Crystals of all policies, each structure once, best first.
CANDIDATES = (
    Column("rank", pa.int64(), "", "place in the ranking, 1 is best"),
    ID,
    POLICY,
    Column(
        "left_out",
        pa.string(),
        "",
        "why it is not among the best: an element or a condition of the ranking; null where it is",
    ),
    Column("found_by", pa.list_(pa.string()), "", "policies among whose crystals this structure is"),
    Column("found_count", pa.int64(), "", "crystals of all policies that are this structure"),
    *pick(CRYSTALS, "formula"),
    SPACE_GROUP,
    Column(
        "verdict",
        pa.string(),
        "",
        "retrieved (from the pretraining set), rediscovered (from the held-out set), known_formula or new",
    ),
    *pick(HULL, "e_above_hull", "e_above_hull_std", "below_hull", "e_above_hull_initial", "formation_energy"),
    *_CHANCES,
    *_JUDGED,
    *pick(RELAXED, "energy_error", "energy_error_applicability"),
    *pick(HULL, "decomposition_formulas", "energy_from", "hull_support"),
    *pick(EVALUATED, "stable", "charge_balanced", "low_dimensional"),
    Column("reward", FLOAT, "", "what it earns at rest by the run's reward; null where the ranking is not by reward"),
    *PREDICTED,
    SOFT_MODE,
    IN_TRAINING,
    *_KNOWN,
    *pick(RELAXED, "converged"),
    *pick(CRYSTALS, "atomic_numbers", "frac_coords", "lattice"),
    Column("cif", pa.string(), "", "the relaxed crystal as the text of a CIF file"),
)
