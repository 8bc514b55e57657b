"""Crystals in tables of others: Parquet, CSV, data frames; by our columns, or by a column of CIFs or structures."""

from __future__ import annotations

import csv
import io
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from crystalformer_rl.crystal.elements import composition
from crystalformer_rl.crystal.structure import Crystal, crystals_from_table
from crystalformer_rl.errors import InputError
from crystalformer_rl.reading.cif_species import stated_formula
from crystalformer_rl.reading.documents import ID_KEYS, crystals_of_value
from crystalformer_rl.reading.entries import LABELS
from crystalformer_rl.reading.files import Content
from crystalformer_rl.reading.found import Found, table_of, words_on
from crystalformer_rl.tables.crystal_columns import CRYSTALS, CRYSTALS_AND_TOKENS, NOTE, STATUS
from crystalformer_rl.tables.energy_columns import REFERENCE
from crystalformer_rl.tables.parquet import read_table, with_required, with_types
from crystalformer_rl.tables.provenance import record_of, with_record
from crystalformer_rl.tables.status import OK, STATUSES, Status

LABEL_COLUMNS = tuple(column for column in REFERENCE if column.name in ("source", *LABELS))
_KNOWN_COLUMNS = (*CRYSTALS_AND_TOKENS, *LABEL_COLUMNS, NOTE, STATUS)
_NESTED = ("frac_coords", "lattice")
_DOCUMENT_COLUMNS = ("cif", "structure", "atoms", "computed_structure_entry")
_OUR_COLUMNS = ("atomic_numbers", "frac_coords", "lattice")
_OPTIMADE_MORE = ("species", "dimension_types", "structure_features", "assemblies", "nsites", "chemical_formula_reduced")
_OPTIMADE = ("lattice_vectors", "cartesian_site_positions", "species_at_sites")
_RAW_SAMPLES = {"L", "X", "A", "W", "M"}
"""Columns of the table of tokens that the published CrystalFormer writes."""


def from_parquet(path: Path, allow_empty: bool) -> pa.Table:
    """The crystals table of a Parquet file. Raises InputError where its columns hold no crystals."""
    return checked_crystals(read_table(path, allow_empty=allow_empty), path)


def checked_crystals(table: pa.Table, source: str | Path) -> pa.Table:
    """A table that holds crystals, from a file or from memory, as `read_crystals` gives it.

    It must have names (id, material_id, …) and atomic_numbers, frac_coords (3N, or N lists of 3) and lattice (9, or 3 lists of 3;
    Å, rows), or a column of CIFs or structures, or those of OPTIMADE. Columns that we know get their types; formula, note and status
    are added. `source` names the table in the InputError that is raised otherwise.
    """
    table = _with_known_statuses(_with_id(table, source))
    if "atomic_numbers" not in table.column_names:
        documents = _document_columns(table.column_names)
        if documents and documents != _OUR_COLUMNS:
            return _of_documents(table, documents)
    table = with_required(_flat(table), [column for column in CRYSTALS if column.name != "formula"], source)
    if table.column("id").null_count:
        raise InputError(f"{source}, column 'id': {table.column('id').null_count} rows have none; name every crystal.")
    table = with_types(table, _KNOWN_COLUMNS, source)
    crystals, statuses = crystals_from_table(table)
    statuses, faults = _held_against_formula(table, crystals, statuses)
    rows = zip(crystals, statuses, _column(table, "status"), _column(table, "note"), faults, strict=True)
    notes = [
        old if given not in (None, OK) else fault or (lengths if crystal is None else words_on(crystal, status)) or old
        for (crystal, status, given, old, fault), lengths in zip(rows, _lengths(table), strict=True)
    ]
    formulas = [
        c.formula if c is not None and len(c) and s not in _NO_FORMULA else old
        for c, s, old in zip(crystals, statuses, _column(table, "formula"), strict=True)
    ]
    table = _with_column(table, CRYSTALS[1].field(), formulas)
    return _with_column(_with_column(table, NOTE.field(), notes), STATUS.field(), statuses)


_NO_FORMULA = (Status.UNKNOWN_ELEMENT, Status.EMPTY_CRYSTAL, Status.FORMULA_MISMATCH)


def _held_against_formula(
    table: pa.Table, crystals: Sequence[Crystal | None], statuses: list[str]
) -> tuple[list[str], list[str | None]]:
    """Statuses with `formula_mismatch` where a row's formula is of another composition, and what is to be said of it."""
    found = list(statuses)
    faults: list[str | None] = [None] * len(statuses)
    given: list[Any] = _column(table, "formula")
    for k, (text, crystal, status) in enumerate(zip(given, crystals, statuses, strict=True)):
        if status != OK or crystal is None or not isinstance(text, str) or text == crystal.formula:
            continue
        formula = stated_formula(text)
        if formula is not None and formula.denies(composition(crystal.atomic_numbers)):
            found[k], faults[k] = Status.FORMULA_MISMATCH, f"the column formula says {text}, the atoms are {crystal.formula}"
    return found, faults


def _lengths(table: pa.Table) -> list[str | None]:
    """For each row whose lists do not fit together, how long they are."""
    lengths = [pc.list_value_length(table.column(name)).to_pylist() for name in _OUR_COLUMNS]
    return [
        None
        if coords == 3 * (atoms or 0) and lattice == 9
        else f"{atoms} atoms, {coords} coordinates (3 an atom), {lattice} of 9 lattice numbers"
        for atoms, coords, lattice in zip(*lengths, strict=True)
    ]


def _with_known_statuses(table: pa.Table) -> pa.Table:
    """The table with a column `status` of others' words called `status_given`: it says nothing of how a stage of ours went."""
    if "status" not in table.column_names:
        return table
    values = set(table.column("status").to_pylist()) - {None}
    if all(isinstance(value, str) and value in STATUSES for value in values):
        return table
    names = ["status_given" if name == "status" else name for name in table.column_names]
    left = {"file": "the column status", "why": "its words are not statuses of this package; it is kept as status_given"}
    record = record_of(table)
    return with_record(table.rename_columns(names), record | {"left_unread": [*record.get("left_unread", []), left]})


def from_csv(content: Content, source: str) -> list[Found]:
    """A row for each crystal of a CSV: a cell of several CIF blocks holds several. Raises InputError where no column holds crystals."""
    csv.field_size_limit(sys.maxsize)
    text = content.text
    try:
        rows = list(csv.DictReader(io.StringIO(text, newline=""), delimiter=_delimiter(text)))
    except csv.Error as error:
        raise InputError(f"{source} is not a readable CSV ({error}); save it as UTF-8 with commas.") from error
    if not rows:
        raise InputError(f"{source} holds no rows; give a table with at least one crystal.")
    names = [str(name) for name in rows[0] if name is not None]
    header = next(csv.reader(io.StringIO(text), delimiter=_delimiter(text)))
    documents = _document_columns(names)
    if not documents:
        raise InputError(f"{source} has no column 'cif' or 'structure'; it has {', '.join(names)}{_hint(names)}.")
    twice = next((name for name in documents if header.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"{source} has two columns '{twice}'; keep one.")
    key = next((name for name in ID_KEYS if name in names), None)
    found_all: list[Found] = []
    for i, row in enumerate(rows):
        name = (row[key] or "").strip() if key else ""
        value = _document(row, documents)
        if documents == _OUR_COLUMNS:
            value = {column: _listed(cell) for column, cell in value.items()}
        found_all += crystals_of_value(value, name or f"{content.stem}-{i}")
    return found_all


def _listed(cell: str | None) -> list[Any]:
    """The numbers of a cell that holds a list, by Python (`[1, 2]`) or by NumPy (`[1 2]`)."""
    return [float(word) for word in re.findall(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|nan|inf", cell or "")]


def _hint(names: Sequence[str]) -> str:
    if set(names) >= _RAW_SAMPLES:
        return ", the raw samples of CrystalFormer; give its table of structures (output_…_struct.csv)"
    return ""


def _delimiter(text: str) -> str:
    """Comma, semicolon or tab: whichever separates the names of the columns."""
    header = text.lstrip().split("\n", 1)[0]
    return max(",;\t", key=header.count)


def _document_columns(names: Sequence[str]) -> tuple[str, ...]:
    """The columns that hold a crystal: one of documents, in whatever case, or several that make one; empty for none."""
    one = next((name for wanted in _DOCUMENT_COLUMNS for name in names if name.lower() == wanted), None)
    if one is not None:
        return (one,)
    if set(_OPTIMADE) <= set(names):
        return (*_OPTIMADE, *(name for name in _OPTIMADE_MORE if name in names))
    return _OUR_COLUMNS if set(_OUR_COLUMNS) <= set(names) else ()


def _document(row: dict[str, Any], columns: Sequence[str]) -> Any:
    return row[columns[0]] if len(columns) == 1 else {name: row[name] for name in columns if row[name] is not None}


def _of_documents(table: pa.Table, columns: Sequence[str]) -> pa.Table:
    """The crystals of a table of documents, with its further columns; a cell of several crystals repeats its row."""
    ids = table.column("id").to_pylist()
    values = [_document(row, columns) for row in table.select(columns).to_pylist()]
    parts = [crystals_of_value(value, str(name)) for value, name in zip(values, ids, strict=True)]
    crystals = table_of([row for part in parts for row in part])
    crystals = with_record(crystals, record_of(table))
    places = pa.array([place for place, part in enumerate(parts) for _ in part], pa.int64())
    for name in table.column_names:
        if name not in crystals.column_names and name not in columns:
            crystals = crystals.append_column(table.schema.field(name), pc.take(table.column(name), places))
    return crystals


def _with_id(table: pa.Table, source: str | Path) -> pa.Table:
    """The table with the column of names called `id`, as text; as it is where there is none."""
    key = next((name for name in ID_KEYS if name in table.column_names), None)
    if key is None:
        return table
    if key != "id":
        names = ["id" if name == key else name for name in table.column_names]
        table = table.rename_columns(names).replace_schema_metadata(table.schema.metadata)
    try:
        return with_types(table, [CRYSTALS[0]], source)
    except pa.ArrowInvalid as error:
        raise InputError(f"{source}, column '{key}' holds no names ({error}); name every crystal.") from error


def _flat(table: pa.Table) -> pa.Table:
    """The table with coordinates and lattice in one list a row, where they lie in lists of lists."""
    for name in _NESTED:
        if name not in table.column_names:
            continue
        index, column = table.column_names.index(name), table.column(name).combine_chunks()
        kind = column.type
        if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
            inner = kind.value_type
            if pa.types.is_list(inner) or pa.types.is_large_list(inner) or pa.types.is_fixed_size_list(inner):
                rows = [None if row is None else _joined(row) for row in column.to_pylist()]
                table = table.set_column(index, name, pa.array(rows, pa.list_(pa.float64())))
    return table


def _joined(row: list[Any]) -> list[Any]:
    return [x for part in row for x in (part if part is not None else [None])]


def _column(table: pa.Table, name: str) -> list[Any]:
    return table.column(name).to_pylist() if name in table.column_names else [None] * table.num_rows


def _with_column(table: pa.Table, field: pa.Field, values: list[Any]) -> pa.Table:
    array = pa.array(values, field.type)
    if field.name in table.column_names:
        return table.set_column(table.column_names.index(field.name), field, array)
    return table.append_column(field, array)
