"""Columns of structures that were recovered from energies."""

from __future__ import annotations

import pyarrow as pa

from crystalformer_rl.tables.column import FLOAT, Column
from crystalformer_rl.tables.crystal_columns import CRYSTALS_AND_TOKENS, NOTE, STATUS, WEIGHT
from crystalformer_rl.tables.energy_columns import REFERENCE

#: One composition a row: the structure that is accepted, or the best and why it is not.
RECOVERED = (
    *CRYSTALS_AND_TOKENS,
    *(column for column in REFERENCE if column.name in ("energy", "formation_energy", "force_max", "stress_max")),
    Column(
        "dft_formation_energy", FLOAT, "eV/atom", "lowest formation energy of the composition, by density-functional theory"
    ),
    Column("expected_formation_energy", FLOAT, "eV/atom", "the same in the potential, by its bias"),
    Column("dft_e_above_hull", FLOAT, "eV/atom", "how far the composition lies above the hull; 0 on it"),
    Column("n_entries", pa.int64(), "", "phases of the composition that are known, where that is said"),
    Column("residual", FLOAT, "eV/atom", "formation energy of the structure less that expected"),
    Column(
        "second_residual",
        FLOAT,
        "eV/atom",
        "the same in the second potential, at the geometry of the first; null without one",
    ),
    Column(
        "above_lowest", FLOAT, "eV/atom", "how far it lies above the lowest structure that was relaxed; 0 where it is that"
    ),
    Column("donor", pa.string(), "", "the known crystal whose elements were exchanged"),
    Column("exchange", pa.string(), "", "which elements of the donor were replaced by which"),
    Column("score", FLOAT, "nat", "likeness of the exchanged elements, and a little for common prototypes"),
    Column("score_rank", pa.int64(), "", "place of the structure among the candidates by score, 0 is best"),
    Column("candidates", pa.int64(), "", "prototypes whose energy was computed once"),
    Column("relaxed", pa.int64(), "", "of them relaxed"),
    Column("evaluations", pa.int64(), "", "evaluations of the potential"),
    Column("p_right", FLOAT, "", "probability that the structure is the composition's ground state"),
    WEIGHT,
    NOTE,
    STATUS,
)
