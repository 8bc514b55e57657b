"""A reference of DFT energies as others computed them: energies for the hull, on one functional, with known corrections."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pyarrow as pa

from crystalformer_rl.crystal.elements import SYMBOLS
from crystalformer_rl.errors import InputError
from crystalformer_rl.reading.entries import MP2020 as MP2020_NAME
from crystalformer_rl.reading.entries import DftEntry
from crystalformer_rl.reference.corrections import MP2020, NoCorrectionError
from crystalformer_rl.reference.formation_energy import (
    LARGEST_FORMATION_ENERGY,
    by_number,
    formation_energy,
    is_plausible,
    lowest_elemental_energies,
)
from crystalformer_rl.reference.identity import Corrections, Functional
from crystalformer_rl.reference.scale import dft_identity
from crystalformer_rl.tables.column import make_table
from crystalformer_rl.tables.energy_columns import REFERENCE
from crystalformer_rl.tables.role import Role
from crystalformer_rl.tables.status import OK, Status

Treatment = Literal["mp2020", "none", "as-given"]
"""What becomes of the entries' corrections: MP2020 computed afresh, none, or what the entries carry."""

_SEVERAL = 3  # implausible compounds of an element; fewer may be typing errors of their own
_DIGITS = 8  # of eV/atom; a hull of given energies is as exact as they are
_RUN_TYPES = {
    **dict.fromkeys(("GGA", "PBE", "PE"), "PBE"),
    **dict.fromkeys(("PBESOL", "PS", "GGA_PBESOL"), "PBEsol"),
    "SCAN": "SCAN",
    "R2SCAN": "r2SCAN",
}


class SeveralFunctionalsError(InputError):
    """Entries of several functionals, of which one must be chosen."""


@dataclass
class _Row:
    """What is kept of an entry: little, for there may be several 100,000."""

    id: str
    status: str
    formula: str | None
    counts: Mapping[int, int] | None
    energy: float | None = None
    labels: Mapping[str, float] = field(default_factory=dict)


@dataclass
class _Counts:
    """How the entries came by their corrections."""

    functionals: dict[str, int] = field(default_factory=dict)
    without_run_type: int = 0
    by_structure: int = 0
    by_composition: int = 0
    carry_mp2020: int = 0
    carry_others: int = 0
    bare_oxides: int = 0


def given_reference(
    entries: Iterable[DftEntry],
    *,
    digest: str,
    source: str,
    corrections: Treatment = "mp2020",
    functional: str | None = None,
    elemental_energies: Mapping[str, float] | None = None,
) -> tuple[pa.Table, dict[str, Any]]:
    """A REFERENCE table of DFT energies, and what its provenance must say.

    entries: of `read_entries`, read once. digest: SHA-256 of what they were read from; source: its name in messages and
    in the column `source`. corrections: `mp2020` computes them afresh from the uncorrected energies, `none` takes
    these, `as-given` what the entries carry. functional: one of `identity.FUNCTIONALS`; None takes the one that the
    entries' run types name, PBE where they name none. elemental_energies: {symbol: eV/atom} on the same
    scale, by default the lowest elemental entries.

    Every entry keeps its row, role `hull_only`. One of another functional, or with other Hubbard U than the Materials
    Project's input set, is `other_functional`; one that the scheme does not cover `no_correction`; one with an
    element that has no elemental energy `no_reference_energy`; one whose formation energy no compound has
    `implausible_energy`, which keeps it off every hull. Raises InputError where entries
    of several functionals come without a choice (SeveralFunctionalsError), where MP2020 is asked for another functional
    than PBE, where no elemental energy is known, and where elements and compounds are not on one scale.
    """
    _check_scheme(source, corrections, functional)
    counted = _Counts()
    rows = list(_rows(entries, source, corrections, functional, counted))
    functional = functional or next(iter(counted.functionals), "PBE")
    elemental = dict(elemental_energies or lowest_elemental_energies((row.counts, row.energy) for row in rows))
    if not elemental:
        raise InputError(
            f"{source} holds no usable elemental entries, from which formation energies could count; give "
            "elemental energies."
        )
    name = _name(corrections, counted)
    formation = _formation_energies(rows, elemental)
    if name is not Corrections.AS_GIVEN:  # which no potential is compared with
        _check_one_scale(source, rows, formation)
    table = _table(rows, formation, source)
    record = {
        "potential": dft_identity(digest, Functional.of(functional), name).as_record(),
        "elemental_energies": dict(sorted(elemental.items())),
        "energies": {"hull_only": _statement(source, corrections, functional, counted, elemental_energies is None)},
    }
    return table, record


def run_functional(run_type: str | None) -> str | None:
    """`PBE` of the run types GGA and GGA+U, `r2SCAN` of R2SCAN, and so on; an unknown one stands for itself."""
    if run_type is None:
        return None
    base = run_type.split("+", 1)[0].strip()
    return _RUN_TYPES.get(base.upper().replace("²", "2"), base)


def _rows(
    entries: Iterable[DftEntry], source: str, corrections: Treatment, functional: str | None, counted: _Counts
) -> Iterator[_Row]:
    scheme = MP2020()
    for entry in entries:
        row = _Row(entry.id, entry.status, entry.formula, entry.counts, labels=entry.labels)
        if entry.status == OK and entry.counts is not None and entry.energy is not None:
            _count_functional(entry, source, corrections, functional, counted)
            row.status = _run_status(entry, scheme, corrections, functional)
            if row.status == OK:
                row.status, row.energy = _energy(entry, scheme, corrections, counted)
        yield row


def _check_scheme(source: str, corrections: Treatment, functional: str | None) -> None:
    if corrections == "mp2020" and functional not in (None, "PBE"):
        raise InputError(
            f"{source}: MP2020 corrections are made for PBE and PBE+U, not for {functional} energies; take "
            "them without corrections, or as given."
        )


def _count_functional(entry: DftEntry, source: str, corrections: Treatment, chosen: str | None, counted: _Counts) -> None:
    """Note the entry's functional; raise InputError as soon as no single one can hold, which is early in a long file."""
    found = run_functional(entry.run_type)
    if found is None:
        counted.without_run_type += 1
        return
    counted.functionals[found] = counted.functionals.get(found, 0) + 1
    if chosen is not None:
        return
    if len(counted.functionals) > 1:
        raise SeveralFunctionalsError(
            f"{source}, entry '{entry.id}': energies of {' and '.join(sorted(counted.functionals))} do not make one hull; "
            "choose the functional to take."
        )
    _check_scheme(source, corrections, found)


def _run_status(entry: DftEntry, scheme: MP2020, corrections: Treatment, chosen: str | None) -> str:
    found = run_functional(entry.run_type)
    if chosen is not None and found not in (None, chosen):
        return Status.OTHER_FUNCTIONAL
    if corrections == "as-given" or (found or chosen or "PBE") != "PBE" or _u_inferred(entry):
        return OK
    # GGA and GGA+U energies of one compound are an eV apart: a hull of both would be of neither
    assert entry.counts is not None
    return OK if dict(entry.hubbards or {}) == scheme.hubbards(entry.counts) else Status.OTHER_FUNCTIONAL


def _u_inferred(entry: DftEntry) -> bool:
    """Whether Hubbard U is left open: neither values nor a run type, or a run type with U but no values."""
    return not entry.hubbards and (entry.run_type is None or entry.run_type.upper().endswith("+U"))


def _energy(entry: DftEntry, scheme: MP2020, corrections: Treatment, counted: _Counts) -> tuple[str, float | None]:
    assert entry.counts is not None
    assert entry.energy is not None
    if corrections == "none":
        return OK, round(entry.energy, _DIGITS)
    if corrections == "as-given":
        _count_carried(entry, counted)
        return OK, round(entry.energy + (entry.correction or 0.0), _DIGITS)
    hubbards = None if _u_inferred(entry) else entry.hubbards or {}
    try:
        value = scheme.correction(entry.counts, entry.crystal, hubbards=hubbards, hints=entry.hints)
    except NoCorrectionError:
        return Status.NO_CORRECTION, None
    if entry.crystal is None:
        counted.by_composition += 1
    else:
        counted.by_structure += 1
    return OK, round(entry.energy + value, _DIGITS)


def _count_carried(entry: DftEntry, counted: _Counts) -> None:
    assert entry.counts is not None
    if entry.scheme == MP2020_NAME:
        counted.carry_mp2020 += 1
    elif entry.scheme is not None:
        counted.carry_others += 1
    elif len(entry.counts) > 1 and 8 in entry.counts:  # MP2020 names an adjustment for every oxide
        counted.bare_oxides += 1


def _name(corrections: Treatment, counted: _Counts) -> Corrections:
    """What the corrections are; `as-given` is MP2020 only where everything that should carry it does, by name."""
    if corrections == "mp2020":
        return Corrections.MP2020
    if corrections == "none":
        return Corrections.NONE
    uniform = counted.carry_mp2020 > 0 and counted.carry_others == 0 and counted.bare_oxides == 0
    return Corrections.MP2020 if uniform else Corrections.AS_GIVEN


def _formation_energies(rows: list[_Row], elemental: Mapping[str, float]) -> list[float | None]:
    """eV/atom of each row, None where there is none; a row that has none, or none that a compound can have, says so."""
    formation = []
    zero = by_number(elemental)
    for row in rows:
        value = None
        if row.energy is not None and row.counts is not None:
            value = formation_energy(row.counts, row.energy, zero)
            if value is None:
                row.status = Status.NO_REFERENCE_ENERGY
            elif not is_plausible(value):
                row.status = Status.IMPLAUSIBLE_ENERGY
        formation.append(None if value is None else round(value, _DIGITS))
    return formation


def _check_one_scale(source: str, rows: list[_Row], formation: list[float | None]) -> None:
    """Raise InputError where not single entries are off, but elements and compounds lie on different scales.

    That is where most compounds are implausible, or half of an element's, `_SEVERAL` at least: its energy is at fault then, and its
    dilute compounds are wrong by less than can be seen of them alone.
    """
    compounds = [(row, x) for row, x in zip(rows, formation, strict=True) if x is not None and len(row.counts or {}) > 1]
    off = [(row, x) for row, x in compounds if not is_plausible(x)]
    all_of, off_of = (Counter(z for row, _ in chosen for z in row.counts or {}) for chosen in (compounds, off))
    at_fault = [z for z, n in sorted(off_of.items()) if n >= _SEVERAL and 2 * n >= all_of[z]]
    if 2 * len(off) > len(compounds):
        which = f"{len(off)} of {len(compounds)} compounds"
    elif at_fault:
        z = at_fault[0]
        off = [(row, x) for row, x in off if z in (row.counts or {})]
        which = f"{off_of[z]} of {all_of[z]} compounds of {SYMBOLS[z - 1]}"
    else:
        return
    row, worst = max(off, key=lambda pair: abs(pair[1]))
    raise InputError(
        f"{source}: {which} lie more than {LARGEST_FORMATION_ENERGY:g} eV/atom from their elements (entry '{row.id}', "
        f"{row.formula}: {worst:+.2f}), so the energies of elements and compounds are not on one scale; give entries of one functional "
        "with one set of corrections, and total energies of the amounts that stand beside them."
    )


def _table(rows: list[_Row], formation: list[float | None], source: str) -> pa.Table:
    data = {
        "id": [row.id for row in rows],
        "formula": [row.formula for row in rows],
        "role": [Role.HULL_ONLY] * len(rows),
        "source": [source] * len(rows),
        "energy_from": ["given"] * len(rows),
        "n_atoms": [None if row.counts is None else sum(row.counts.values()) for row in rows],
        "energy": [row.energy for row in rows],
        "formation_energy": formation,
        "status": [row.status for row in rows],
    }
    labels = ("dft_formation_energy", "dft_e_above_hull", "dft_band_gap")
    return make_table(REFERENCE, data | {name: [row.labels.get(name) for row in rows] for name in labels})


def _statement(source: str, corrections: Treatment, functional: str, counted: _Counts, own_elements: bool) -> str:
    words = [f"DFT total energies ({'PBE/PBE+U' if functional == 'PBE' else functional}) of {source}"]
    if counted.without_run_type:
        words.append(f"{counted.without_run_type} entries name no run type and are taken for {functional}")
    if corrections == "mp2020":
        words.append(
            f"MP2020 corrections by pymatgen added to the uncorrected energies, oxide and sulfide types from the structure "
            f"for {counted.by_structure} entries, from labels or the formula for {counted.by_composition}"
        )
    elif corrections == "none":
        words.append("uncorrected")
    else:
        words.append(
            f"with the corrections that the entries carry: {counted.carry_mp2020} MP2020 by name, {counted.carry_others} others"
        )
    words.append("elements: the lowest elemental entries" if own_elements else "elements: from the table given")
    return "; ".join(words)
