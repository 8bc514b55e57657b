"""One worker a potential for the whole session, so that it is loaded once."""

from __future__ import annotations

import atexit

from crystalformer_rl.potential.client import PotentialWorker

_workers: dict[str, PotentialWorker] = {}


def worker(potential: str) -> PotentialWorker:
    """The session's worker of a potential; it starts when it is first asked, and ends with the session."""
    if potential not in _workers:
        _workers[potential] = PotentialWorker(potential)
    return _workers[potential]


def close() -> None:
    """End all workers; the next question starts them again."""
    for open_worker in _workers.values():
        open_worker.close()
    _workers.clear()


atexit.register(close)
