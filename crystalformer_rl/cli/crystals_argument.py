"""Crystals that a command is given: read, and what reading left or could not use said on standard error."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    import pyarrow as pa

_MOST = 8
"""Lines of a kind; many files fail for few reasons."""


def read_told(paths: Sequence[str]) -> pa.Table:
    """`read_crystals`, with a line for each crystal that cannot be used or needs a word, and for each file that was left."""
    from crystalformer_rl.reading.inputs import read_crystals

    table = read_crystals(paths)
    _tell([f"{row['id']}: {_about(row)}" for row in _noted(table)], "crystals")
    _tell([f"{one['file']} is not read: {one['why']}" for one in left_unread(table)], "files")
    return table


def left_unread(table: pa.Table) -> list[dict[str, str]]:
    """Files of a folder or an archive that were not read: `file` and `why`."""
    from crystalformer_rl.tables.provenance import record_of

    return list(record_of(table).get("left_unread", []))


def _noted(table: pa.Table) -> list[dict[str, Any]]:
    return [row for row in table.select(["id", "status", "note"]).to_pylist() if row["note"]]


def _about(row: dict[str, Any]) -> str:
    return str(row["note"]) if row["status"] == "ok" else f"{row['status']} ({row['note']})"


def _tell(lines: Sequence[str], what: str) -> None:
    for line in lines[:_MOST]:
        click.echo(f"note: {line}", err=True)
    if len(lines) > _MOST:
        click.echo(f"note: and {len(lines) - _MOST} more {what}.", err=True)
