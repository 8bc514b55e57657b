"""A reference of a potential's energies, completed by the compositions that only density-functional theory knows."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from crystalformer_rl.crystal.elements import parse_formula
from crystalformer_rl.reference.bias import LEAST_ENTRIES, Bias, fit_bias, with_growth
from crystalformer_rl.reference.competing import EnergyFrom
from crystalformer_rl.tables.energy_columns import REFERENCE
from crystalformer_rl.tables.status import OK

NEAR_HULL = 0.1
"""eV/atom above the DFT hull; entries further away are not what a hull is made of, and potentials know them less."""


def completed(table: pa.Table, dft: pa.Table | None, scale: str) -> tuple[pa.Table, Bias | None]:
    """`table` with the rows of `dft` (of `dft_rows`) after its own, and the bias measured on its relaxed entries.

    table: REFERENCE rows of a potential, whose `dft_formation_energy` are on `scale` as those of `dft` are. The bias is None
    where fewer than `bias.LEAST_ENTRIES` relaxed entries at most `NEAR_HULL` above the DFT hull have both energies; then
    no DFT energy can compete, and no row of `dft` is added.
    """
    bias = measured(table, scale)
    if bias is None or dft is None:
        return table, bias
    names = [column.name for column in REFERENCE]
    return pa.concat_tables([table.select(names).replace_schema_metadata(None), dft.replace_schema_metadata(None)]), bias


def measured(table: pa.Table, scale: str) -> Bias | None:
    """The bias of the table's potential, by its entries that were relaxed and that DFT puts near its hull; how its standard
    deviation grows with the height, by those that DFT puts higher.
    """
    names = ("formula", "energy_from", "formation_energy", "dft_formation_energy", "dft_e_above_hull", "status")
    found = []
    for formula, origin, own, dft, above, status in zip(*(table.column(name).to_pylist() for name in names), strict=True):
        if None not in (formula, own, dft, above) and status == OK and origin == EnergyFrom.RELAXED:
            found.append((parse_formula(formula), own - dft, above))
    near = [row for row in found if row[2] <= NEAR_HULL]
    far = [row for row in found if row[2] > NEAR_HULL]
    if len(near) < LEAST_ENTRIES:
        return None
    bias = fit_bias(scale, [counts for counts, _, _ in near], np.array([difference for _, difference, _ in near]))
    differences, heights = (np.array([row[k] for row in far], float) for k in (1, 2))
    return with_growth(bias, [counts for counts, _, _ in far], differences, heights)
