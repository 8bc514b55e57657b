"""What commands say on the terminal: progress bars on a terminal, a summary in words or JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

import click
from tqdm import tqdm


def progress(total: int, what: str, unit: str = "crystal") -> tqdm:
    """A progress bar on standard error, shown only on a terminal."""
    return tqdm(total=total, desc=what, unit=unit, disable=not sys.stderr.isatty(), dynamic_ncols=True)


class StageProgress:
    """A progress bar a stage, one after the other: a context manager that is called with a stage and what was finished."""

    def __init__(self, total: int = 0) -> None:
        self._total = total
        self._bars: dict[str, tqdm] = {}

    def __enter__(self) -> StageProgress:
        return self

    def __call__(self, stage: str, finished: int) -> None:
        """Crystals that a stage has finished, of the total of all stages."""
        self.of(stage, self._total, finished)

    def of(self, stage: str, total: int, finished: int) -> None:
        """The same of a stage with a total of its own."""
        if stage not in self._bars:
            self._bars[stage] = progress(total, stage)
        self._bars[stage].update(finished)

    def __exit__(self, *error: object) -> None:
        for bar in self._bars.values():
            bar.close()


def say(summary: dict[str, Any], words: str, as_json: bool) -> None:
    """Print the summary: `words` for people, the dictionary with --json."""
    click.echo(json.dumps(summary, sort_keys=True) if as_json else words)


def write_json(path: str, value: Any) -> None:
    """Write findings to a JSON file, whole or not at all."""
    from crystalformer_rl.tables.parquet import atomic_path

    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def labelled(paths: Sequence[str]) -> list[str]:
    """The paths as names of what was read from them; one that is given twice stays two."""
    return [path if path not in paths[:k] else f"{path} (again)" for k, path in enumerate(paths)]


def summarize(statuses: list[str], out: str, **more: Any) -> dict[str, Any]:
    """What every command says under --json: `n` rows, how many of each `status`, where the result is, and its own figures."""
    return {"n": len(statuses), "status": status_counts(statuses), **more, "out": out}


def status_counts(statuses: list[str]) -> dict[str, int]:
    """How often each status occurs, `ok` first, then by count."""
    counts: dict[str, int] = {}
    for status in statuses:
        counts[status] = counts.get(status, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: (item[0] != "ok", -item[1], item[0])))


def count_words(statuses: list[str]) -> str:
    """`250 ok, 6 overlapping_atoms`."""
    return ", ".join(f"{n} {status}" for status, n in status_counts(statuses).items())


Advance = Callable[[int], Any]
"""How long-running functions report progress: called with the number of items just finished."""
