"""Columns of relaxed crystals, of their distances to the hull, and of a reference."""

from __future__ import annotations

import pyarrow as pa

from crystalformer_rl.tables.column import FLOAT, Column
from crystalformer_rl.tables.crystal_columns import CRYSTALS_AND_TOKENS, ID, STATUS
from crystalformer_rl.tables.role import Role

#: The crystal is the primitive cell, the tokens are those of the relaxed crystal.
RELAXED = (
    *CRYSTALS_AND_TOKENS,
    Column("energy", FLOAT, "eV/atom", "total energy of the potential after relaxation"),
    Column("energy_initial", FLOAT, "eV/atom", "total energy of the potential before relaxation"),
    Column("energy_error", FLOAT, "eV/atom", "what DFT is expected to add to that energy, as far as was learned; else null"),
    Column("energy_error_applicability", FLOAT, "", "distance from the crystals it was learned from; above 1 extrapolated"),
    Column("force_max", FLOAT, "eV/Å", "largest force on an atom at the end"),
    Column("stress_max", FLOAT, "GPa", "largest component of the stress at the end"),
    Column("evaluations", pa.int64(), "", "evaluations of the potential"),
    Column("converged", pa.bool_(), "", "forces and stresses both below their limits"),
    Column("energy_kept", FLOAT, "eV/atom", "total energy with the first space group kept; null without a free relaxation"),
    Column("space_group_kept", pa.int64(), "", "that space group; null without a free relaxation"),
    STATUS,
)


PROBABILITIES = (
    Column("p_stable", FLOAT, "", "probability that DFT puts it at or below the stability threshold, after relaxation"),
    Column("p_on_hull", FLOAT, "", "probability that DFT puts it at or below 0 eV/atom above the hull"),
)


HULL = (
    ID,
    Column("formula", pa.string(), "", "reduced formula"),
    Column("formation_energy", FLOAT, "eV/atom", "formation energy from the elemental references, after relaxation"),
    Column("e_above_hull", FLOAT, "eV/atom", "energy above the convex hull of the reference, after relaxation"),
    Column(
        "e_above_hull_std",
        FLOAT,
        "eV/atom",
        "standard deviation of that against density-functional theory; null where the potential's bias is not known",
    ),
    Column("below_hull", FLOAT, "eV/atom", "how far below the hull, after relaxation; 0 on it and above"),
    Column(
        "e_above_hull_expected",
        FLOAT,
        "eV/atom",
        "energy above the hull of DFT's energies with the error added that is expected of the potential; null where none was learned",
    ),
    *PROBABILITIES,
    Column(
        "p_stable_initial",
        FLOAT,
        "",
        "the same as p_stable, from the figures before relaxation alone; null where none was learned",
    ),
    Column("formation_energy_initial", FLOAT, "eV/atom", "formation energy before relaxation"),
    Column("e_above_hull_initial", FLOAT, "eV/atom", "energy above hull before relaxation"),
    Column("decomposition", pa.string(), "", "competing phases with their atom fractions, as JSON {reference id: fraction}"),
    Column("decomposition_formulas", pa.string(), "", "the same, readable: 0.50 NaCl + 0.50 KBr"),
    Column(
        "energy_from",
        pa.string(),
        "",
        "where the competing phases' energies come from, as JSON {reference id: relaxed, single_point, dft or given}",
    ),
    Column(
        "hull_support",
        pa.int64(),
        "",
        "compositions of two or more elements that the reference knows in the chemical system",
    ),
    STATUS,
)


#: What a second potential says of crystals that another one relaxed, and what both say together.
JUDGED = (
    Column("judge", pa.string(), "", "the potential that judges"),
    Column("judge_formation_energy", FLOAT, "eV/atom", "formation energy of the judge, relaxed by it"),
    Column("judge_e_above_hull", FLOAT, "eV/atom", "energy above the hull by the judge, relaxed by it"),
    Column(
        "judge_e_above_hull_std",
        FLOAT,
        "eV/atom",
        "standard deviation of that against DFT; null where its bias is not known",
    ),
    Column("judge_e_above_hull_initial", FLOAT, "eV/atom", "energy above the hull by the judge, as sampled"),
    Column("judge_evaluations", pa.int64(), "", "evaluations of the judge"),
    Column("judge_converged", pa.bool_(), "", "at rest in the judge, too"),
    Column(
        "judge_disagreement",
        FLOAT,
        "eV/atom",
        "the judge's energy above the hull less that of the potential that relaxed it",
    ),
    Column(
        "p_stable_judged", FLOAT, "", "probability that DFT puts it at or below the stability threshold, by both potentials"
    ),
    Column(
        "p_on_hull_judged",
        FLOAT,
        "",
        "probability that DFT puts it at or below 0 eV/atom above the hull, by both potentials",
    ),
    Column("judge_status", pa.string(), "", "ok, or the named reason why the judge has no result"),
)


REFERENCE = (
    *CRYSTALS_AND_TOKENS,
    Column("role", pa.string(), "", "; ".join(f"{role}: {role.meaning}" for role in Role)),
    Column("source", pa.string(), "", "the collection the entry comes from"),
    Column("chemical_system", pa.string(), "", "symbols of its elements in alphabetical order: Ca-F"),
    Column("n_atoms", pa.int64(), "", "atoms in the primitive cell"),
    Column("energy", FLOAT, "eV/atom", "total energy of the named potential; null where only DFT's is known"),
    Column("formation_energy", FLOAT, "eV/atom", "formation energy from the elemental references"),
    Column(
        "energy_from",
        pa.string(),
        "",
        "where the energy comes from: relaxed or single_point (the potential's), dft (dft_formation_energy alone) or given",
    ),
    Column("force_max", FLOAT, "eV/Å", "largest force that relaxation left"),
    Column("stress_max", FLOAT, "GPa", "largest stress component that relaxation left"),
    Column("evaluations", pa.int64(), "", "evaluations of the potential spent on the entry"),
    Column("dft_formation_energy", FLOAT, "eV/atom", "formation energy of DFT on the reference's scale, where known"),
    Column("dft_e_above_hull", FLOAT, "eV/atom", "PBE(+U) energy above hull where known"),
    Column("dft_band_gap", FLOAT, "eV", "PBE band gap where known"),
    STATUS,
)
