"""What a crystal is called by what the reference knows of it."""

from __future__ import annotations

from typing import Any

from crystalformer_rl.tables.discovery_columns import KNOWN_COMPOUND

_Row = dict[str, Any]

VERDICTS = ("new", "known_formula", "rediscovered", "retrieved")
"""What a crystal is, by what the reference knows of it: most to say first."""


def verdict(row: _Row) -> str:
    """`retrieved` from the pretraining set, `rediscovered` from the held-out set, `known_formula` in a structure that this reference does not hold, or `new`."""
    if not row["novel"]:
        return "retrieved"
    if row["rediscovered"]:
        return "rediscovered"
    return "known_formula" if row["known_level"] in KNOWN_COMPOUND else "new"
