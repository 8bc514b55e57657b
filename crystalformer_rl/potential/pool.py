"""Several workers of one potential that share a question, in chunks whose size depends on nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any

import pyarrow as pa

from crystalformer_rl.potential.client import Advance, PotentialWorker
from crystalformer_rl.potential.devices import CPU
from crystalformer_rl.reference.identity import PotentialIdentity
from crystalformer_rl.tables.column import Column

CHUNK = 64
"""Crystals that are evaluated together: energies may change in their last digits with the others of a batch, and so do not
with the number of workers."""


class WorkerPool:
    """As many `PotentialWorker`s as are asked for; each chunk of crystals goes to whichever is free. `identity` is the potential's."""

    def __init__(
        self,
        name: str,
        workers: int = 1,
        *,
        prepare: Sequence[tuple[str, dict[str, Any]]] = (),
        threads: int | None = None,
        device: str = CPU,
    ) -> None:
        self.name = name
        self._workers = [PotentialWorker(name, prepare=prepare, threads=threads, device=device) for _ in range(workers)]
        self._free: SimpleQueue[PotentialWorker] = SimpleQueue()
        for worker in self._workers:
            self._free.put(worker)
        self._threads = ThreadPoolExecutor(workers)

    @property
    def identity(self) -> PotentialIdentity:
        """Of the potential; the first worker is started where it was not yet."""
        return self._workers[0].identity

    def map(
        self, function: str, table: pa.Table, columns: Sequence[Column], *, advance: Advance = None, **options: Any
    ) -> pa.Table:
        """What `function` says of a crystals table, row for row, as `PotentialWorker.map`."""

        def answer(chunk: pa.Table) -> pa.Table:
            worker = self._free.get()
            try:
                return worker.map(function, chunk, columns, advance=advance, **options)
            finally:
                self._free.put(worker)

        chunks = [table.slice(start, CHUNK) for start in range(0, max(table.num_rows, 1), CHUNK)]
        answers = list(self._threads.map(answer, chunks))
        return pa.concat_tables([part.replace_schema_metadata(answers[0].schema.metadata) for part in answers])

    def close(self) -> None:
        """End all workers."""
        self._threads.shutdown(cancel_futures=True)
        with contextlib.ExitStack() as stack:
            for worker in self._workers:
                stack.callback(worker.close)
