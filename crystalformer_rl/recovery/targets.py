"""Which compositions structures are looked for, and what is known of their energy."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from crystalformer_rl.crystal.elements import parse_formula, reduced_formula
from crystalformer_rl.crystal.split import held_out
from crystalformer_rl.errors import InputError
from crystalformer_rl.hull.convex_hull import Hull, NoReferenceEnergyError
from crystalformer_rl.recovery.attempt import Target
from crystalformer_rl.reference.energies import ReferenceEnergies
from crystalformer_rl.tables.status import OK, Status


@dataclass(frozen=True)
class Wanted:
    """A composition that was asked for: its target and height above the hull (eV/atom), or the status that says why there is none."""

    formula: str
    status: str
    target: Target | None = None
    height: float | None = None
    note: str | None = None


def wanted(compositions: pa.Table, energies: ReferenceEnergies, known: Collection[str], source: str) -> list[Wanted]:
    """What each row of a table of compositions asks for, in order; a formula that comes again asks once.

    compositions: with `formula`, and where they are known `dft_formation_energy` (eV/atom, on the reference's scale), `n_entries` and
    `reserved`. Energies that are missing are the reference's. known: reduced formulas with a structure. Raises InputError where there
    is no column of formulas, and for a reference without a bias.
    """
    if "formula" not in compositions.column_names:
        raise InputError(f"{source} has no column 'formula'; it has {', '.join(compositions.column_names)}.")
    if energies.bias is None:
        raise InputError("the reference has no bias of its potential, so no DFT energy says what the potential's should be.")
    hull = Hull.of(energies)
    names = [
        name for name in ("formula", "dft_formation_energy", "n_entries", "reserved") if name in compositions.column_names
    ]
    found: dict[str, Wanted] = {}
    for row in compositions.select(names).to_pylist():
        one = _wanted(row, hull, energies, known)
        # reserved once is reserved, whatever other rows of the formula say
        if one.formula not in found or one.status == Status.HELD_OUT:
            found[one.formula] = one
    return list(found.values())


def _wanted(row: dict[str, Any], hull: Hull, energies: ReferenceEnergies, known: Collection[str]) -> Wanted:
    given = str(row["formula"])
    try:
        counts = reduced(given)
    except InputError as error:
        return Wanted(given, Status.UNREADABLE, note=str(error))
    formula = reduced_formula([z for z, n in counts.items() for _ in range(n)])
    if row.get("reserved") or held_out(formula):
        return Wanted(formula, Status.HELD_OUT)
    if formula in known or len(counts) == 1:
        note = "the structures of the elements are known" if formula not in known else None
        return Wanted(formula, Status.KNOWN_STRUCTURE, note=note)
    if hull.missing_elements(counts):
        return Wanted(formula, Status.NO_REFERENCE_ENERGY)
    dft = row.get("dft_formation_energy")
    if dft is None:
        dft = lowest_dft(energies, counts)
    if dft is None:
        return Wanted(formula, Status.NO_ENERGY, note="neither the table nor the reference knows its DFT energy")
    assert energies.bias is not None
    expected = dft + energies.bias.of(counts)
    try:
        numbers = [z for z, n in counts.items() for _ in range(n)]
        height = max(hull.distance(numbers, expected).e_above_hull, 0.0)
    except NoReferenceEnergyError:
        return Wanted(formula, Status.NO_REFERENCE_ENERGY)
    return Wanted(formula, OK, Target(formula, counts, dft, expected, row.get("n_entries")), height)


def reduced(formula: str) -> dict[int, int]:
    """A formula as {atomic number: atoms} of its reduced unit. Raises InputError for what is none."""
    counts = parse_formula(formula)
    divisor = math.gcd(*counts.values())
    return {z: n // divisor for z, n in counts.items()}


def lowest_dft(energies: ReferenceEnergies, counts: dict[int, int]) -> float | None:
    """The lowest DFT formation energy (eV/atom) that a reference knows of a composition."""
    total = sum(counts.values())
    shares = {z: n / total for z, n in counts.items()}
    found = []
    for phase in energies.phases.of(counts):
        size = sum(phase.composition.values())
        same = all(abs(phase.composition.get(z, 0) / size - x) < 1e-9 for z, x in shares.items())
        if same and phase.dft_energy == phase.dft_energy:
            found.append(phase.dft_energy)
    return min(found, default=None)
