"""Parquet files that appear under their name only when they are whole, and reading them with clear errors."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from crystalformer_rl.errors import InputError
from crystalformer_rl.tables.column import Column
from crystalformer_rl.tables.provenance import PROVENANCE_KEY, first_line


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its name when the block ends without an error."""
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path} is a folder; name a file to write to.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent)
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}); choose another place.") from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)  # last: some writers replace the file, and temporary files are private
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_table(path: str | Path, table: pa.Table, made_by: Mapping[str, Any]) -> None:
    """Write `table` to `path` whole or not at all, with the provenance record `made_by`."""
    metadata = {PROVENANCE_KEY: json.dumps(made_by, sort_keys=True).encode()}
    with atomic_path(path) as temporary:
        pq.write_table(table.replace_schema_metadata(metadata), temporary, compression="zstd", compression_level=12)


def read_table(
    path: str | Path,
    required: Iterable[Column] = (),
    *,
    optional: Iterable[Column] | None = None,
    allow_empty: bool = False,
) -> pa.Table:
    """Read a Parquet table that must have the `required` columns; further columns are kept.

    optional: where given, no further columns are read but these, where they are there. `material_id` is taken for `id`. A
    required column of another integer or float width is cast, and so is an optional one. Raises InputError that names the
    file and the field.
    """
    path, required = Path(path), tuple(required)
    if not path.is_file():
        raise InputError(f"{path} does not exist; check the path, or run the stage that writes it.")
    try:
        file = pq.ParquetFile(path)
        names = file.schema_arrow.names
        if optional is not None:
            optional = tuple(optional)
            wanted = {column.name for column in (*required, *optional)} | {"material_id"}
            names = [name for name in names if name in wanted]
        table = file.read(columns=names)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{path} is not a readable Parquet file ({first_line(error)}); make it again.") from error
    table = with_types(with_required(table, required, path), optional or (), path)
    if not allow_empty and table.num_rows == 0:
        raise InputError(f"{path} holds no rows; give a table with at least one crystal.")
    return table


def with_required(table: pa.Table, required: Iterable[Column], source: str | Path) -> pa.Table:
    """The table with the `required` columns in their types; `material_id` is taken for `id`.

    `source` names the table in the InputError that a column raises which is not there or cannot be cast.
    """
    if "id" not in table.column_names and "material_id" in table.column_names:
        table = table.rename_columns(["id" if name == "material_id" else name for name in table.column_names])
    for column in required:
        if column.name not in table.column_names:
            raise InputError(
                f"{source} has no column '{column.name}' ({column.meaning}); it has {_some(table.column_names)}."
            )
        index = table.column_names.index(column.name)
        if table.schema.field(index).type != column.type:
            try:
                table = table.set_column(index, column.field(), table.column(index).cast(column.type))
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
                found = table.schema.field(index).type
                raise InputError(
                    f"{source}, column '{column.name}': expected {column.type}, found {found}; convert it."
                ) from error
    return table


def _some(names: Sequence[str], most: int = 12) -> str:
    """Names in a sentence, the first of many."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def with_types(table: pa.Table, columns: Iterable[Column], source: str | Path) -> pa.Table:
    """The table with those of the `columns` that it has cast to their types. Raises InputError where one cannot be."""
    for column in columns:
        if column.name not in table.column_names:
            continue
        index = table.column_names.index(column.name)
        found = table.schema.field(index).type
        if found != column.type:
            try:
                table = table.set_column(index, column.field(), table.column(index).cast(column.type))
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
                raise InputError(
                    f"{source}, column '{column.name}': expected {column.type}, found {found}; convert it or leave it out."
                ) from error
    return table


def joined(tables: Sequence[pa.Table], source: str) -> pa.Table:
    """The rows of several tables; a column that one lacks is null there. Raises InputError for types that do not fit."""
    try:
        return pa.concat_tables([t.replace_schema_metadata(None) for t in tables], promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise InputError(
            f"{source} do not make one table ({first_line(error)}); convert the column or leave it out."
        ) from error
