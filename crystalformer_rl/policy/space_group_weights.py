"""How often each space group is drawn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from crystalformer_rl.crystal.wyckoff import check_space_group
from crystalformer_rl.errors import InputError
from crystalformer_rl.tables.column import pick
from crystalformer_rl.tables.crystal_columns import TOKENS
from crystalformer_rl.tables.parquet import read_table

_GROUPS = range(1, 231)


def space_group_weights(
    card: Mapping[str, Any], policy: str, chosen: Sequence[int] = (), table: str | Path | None = None
) -> list[float]:
    """Weights of the 230 space groups: those chosen, alike; else as often as in a table of tokens; else as in training.

    card: of the policy, which may say how often it saw each; policy: its name in messages. Raises InputError for a table
    without space groups, and for a policy that says nothing where nothing else is given.
    """
    if chosen:
        groups = {check_space_group(group) for group in chosen}
        return [float(group in groups) for group in _GROUPS]
    if table is not None:
        rows = read_table(table, pick(TOKENS, "space_group"))
        counts = Counter(rows.column("space_group").to_pylist())
        if not any(counts[group] for group in _GROUPS):
            raise InputError(f"{table} says no crystal's space group; give a table that does, or choose space groups.")
        return [float(counts[group]) for group in _GROUPS]
    if "space_group_counts" not in card:
        raise InputError(
            f"{policy} does not say which space groups it was trained on; choose some, or give a table of tokens whose space "
            "groups are followed."
        )
    return [float(n) for n in card["space_group_counts"]]
