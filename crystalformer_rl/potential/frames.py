"""What a worker and its client say to each other: Arrow tables, each with its length before it.

The kind of a frame stands in the table's schema metadata. A request is a table with the function to run on it and the
function's options. Before the answer, a table, come as many frames of progress as the function reports; an error comes
instead of the answer. A worker's first frame is a greeting, or an error.
"""

from __future__ import annotations

import json
import struct
from enum import StrEnum
from typing import Any, BinaryIO

import pyarrow as pa

_KIND, _CONTENT = b"frame_kind", b"frame_content"


class Kind(StrEnum):
    """What a frame is for."""

    GREETING = "greeting"
    REQUEST = "request"
    PROGRESS = "progress"
    ANSWER = "answer"
    ERROR = "error"


Frame = tuple[Kind, Any, pa.Table]
"""Kind, JSON content and table."""


def write_frame(stream: BinaryIO, kind: Kind, content: Any = None, table: pa.Table | None = None) -> None:
    """One frame: its kind, JSON content, and a table, whose own schema metadata goes with it."""
    table = pa.table({}) if table is None else table
    metadata = {**(table.schema.metadata or {}), _KIND: kind.encode(), _CONTENT: json.dumps(content).encode()}
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema.with_metadata(metadata)) as writer:
        writer.write_table(table.replace_schema_metadata(metadata))
    buffer = sink.getvalue()
    stream.write(struct.pack("<Q", buffer.size))
    stream.write(buffer)
    stream.flush()


def read_frame(stream: BinaryIO) -> Frame | None:
    """The next frame: kind, content and table; None at the end of the stream, also when it ends within a frame."""
    header = stream.read(8)
    if len(header) < 8:
        return None
    (size,) = struct.unpack("<Q", header)
    body = stream.read(size)
    if len(body) < size:
        return None
    table = pa.ipc.open_stream(body).read_all()
    metadata = dict(table.schema.metadata or {})
    kind, content = Kind(metadata.pop(_KIND).decode()), json.loads(metadata.pop(_CONTENT))
    return kind, content, table.replace_schema_metadata(metadata or None)
