"""Rows of tables found by their ids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from crystalformer_rl.errors import InputError


def unique_ids(table: pa.Table, what: str) -> list[str]:
    """The ids of a table; InputError where one occurs twice."""
    ids: list[str] = table.column("id").to_pylist()
    twice = repeated_id(ids)
    if twice is not None:
        raise InputError(f"The id '{twice}' occurs twice among {what}; give each crystal an id of its own over all files.")
    return ids


def repeated_id(ids: Sequence[str]) -> str | None:
    """The first id that was there before; None where each is the only one."""
    seen: set[str] = set()
    for name in ids:
        if name in seen:
            return name
        seen.add(name)
    return None


def rows_in_order(table: pa.Table, ids: Sequence[str], what: str) -> list[dict[str, Any]]:
    """The rows of a stage's table in the order of `ids`; InputError where it holds other crystals than those."""
    own = unique_ids(table, f"the rows of the {what} table")
    missing = next(iter(_only_in(ids, own)), None)
    strange = next(iter(_only_in(own, ids)), None)
    if missing is not None:
        raise InputError(f"The {what} table has no row for crystal '{missing}'; run that stage again on these crystals.")
    if strange is not None:
        raise InputError(f"The {what} table has a row '{strange}' that is not among the crystals; give all of its crystals.")
    by_id = dict(zip(own, table.to_pylist(), strict=True))
    return [by_id[name] for name in ids]


def _only_in(first: Sequence[str], second: Sequence[str]) -> list[str]:
    other = set(second)
    return [name for name in first if name not in other]
