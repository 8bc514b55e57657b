"""A persisted field: name, Arrow type, unit and meaning; and tables made of such fields."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa


@dataclass(frozen=True)
class Column:
    """A persisted field: its Arrow type, unit (empty for none) and one sentence."""

    name: str
    type: pa.DataType
    unit: str
    meaning: str

    def field(self) -> pa.Field:
        return pa.field(self.name, self.type, metadata={"unit": self.unit, "meaning": self.meaning})


FLOAT = pa.float64()
FLOATS = pa.list_(pa.float64())
INTEGERS = pa.list_(pa.int64())


def pick(columns: Iterable[Column], *names: str) -> tuple[Column, ...]:
    """The columns of those names, in that order."""
    by_name = {column.name: column for column in columns}
    return tuple(by_name[name] for name in names)


def make_table(columns: Iterable[Column], data: Mapping[str, Any]) -> pa.Table:
    """An Arrow table of the given columns, in their order; columns that `data` lacks are null."""
    columns = tuple(columns)
    length = len(next(iter(data.values()))) if data else 0
    arrays = [pa.array(data[c.name], c.type) if c.name in data else pa.nulls(length, c.type) for c in columns]
    return pa.Table.from_arrays(arrays, schema=pa.schema([c.field() for c in columns]))


def table_of_rows(columns: Iterable[Column], rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """An Arrow table of the given columns, in their order, from rows; what a row lacks is null, what it has besides is left."""
    columns, rows = tuple(columns), list(rows)
    return make_table(columns, {column.name: [row.get(column.name) for row in rows] for column in columns})
