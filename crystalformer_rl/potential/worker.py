"""A process that holds a potential and runs functions of the package with it: `python -m crystalformer_rl.potential.worker NAME`.

It lives as long as its standard input is open. Frames go both ways (`potential.frames`). A request names a function,
`package.module:function`, which is called as `function(table, potential, advance=…, **options)` and returns a table. The
functions are imported by name when they are asked for, so that this module knows none of them.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

import pyarrow as pa

from crystalformer_rl.errors import InputError
from crystalformer_rl.potential.devices import CPU, DEVICES
from crystalformer_rl.potential.frames import Kind, read_frame, write_frame

if TYPE_CHECKING:
    from crystalformer_rl.potential.protocol import Potential

Answer = Callable[..., pa.Table]
_PACKAGE = "crystalformer_rl"


def serve(
    name: str,
    prepare: Sequence[tuple[str, dict[str, Any]]],
    requests: BinaryIO,
    replies: BinaryIO,
    *,
    here: bool = False,
    device: str = CPU,
) -> None:
    """Load the potential `name` and answer until `requests` ends.

    here: in this Python, whatever other environments there are; device: cpu or gpu.
    prepare: functions with options that will be asked for; each is run on no crystals before the greeting, so that what
    is wrong with it is known at once.
    """
    from crystalformer_rl.potential import load, load_here

    try:
        potential = (load_here if here else load)(name, threads=int(os.environ.get("OMP_NUM_THREADS") or 1), device=device)
        for function, options in prepare:
            named(function)(_no_crystals(), potential, advance=None, **options)
    except InputError as error:
        write_frame(replies, Kind.ERROR, str(error))
        return
    write_frame(replies, Kind.GREETING, potential.identity.as_record())
    while (request := read_frame(requests)) is not None:
        _, content, table = request
        answer(content["function"], content["options"], table, potential, replies)


def answer(function: str, options: dict[str, Any], table: pa.Table, potential: Potential, replies: BinaryIO) -> None:
    """Run one function and write what it returns; what the user can mend goes back as a sentence."""
    try:
        found = named(function)(table, potential, advance=lambda n: write_frame(replies, Kind.PROGRESS, n), **options)
        write_frame(replies, Kind.ANSWER, table=found)
    except InputError as error:  # such as a calculator without forces
        write_frame(replies, Kind.ERROR, str(error))


def named(function: str) -> Answer:
    """The function that `package.module:name` names, of this package alone: a request never leads elsewhere."""
    module, _, name = function.partition(":")
    if module.partition(".")[0] != _PACKAGE:
        raise ValueError(f"{function} is not a function of {_PACKAGE}")
    found: Answer = getattr(importlib.import_module(module), name)
    return found


def _no_crystals() -> pa.Table:
    from crystalformer_rl.tables.column import make_table
    from crystalformer_rl.tables.crystal_columns import CRYSTALS, STATUS

    return make_table((*CRYSTALS, STATUS), {"id": []})


def main() -> None:
    """Serve on standard input and output; whatever libraries print goes to standard error."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("potential")
    parser.add_argument("prepare", nargs="?", default="[]", help="JSON list of functions with their options")
    parser.add_argument("device", nargs="?", choices=DEVICES, default=CPU)
    parser.add_argument("place", nargs="?", choices=["here"], help="in this Python, which is that of its environment")
    options = parser.parse_args()
    # An interrupt at the terminal reaches the whole group; the parent decides, and closes the pipe.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    serve(
        options.potential,
        json.loads(options.prepare),
        sys.stdin.buffer,
        replies,
        here=options.place == "here",
        device=options.device,
    )


if __name__ == "__main__":
    main()
