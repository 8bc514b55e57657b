"""The lock file: what came the first time from an address whose digest nobody published."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from crystalformer_rl.errors import InputError
from crystalformer_rl.tables.parquet import atomic_path

DEFAULT_LOCK = Path("resources.lock.json")


def locked_sha256(lock: Path, url: str) -> str | None:
    """The sha256 recorded for an address, if there is one."""
    entry = _read(lock).get(url)
    return entry["sha256"] if entry else None


def record(lock: Path, url: str, sha256: str, size: int) -> None:
    """Note what an address gave. Entries of others that fetch at the same time are kept."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with _alone_in(lock.parent):
        entries = _read(lock) | {url: {"sha256": sha256, "size": size}}
        with atomic_path(lock) as temporary:
            temporary.write_text(json.dumps(entries, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _read(lock: Path) -> dict[str, dict[str, Any]]:
    if not lock.exists():
        return {}
    try:
        entries = json.loads(lock.read_text(encoding="utf-8"))
        if all(isinstance(entry["sha256"], str) for entry in entries.values()):
            return entries
    except (ValueError, AttributeError, KeyError, TypeError, OSError) as error:
        raise InputError(f"{lock} is not a lock file of downloads; restore it, or delete it to record anew.") from error
    raise InputError(f"{lock} is not a lock file of downloads; restore it, or delete it to record anew.")


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Hold the folder, so that two processes do not lose each other's entries."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
