"""The other side of `scoring.worker`: figures without torch in one's own process."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from types import TracebackType
from typing import Any, BinaryIO, cast

import pyarrow as pa

from crystalformer_rl.errors import InputError
from crystalformer_rl.scoring.frames import ANSWERS, read_frame, request, write_frame
from crystalformer_rl.tables.column import make_table
from crystalformer_rl.tables.crystal_columns import CRYSTALS

_SENT = ("id", "atomic_numbers", "frac_coords", "lattice", "status")


class PotentialWorker:
    """A potential, and models of properties where `properties` names their file, in a process of its own.

    A context manager; `identity` is the potential's. A worker that dies is started again with the same crystals, and if
    that one dies too they are sent in halves, until the crystal that kills is found: `out_of_memory` where the system
    ended the worker, else `potential_failed`. Where no worker answers at all, InputError says so. threads: of the worker
    (OMP_NUM_THREADS), by default what the environment says, else one; energies are the same to rounding.
    """

    def __init__(self, name: str, *, properties: str | None = None, threads: int | None = None) -> None:
        self.name = name
        self._properties = properties
        self._threads = threads or int(os.environ.get("OMP_NUM_THREADS") or 1)
        self._process: subprocess.Popen[bytes] | None = None
        self.identity: dict[str, Any] = {}

    def __enter__(self) -> PotentialWorker:
        self._start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def energies(self, table: pa.Table) -> pa.Table:
        """Total energies of the crystals in `table`: id, energy (eV/atom, null for a failure), status; rows in order."""
        return self.figures(table, "energy")

    def figures(self, table: pa.Table, group: str) -> pa.Table:
        """A group of figures (`energy`, `force` with energies, `properties`) of the crystals in `table`, row for row.

        The columns are those of `frames.ANSWERS`, null for a failure, whose `status` says why.
        """
        if group == "properties" and self._properties is None:
            raise InputError(f"the worker of the potential '{self.name}' has no property models; name their file.")
        for column in CRYSTALS:
            if column.name in _SENT and column.name not in table.column_names:
                raise InputError(f"the crystals have no column '{column.name}' ({column.meaning}); give a crystals table.")
        sent = request(table.select([name for name in _SENT if name in table.column_names]), group)
        if sent.num_rows == 0:
            return make_table(ANSWERS[group], {"id": []})
        return pa.concat_tables(self._answers(sent, group, _Deaths(sent.num_rows)))

    def _answers(self, part: pa.Table, group: str, deaths: _Deaths) -> list[pa.Table]:
        """The replies for `part`, whole or in halves."""
        code = ""
        for _ in range(2):
            if self._process is None:
                self._start()
            reply = self._ask(part)
            if reply is not None:
                deaths.answered = True
                return [reply]
            code = self._reap()
            print(f"the worker of the potential '{self.name}' ended ({code}); starting another", file=sys.stderr)
        deaths.count += 1
        if deaths.hopeless:
            raise InputError(
                f"the worker of the potential '{self.name}' ended twice on whatever it was sent of {deaths.crystals} crystals "
                f"({code}); its own words are above, and signal 9 usually means too little memory: free some."
            )
        if part.num_rows == 1:
            return [_killed(part, group, code)]
        half = part.num_rows // 2
        return self._answers(part.slice(0, half), group, deaths) + self._answers(part.slice(half), group, deaths)

    def close(self) -> None:
        """End the worker; it is idle, so that closing its input suffices."""
        process, self._process = self._process, None
        if process is None:
            return
        _close_pipes(process)
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _start(self) -> None:
        environment = os.environ | {"OMP_NUM_THREADS": str(self._threads), "MKL_NUM_THREADS": str(self._threads)}
        models = [] if self._properties is None else ["--properties", self._properties]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "crystalformer_rl.scoring.worker", self.name, *models],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        )
        first = read_frame(cast(BinaryIO, self._process.stdout))
        if first is None:
            raise InputError(
                f"the worker of the potential '{self.name}' did not start ({self._reap()}); its own words are above."
            )
        if words := _error(first):
            self.close()
            raise InputError(words)
        identity = json.loads(first.schema.metadata[b"identity"])
        if self.identity and identity != self.identity:
            raise InputError(f"the potential '{self.name}' changed while it was in use; start again with one version of it.")
        self.identity = identity

    def _ask(self, table: pa.Table) -> pa.Table | None:
        """The worker's answer, or None when it is dead."""
        process = self._process
        assert process is not None
        try:
            write_frame(cast(BinaryIO, process.stdin), table)
        except (BrokenPipeError, OSError):
            return None
        reply = read_frame(cast(BinaryIO, process.stdout))
        if reply is not None and (words := _error(reply)):
            raise InputError(words)
        return reply

    def _reap(self) -> str:
        """Wait for the dead worker and say how it ended."""
        process, self._process = self._process, None
        if process is None:
            return "not running"
        try:
            code = process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        _close_pipes(process)
        return f"signal {-code}" if code < 0 else f"exit status {code}"


@dataclass
class _Deaths:
    """What became of the workers that were sent one batch of crystals."""

    crystals: int
    count: int = 0
    answered: bool = False

    @property
    def hopeless(self) -> bool:
        """No worker has answered, although two crystals alone would have been found by now."""
        return not self.answered and (self.crystals == 1 or self.count > 2 * self.crystals.bit_length())


def _error(table: pa.Table) -> str:
    """What is wrong, where a frame says so instead of answering."""
    return (table.schema.metadata or {}).get(b"error", b"").decode()


def _killed(crystal: pa.Table, group: str, code: str) -> pa.Table:
    """The answer for the crystal that its worker did not survive."""
    status = "out_of_memory" if code == f"signal {signal.SIGKILL.value}" else "potential_failed"
    return make_table(ANSWERS[group], {"id": crystal.column("id").to_pylist(), "status": [status]})


def _close_pipes(process: subprocess.Popen[bytes]) -> None:
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            # What a dead worker has not read is of no use to anybody.
            with contextlib.suppress(BrokenPipeError):
                stream.close()
