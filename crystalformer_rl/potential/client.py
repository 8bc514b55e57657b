"""The other side of `potential.worker`: a potential's answers without torch in one's own process."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, BinaryIO, cast

import pyarrow as pa

from crystalformer_rl.errors import InputError
from crystalformer_rl.potential.devices import CPU
from crystalformer_rl.potential.environments import Environment
from crystalformer_rl.potential.frames import Frame, Kind, read_frame, write_frame
from crystalformer_rl.reference.identity import PotentialIdentity
from crystalformer_rl.tables.column import Column
from crystalformer_rl.tables.crystal_columns import CRYSTALS
from crystalformer_rl.tables.provenance import record_of, with_record
from crystalformer_rl.tables.status import Status

Advance = Callable[[int], object] | None
WORKER = "crystalformer_rl.potential.worker"


def command_of(name: str, prepare: str, place: Environment | None, device: str = CPU) -> list[str]:
    """The command that starts a worker: by this Python, or by that of the environment in which the potential lives."""
    if place is None:
        return [sys.executable, "-m", WORKER, name, prepare, device]
    return [str(place.python), "-m", WORKER, name, prepare, device, "here"]


class PotentialWorker:
    """A potential in a process of its own. A context manager; `identity` is the potential's.

    A worker that dies is started again with the same crystals, and if that one dies too they are sent in halves, until the
    crystal that kills is found: `out_of_memory` where the system ended the worker, else `potential_failed`. Where no worker
    answers at all, InputError says so. prepare: functions with options that will be asked for, tried before the first
    crystal. threads: of the worker (OMP_NUM_THREADS), by default what the environment says, else one; energies are the
    same to rounding. place: the environment in which the potential lives, by default this Python's, which asks another where it
    must; device: cpu or gpu. A question that is interrupted ends the worker, and the next one starts another; of several
    threads that ask, one is answered at a time.
    """

    def __init__(
        self,
        name: str,
        *,
        prepare: Sequence[tuple[str, dict[str, Any]]] = (),
        threads: int | None = None,
        place: Environment | None = None,
        device: str = CPU,
    ) -> None:
        self.name = name
        self._device = device
        self._place = place
        self._prepare = list(prepare)
        self._threads = threads or int(os.environ.get("OMP_NUM_THREADS") or 1)
        self._process: subprocess.Popen[bytes] | None = None
        self._identity: PotentialIdentity | None = None
        self._alone = threading.RLock()

    def __enter__(self) -> PotentialWorker:
        self._start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    @property
    def identity(self) -> PotentialIdentity:
        """Of the potential; the worker is started where it was not yet."""
        with self._alone:
            if self._identity is None:
                self._start()
            assert self._identity is not None  # it has greeted
            return self._identity

    def map(
        self, function: str, table: pa.Table, columns: Sequence[Column], *, advance: Advance = None, **options: Any
    ) -> pa.Table:
        """What `function`, `package.module:name`, says of a crystals table, row for row.

        columns: of the answer; a crystal that no worker survives has nulls there and a status. options: JSON values that
        the function takes by name. advance: called with the number of rows just finished; a row that a second worker
        does again counts once.
        """
        for column in CRYSTALS:
            if column.name != "formula" and column.name not in table.column_names:
                raise InputError(f"the crystals have no column '{column.name}' ({column.meaning}); give a crystals table.")
        if table.num_rows == 0:
            return pa.schema([column.field() for column in columns]).empty_table()
        request = _Request(function, options, tuple(columns), advance, table.num_rows)
        with self._alone:
            parts = self._answers(table, request)
        whole = pa.concat_tables([part.replace_schema_metadata(None) for part in parts])
        # A crystal that no worker survived brings no record, but its row belongs to the others' table.
        records = [record for part in parts if (record := record_of(part))]
        return with_record(whole, records[0] if records else {"potential": self.identity.as_record()})

    def ask(self, function: str, *, advance: Advance = None, **options: Any) -> pa.Table:
        """What `function` says that takes no crystals, such as a reference's energies computed again."""
        request, code = _Request(function, options, (), advance, 1), ""
        with self._alone:
            for _ in range(2):  # a worker may have died since it was last asked
                if self._process is None:
                    self._start()
                found = self._send(pa.table({}), request)
                if found is not None:
                    return found
                code = self._reap()
        raise InputError(
            f"the worker of the potential '{self.name}' ended twice ({code}); its own words are above, and signal 9 usually "
            "means too little memory: free some."
        )

    def _answers(self, part: pa.Table, request: _Request) -> list[pa.Table]:
        """The replies for `part`, whole or in halves."""
        code = ""
        for _ in range(2):
            if self._process is None:
                self._start()
            reply = self._send(part, request)
            if reply is not None:
                request.answered = True
                request.settle(part.num_rows)
                return [reply]
            code = self._reap()
            print(f"the worker of the potential '{self.name}' ended ({code}); starting another", file=sys.stderr)
        request.deaths += 1
        if request.hopeless:
            raise InputError(
                f"the worker of the potential '{self.name}' ended twice on whatever it was sent of {request.crystals} "
                f"crystals ({code}); its own words are above, and signal 9 usually means too little memory: free some."
            )
        if part.num_rows == 1:
            request.settle(1)
            return [_killed(part, request.columns, code)]
        half = part.num_rows // 2
        return self._answers(part.slice(0, half), request) + self._answers(part.slice(half), request)

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
        if self._place is not None:
            environment |= self._place.variables()
        self._process = subprocess.Popen(
            command_of(self.name, json.dumps(self._prepare), self._place, self._device),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        )
        with self._ended_where_interrupted():
            first = read_frame(cast(BinaryIO, self._process.stdout))
        if first is None:
            raise InputError(
                f"the worker of the potential '{self.name}' did not start ({self._reap()}); its own words are above."
            )
        kind, content, _ = first
        if kind is Kind.ERROR:
            self.close()
            raise InputError(content)
        identity = PotentialIdentity.from_record(content)
        if self._identity is not None and identity != self._identity:
            raise InputError(f"the potential '{self.name}' changed while it was in use; start again with one version of it.")
        self._identity = identity

    def _send(self, table: pa.Table, request: _Request) -> pa.Table | None:
        """The worker's answer, or None when it is dead."""
        with self._ended_where_interrupted():
            reply = self._reply(table, request)
        if reply is None:
            return None
        kind, content, found = reply
        if kind is Kind.ERROR:
            raise InputError(content)
        return found

    def _reply(self, table: pa.Table, request: _Request) -> Frame | None:
        """The worker's last frame on a request, its progress told on the way; None when it is dead."""
        process = self._process
        assert process is not None
        try:
            content = {"function": request.function, "options": request.options}
            write_frame(cast(BinaryIO, process.stdin), Kind.REQUEST, content, table)
        except OSError:  # a broken pipe
            return None
        finished = 0
        while (reply := read_frame(cast(BinaryIO, process.stdout))) is not None:
            if reply[0] is not Kind.PROGRESS:
                return reply
            finished += reply[1]
            request.tell(request.settled + finished)
        return None

    @contextlib.contextmanager
    def _ended_where_interrupted(self) -> Iterator[None]:
        """End the worker where the block does not: what it still says would be taken for the answer to the next question."""
        try:
            yield
        except BaseException:
            if self._process is not None:
                self._process.kill()
            self._reap()
            raise

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
class _Request:
    """One function to run on a number of crystals, and what became of it: deaths of workers, rows answered, rows reported."""

    function: str
    options: dict[str, Any]
    columns: tuple[Column, ...]
    advance: Advance
    crystals: int
    deaths: int = 0
    answered: bool = False
    settled: int = 0
    told: int = 0

    def settle(self, rows: int) -> None:
        """So many more rows have their answer."""
        self.settled += rows
        self.tell(self.settled)

    def tell(self, finished: int) -> None:
        """Report what is finished beyond what was reported."""
        if self.advance is not None and finished > self.told:
            self.advance(finished - self.told)
        self.told = max(self.told, finished)

    @property
    def hopeless(self) -> bool:
        """No worker has answered, although two crystals alone would have been found by now."""
        return not self.answered and (self.crystals == 1 or self.deaths > 2 * self.crystals.bit_length())


def _killed(crystal: pa.Table, columns: Sequence[Column], code: str) -> pa.Table:
    """The answer for the crystal that its worker did not survive: what it came with, and why there is no more."""
    status = Status.OUT_OF_MEMORY if code == f"signal {signal.SIGKILL.value}" else Status.POTENTIAL_FAILED
    kept = ("id", "formula", "atomic_numbers")
    given = {name: crystal.column(name).to_pylist() for name in kept if name in crystal.column_names}
    fields = [pa.array(given.get(c.name, [status] if c.name == "status" else [None]), c.type) for c in columns]
    return pa.Table.from_arrays(fields, schema=pa.schema([c.field() for c in columns]))


def _close_pipes(process: subprocess.Popen[bytes]) -> None:
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            # What a dead worker has not read is of no use to anybody.
            with contextlib.suppress(BrokenPipeError):
                stream.close()
