"""Distances to the hull for a table of relaxed crystals."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from crystalformer_rl.crystal.elements import SYMBOLS, reduced_formula
from crystalformer_rl.hull.chances import Chances
from crystalformer_rl.hull.convex_hull import Hull, HullDistance
from crystalformer_rl.hull.stability import below_hull
from crystalformer_rl.reference.formation_energy import is_plausible
from crystalformer_rl.tables.column import table_of_rows
from crystalformer_rl.tables.energy_columns import HULL
from crystalformer_rl.tables.status import OK, Status


def hull_table(
    hull: Hull, relaxed: pa.Table, advance: Callable[[int], Any] | None = None, chances: Chances | None = None
) -> pa.Table:
    """A HULL table, row for row, from a table of crystals with energies; chances: what makes probabilities of the distances.

    `relaxed` has the columns id, atomic_numbers, energy (eV/atom) and perhaps energy_initial and status.
    A row whose status is not ok keeps it and gets null figures, those before relaxation aside where
    `energy_initial` is known; a row of status ok without a finite energy becomes `potential_failed`, one with an element that the
    reference has no energy for `no_reference_energy`, one whose formation energy no compound has `implausible_energy`.
    """
    columns = {name: _column(relaxed, name) for name in ("id", "atomic_numbers", "energy", "energy_initial", "status")}
    rows = []
    for name, numbers, energy, initial, status in zip(*columns.values(), strict=True):
        rows.append({"id": name, "formula": _formula(numbers)} | _row(hull, numbers, energy, initial, status))
        if advance is not None:
            advance(1)
    table = table_of_rows(HULL, rows)
    for name, values in (chances or Chances()).columns(table, relaxed).items():
        place = table.column_names.index(name)
        table = table.set_column(place, table.schema.field(place), values)
    return table


def row_status(hull: Hull, numbers: Sequence[int] | np.ndarray | None, energy: float | None, status: str | None) -> str:
    """The status of a hull row: the one it came with, or why there is no distance to the hull, or ok."""
    if status not in (OK, None):
        return str(status)
    if numbers is None or len(numbers) == 0:
        return Status.EMPTY_CRYSTAL
    if energy is None or not math.isfinite(energy):
        return Status.POTENTIAL_FAILED
    if not _elements_known(numbers):
        return Status.UNKNOWN_ELEMENT
    return Status.NO_REFERENCE_ENERGY if hull.missing_elements(numbers) else OK


def _row(
    hull: Hull, numbers: list[int] | None, energy: float | None, initial: float | None, status: str | None
) -> dict[str, Any]:
    """The figures of one crystal: after relaxation where that succeeded, before it wherever its energy was known."""
    row: dict[str, Any] = {"status": row_status(hull, numbers, energy, status)}
    known = energy if row["status"] == OK else initial
    if row_status(hull, numbers, known, OK) != OK or numbers is None or known is None:
        return row
    # The composition is the same before and after, and so is the hull below it.
    formation = hull.formation_energy(numbers, known)
    if row["status"] == OK and not is_plausible(formation):
        return {"status": Status.IMPLAUSIBLE_ENERGY}
    distance = hull.distance(numbers, formation)
    if row["status"] == OK:
        row |= {
            "formation_energy": formation,
            "e_above_hull": distance.e_above_hull,
            "e_above_hull_std": distance.std if math.isfinite(distance.std) else None,
            "below_hull": below_hull(distance.e_above_hull),
            "decomposition": json.dumps(distance.decomposition),
            "decomposition_formulas": decomposition_formulas(hull, distance),
            "energy_from": json.dumps(distance.energy_from),
            "hull_support": distance.support,
        }
    if initial is not None and math.isfinite(initial):
        row["formation_energy_initial"] = hull.formation_energy(numbers, initial)
        row["e_above_hull_initial"] = distance.e_above_hull + row["formation_energy_initial"] - formation
    return row


def _elements_known(numbers: Sequence[int | None] | np.ndarray) -> bool:
    return all(z is not None and 1 <= z <= len(SYMBOLS) for z in numbers)


def _formula(numbers: list[int] | None) -> str | None:
    return reduced_formula(numbers) if numbers and _elements_known(numbers) else None


def decomposition_formulas(hull: Hull, distance: HullDistance) -> str:
    """The competing phases in words: `0.50 NaCl + 0.50 KBr`."""
    return " + ".join(f"{fraction:.2f} {hull.formula(name)}" for name, fraction in distance.decomposition.items())


def _column(table: pa.Table, name: str) -> list[Any]:
    return table.column(name).to_pylist() if name in table.column_names else [None] * table.num_rows
