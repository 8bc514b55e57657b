"""What the worker and its client say to each other: Arrow tables, each with its length before it.

A request is a crystals table whose schema metadata names one group of figures; its answer has a row for each crystal,
in order, with the columns of `ANSWERS` for that group.
"""

from __future__ import annotations

import struct
from typing import BinaryIO

import pyarrow as pa

from crystalformer_rl.tables.crystal_columns import ID, STATUS
from crystalformer_rl.tables.figure_columns import FIGURES
from crystalformer_rl.tables.property_columns import PROPERTIES

_FIGURES = {column.name: column for column in FIGURES}

ANSWERS = {
    "energy": (ID, _FIGURES["energy"], STATUS),
    "force": (ID, _FIGURES["energy"], _FIGURES["force"], STATUS),
    "properties": PROPERTIES,
}
"""Columns of the answer by the group of figures that is asked for."""

_GROUP = b"figures"


def write_frame(stream: BinaryIO, table: pa.Table) -> None:
    """One table, its length before it."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    buffer = sink.getvalue()
    stream.write(struct.pack("<Q", buffer.size))
    stream.write(buffer)
    stream.flush()


def read_frame(stream: BinaryIO) -> pa.Table | None:
    """The next table; None at the end of the stream, also when it ends within a frame."""
    header = stream.read(8)
    if len(header) < 8:
        return None
    (size,) = struct.unpack("<Q", header)
    body = stream.read(size)
    return pa.ipc.open_stream(body).read_all() if len(body) == size else None


def greeting(**metadata: str) -> pa.Table:
    """An empty table whose schema metadata speaks."""
    return pa.table({}).replace_schema_metadata(metadata)


def request(table: pa.Table, group: str) -> pa.Table:
    """The crystals `table` with the wish for a group of figures."""
    return table.replace_schema_metadata({_GROUP: group.encode()})


def requested(table: pa.Table) -> str:
    """The group of figures that a request asks for."""
    return (table.schema.metadata or {}).get(_GROUP, b"energy").decode()
