"""A process that holds a potential and answers with energies: `python -m crystalformer_rl.potential.worker NAME`.

It lives as long as its standard input is open. Frames go both ways, each eight bytes of length (little
endian) and an Arrow IPC stream of one table. The first frame out greets: its schema metadata holds either
`identity` (JSON) or `error` (a sentence). Then each frame in is a crystals table, each frame out a table of id,
energy (eV/atom) and status, in the same order.
"""

from __future__ import annotations

import json
import os
import signal
import struct
import sys
from typing import BinaryIO

import pyarrow as pa

from crystalformer_rl.artifacts import ID, STATUS, Column, make_table
from crystalformer_rl.errors import InputError

ENERGIES = (ID, Column("energy", pa.float64(), "eV/atom", "total energy of the potential"), STATUS)


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


def serve(name: str, requests: BinaryIO, replies: BinaryIO) -> None:
    """Load the potential `name` and answer until `requests` ends."""
    from crystalformer_rl.crystal.structure import crystals_from_table
    from crystalformer_rl.potential import load

    try:
        potential = load(name, threads=int(os.environ.get("OMP_NUM_THREADS") or 1))
    except InputError as error:
        write_frame(replies, greeting(error=str(error)))
        return
    write_frame(replies, greeting(identity=json.dumps(potential.identity, sort_keys=True)))
    while (table := read_frame(requests)) is not None:
        crystals, statuses = crystals_from_table(table)
        energies: list[float | None] = [None] * len(crystals)
        good = [(k, c) for k, c in enumerate(crystals) if c is not None and statuses[k] == "ok"]
        for (k, _), outcome in zip(good, potential.evaluate([c for _, c in good], forces=False), strict=True):
            if isinstance(outcome, str):
                statuses[k] = outcome
            else:
                energies[k] = outcome.energy
        columns = {"id": table.column("id").to_pylist(), "energy": energies, "status": statuses}
        write_frame(replies, make_table(ENERGIES, columns))


def main() -> None:
    """Serve on standard input and output; whatever libraries print goes to standard error."""
    # An interrupt at the terminal reaches the whole group; the parent decides, and closes the pipe.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    serve(sys.argv[1], sys.stdin.buffer, replies)


if __name__ == "__main__":
    main()
