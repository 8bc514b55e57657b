"""Best of N: the best of many sampled crystals by their reward, each kind once."""

from __future__ import annotations

from typing import NamedTuple

import pyarrow as pa

from crystalformer_rl.comparison.selection import best_first
from crystalformer_rl.crystal.prototype import kind
from crystalformer_rl.errors import InputError
from crystalformer_rl.tables.column import pick
from crystalformer_rl.tables.crystal_columns import SAMPLES
from crystalformer_rl.tables.provenance import with_record
from crystalformer_rl.tables.rollout_columns import ROLLOUTS

COLUMNS = (*SAMPLES, *pick(ROLLOUTS, "reward"))
"""What selection reads of the crystals of fine-tuning."""


class Selected(NamedTuple):
    """table: the SAMPLES table, best first; rewards: of its rows; sampled: crystals to choose from; kinds: different ones."""

    table: pa.Table
    rewards: list[float]
    sampled: int
    kinds: int


def select(rollouts: pa.Table, n: int, offset: int = 0, *, or_fewer: bool = False, source: str = "the crystals") -> Selected:
    """The `n` best crystals after the `offset` best, with the ids that they had.

    rollouts: crystals of all rounds with the columns of `COLUMNS`. A kind is a composition with space group and Wyckoff
    letters; of one kind the best stands for all, and equal rewards are taken in the order of the ids. Crystals that failed
    are not taken. `source` names the table in errors. Raises InputError for ids that occur twice, and where
    there are fewer kinds than are asked for, with `or_fewer` where there are none.
    """
    rows = rollouts.select(["id", "space_group", "wyckoff", "elements", "reward", "status"]).to_pylist()
    if len({row["id"] for row in rows}) < len(rows):
        raise InputError(f"{source}: ids occur twice; give the tables of one run, each round once.")
    seen, best = set(), []
    for k in best_first(rows):
        this = kind(rows[k]["space_group"], rows[k]["wyckoff"], rows[k]["elements"])
        if this not in seen:
            seen.add(this)
            best.append(k)
    if len(best) < (offset + 1 if or_fewer else offset + n):
        passed = f" after the {offset} best" if offset else ""
        raise InputError(
            f"{source}: of {len(rows)} crystals, without failed ones, only {len(best)} are of "
            f"different kinds, but {n}{passed} are asked for; ask for fewer, or sample more."
        )
    chosen = rollouts.take(pa.array(best[offset : offset + n], pa.int64()))
    table = with_record(chosen.select([column.name for column in SAMPLES]), {"stage": "select"})
    return Selected(table, chosen.column("reward").to_pylist(), len(rows), len(best))
