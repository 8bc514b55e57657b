"""Read crystals from whatever people have: Parquet, CIF, folders, CSV with CIFs, computed entries, anything ASE reads."""

from __future__ import annotations

import csv
import itertools
import re
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from crystalformer_rl.crystal.entries import LABELS, SUFFIXES, DftEntry, file_stem, read_entries
from crystalformer_rl.crystal.json_stream import holds_entries
from crystalformer_rl.crystal.structure import Crystal, crystal_columns, crystal_status, crystals_from_table
from crystalformer_rl.errors import InputError
from crystalformer_rl.tables.column import make_table
from crystalformer_rl.tables.crystal_columns import CRYSTALS, CRYSTALS_AND_TOKENS, STATUS
from crystalformer_rl.tables.energy_columns import REFERENCE
from crystalformer_rl.tables.parquet import read_table, with_required, with_types
from crystalformer_rl.tables.status import Status

_CSV_ID_COLUMNS = ("id", "material_id")
_LABEL_COLUMNS = tuple(column for column in REFERENCE if column.name in ("source", *LABELS))
_ENTRY_COLUMNS = (*CRYSTALS, *_LABEL_COLUMNS, STATUS)
_KNOWN_COLUMNS = (*CRYSTALS_AND_TOKENS, *_LABEL_COLUMNS, STATUS)
_ENTRIES_AT_ONCE = 4096


def read_crystals(paths: Sequence[str | Path], *, allow_empty: bool = False) -> pa.Table:
    """A crystals table with `status`, and the further columns of Parquet input, from one or several sources.

    JSON of computed entries (see `entries.read_entries`) gives its structures, with the DFT labels that it has.
    A crystal that cannot be read keeps its row, with the status that says why. A file that
    cannot be read at all raises InputError, as do ids that occur twice.
    """
    tables = [_read_one(Path(path), allow_empty) for path in paths]
    table = tables[0] if len(tables) == 1 else joined(tables, ", ".join(map(str, paths)))
    ids = table.column("id").to_pylist()
    if len(set(ids)) != len(ids):
        twice = next(name for i, name in enumerate(ids) if name in ids[:i])
        raise InputError(f"{', '.join(map(str, paths))}: the id '{twice}' occurs twice; make ids unique over all files.")
    return table


def joined(tables: Sequence[pa.Table], source: str) -> pa.Table:
    """The rows of several tables; a column that one lacks is null there. Raises InputError for types that do not fit."""
    try:
        return pa.concat_tables([t.replace_schema_metadata(None) for t in tables], promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        reason = str(error).strip().rstrip(".")
        raise InputError(f"{source} do not make one table ({reason}); convert the column or leave it out.") from error


def _read_one(path: Path, allow_empty: bool) -> pa.Table:
    if path.is_dir():
        return _from_folder(path)
    if not path.is_file():
        raise InputError(f"{path} does not exist; check the path, or run the stage that writes it.")
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return _from_parquet(path, allow_empty)
    if suffix == ".csv":
        return _from_csv(path)
    # ASE has a JSON of its own, which begins otherwise
    if path.name.lower().endswith(SUFFIXES) and holds_entries(path):
        return _from_entries(path)
    return _from_structures(path, *_read_structures(path))


def _from_entries(path: Path) -> pa.Table:
    """Crystals of computed entries. Parts at a time, since a hull has several 100,000."""
    entries = read_entries(path)
    parts = []
    while part := list(itertools.islice(entries, _ENTRIES_AT_ONCE)):
        parts.append(_entries_table(part, file_stem(path)))
    table = pa.concat_tables(parts)
    if set(table.column("status").to_pylist()) == {Status.NO_STRUCTURE}:
        raise InputError(
            f"{path} holds entries without structures, so no crystals; give ComputedStructureEntry dictionaries, or take "
            "the energies alone as a reference of given energies."
        )
    return table


def _entries_table(entries: list[DftEntry], source: str) -> pa.Table:
    data = crystal_columns([entry.crystal for entry in entries])
    data |= {name: [entry.labels.get(name) for entry in entries] for name in LABELS}
    data |= {"id": [entry.id for entry in entries], "source": [source] * len(entries)}
    return make_table(_ENTRY_COLUMNS, data | {"status": [entry.crystal_status for entry in entries]})


def _from_parquet(path: Path, allow_empty: bool) -> pa.Table:
    return checked_crystals(read_table(path, allow_empty=allow_empty), path)


def checked_crystals(table: pa.Table, source: str | Path) -> pa.Table:
    """A table that holds crystals, from a file or from memory, as `read_crystals` gives it.

    It must have id, atomic_numbers, frac_coords (3N) and lattice (9, Å); columns that we know get their types, and formula
    and status are added where they are missing. `source` names the table in the InputError that is raised otherwise.
    """
    table = with_required(table, [column for column in CRYSTALS if column.name != "formula"], source)
    if table.column("id").null_count:
        raise InputError(f"{source}, column 'id': {table.column('id').null_count} rows have none; name every crystal.")
    table = with_types(table, _KNOWN_COLUMNS, source)
    crystals, statuses = crystals_from_table(table)
    formulas = [c.formula if c is not None and s == Status.OK else None for c, s in zip(crystals, statuses, strict=True)]
    if "formula" not in table.column_names:
        table = table.append_column(CRYSTALS[1].field(), pa.array(formulas, pa.string()))
    return _with_status(table, statuses)


def _with_status(table: pa.Table, statuses: list[str]) -> pa.Table:
    array = pa.array(statuses, pa.string())
    if "status" in table.column_names:
        return table.set_column(table.column_names.index("status"), STATUS.field(), array)
    return table.append_column(STATUS.field(), array)


def _from_folder(folder: Path) -> pa.Table:
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() == ".cif")
    if not files:
        raise InputError(f"{folder} holds no .cif files; give a folder with at least one, or a table.")
    ids, crystals, statuses = [], [], []
    for file in files:
        found, names = _read_cif(file)
        ids += names
        crystals += found
        statuses += [Status.UNREADABLE if c is None else crystal_status(c) for c in found]
    return _table(ids, crystals, statuses)


def _from_csv(path: Path) -> pa.Table:
    csv.field_size_limit(sys.maxsize)
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:  # spreadsheets write a mark at the beginning
            rows = list(csv.DictReader(stream))
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} is not a readable CSV ({error}); save it as UTF-8 with commas.") from error
    if not rows:
        raise InputError(f"{path} holds no rows; give a table with at least one crystal.")
    if "cif" not in rows[0]:
        raise InputError(f"{path} has no column 'cif'; it has {', '.join(map(str, rows[0]))}.")
    id_column = next((name for name in _CSV_ID_COLUMNS if name in rows[0]), None)
    ids = [row[id_column] if id_column else f"{path.stem}-{i}" for i, row in enumerate(rows)]
    if not all(ids):
        number = next(i for i, name in enumerate(ids, start=1) if not name)
        raise InputError(f"{path}, row {number}: column '{id_column}' is empty; name every crystal.")
    crystals = [_parse_cif(row["cif"] or "") for row in rows]
    return _table(ids, crystals, [Status.UNREADABLE if c is None else crystal_status(c) for c in crystals])


def _read_structures(path: Path) -> tuple[list[Crystal | None], list[str]]:
    if path.suffix.lower() == ".cif":
        crystals, ids = _read_cif(path)
        if not any(crystals):
            raise InputError(f"{path} is not a CIF that holds an ordered crystal; correct the file or leave it out.")
        return crystals, ids
    return _read_with_ase(path)


def _read_cif(path: Path) -> tuple[list[Crystal | None], list[str]]:
    """The crystals of a CIF, one a data block that has atoms; None for each that cannot be read."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); correct the file or leave it out.") from error
    blocks = [block for block in re.split(r"(?m)^(?=data_)", text) if "_atom_site" in block]
    if len(blocks) < 2:
        return [_parse_cif(text)], [path.stem]
    return [_parse_cif(block) for block in blocks], _numbered(path, len(blocks))


def _numbered(path: Path, n: int) -> list[str]:
    return [path.stem] if n == 1 else [f"{path.stem}-{i}" for i in range(n)]


def _parse_cif(text: str) -> Crystal | None:
    """The first structure of a CIF, or None where there is none or its sites are shared by elements."""
    from pymatgen.io.cif import CifParser

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            structure = CifParser.from_str(text).parse_structures(primitive=False)[0]
        # The parser meets arbitrary text; whatever it raises means that this is not a readable CIF.
        except Exception:
            return None
    if not structure.is_ordered:
        return None
    numbers = np.array([site.specie.Z for site in structure])
    return Crystal(numbers, np.array(structure.frac_coords), np.array(structure.lattice.matrix))


def _read_with_ase(path: Path) -> tuple[list[Crystal | None], list[str]]:
    import ase.io

    try:
        images: Any = ase.io.read(path, index=":")
    # ASE's readers raise whatever their format's parser raises.
    except Exception as error:
        reason = str(error).strip().split("\n", 1)[0] or type(error).__name__
        raise InputError(
            f"{path} is not a file of crystals that can be read ({reason}); give Parquet, CIF, CSV or a format of ASE."
        ) from error
    if not images:
        raise InputError(f"{path} holds no structures; give a file with at least one crystal.")
    crystals: list[Crystal | None] = [Crystal(a.numbers, a.get_scaled_positions(wrap=False) if a.cell.rank == 3 else a.positions * np.nan,
                                              np.array(a.cell)) for a in images]  # fmt: skip
    return crystals, _numbered(path, len(images))


def _from_structures(path: Path, crystals: list[Crystal | None], ids: list[str]) -> pa.Table:
    return _table(ids, crystals, [Status.UNREADABLE if c is None else crystal_status(c) for c in crystals])


def _table(ids: list[str], crystals: list[Crystal | None], statuses: list[str]) -> pa.Table:
    kept = [c if s == Status.OK else None for c, s in zip(crystals, statuses, strict=True)]
    return make_table((*CRYSTALS, STATUS), {"id": ids, **crystal_columns(kept), "status": statuses})
