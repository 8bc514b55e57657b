"""Rows of a reference for compositions that only density-functional theory knows: a formula and a formation energy."""

from __future__ import annotations

import math

import pyarrow as pa

from crystalformer_rl.crystal.chemical_system import chemical_systems
from crystalformer_rl.crystal.elements import parse_formula, reduced_formula
from crystalformer_rl.errors import InputError
from crystalformer_rl.reference.competing import EnergyFrom
from crystalformer_rl.tables.column import Column, make_table, pick
from crystalformer_rl.tables.energy_columns import REFERENCE
from crystalformer_rl.tables.role import Role
from crystalformer_rl.tables.status import OK

COLUMNS: tuple[Column, ...] = pick(REFERENCE, "formula", "dft_formation_energy")
"""What a table of DFT energies must have: a formula, and a formation energy (eV/atom) on the scale of the reference."""

_DIGITS = 3  # of eV/atom; what maps one scale on another is no more exact


def dft_rows(table: pa.Table, source: str, where: str = "the table of DFT energies") -> pa.Table:
    """REFERENCE rows of role hull_only, one a reduced composition, by rising formula: the lowest energy of each.

    table: with `COLUMNS`; source: the collection, for the column of that name; where: names the table in errors. Elements are left
    out, since formation energies count from them. The ids are `dft-CaF2`. Raises InputError for a formula that cannot be read
    or an energy that is none.
    """
    lowest: dict[str, float] = {}
    pairs = zip(table.column("formula").to_pylist(), table.column("dft_formation_energy").to_pylist(), strict=True)
    for k, (given, energy) in enumerate(pairs):
        if given is None or energy is None or not math.isfinite(energy):
            raise InputError(f"{where}, row {k}: formula or dft_formation_energy is missing; leave the row out.")
        try:
            counts = parse_formula(given)
        except InputError as error:
            raise InputError(f"{where}, row {k}: {error}") from error
        if len(counts) > 1:
            formula = reduced_formula([z for z, n in counts.items() for _ in range(n)])
            lowest[formula] = min(energy, lowest.get(formula, math.inf))
    formulas = sorted(lowest)
    n = len(formulas)
    data = {
        "id": [f"dft-{formula}" for formula in formulas],
        "formula": formulas,
        "chemical_system": chemical_systems(pa.array(formulas, pa.string())),
        "role": [Role.HULL_ONLY] * n,
        "source": [source] * n,
        "dft_formation_energy": [round(lowest[formula], _DIGITS) for formula in formulas],
        "energy_from": [EnergyFrom.DFT.value] * n,
        "status": [OK.value] * n,
    }
    return make_table(REFERENCE, data)
