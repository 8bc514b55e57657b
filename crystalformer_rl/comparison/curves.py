"""The course of each arm: what its crystals are worth, update by update, against the evaluations spent."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from crystalformer_rl.comparison.policy_run import Row, Run
from crystalformer_rl.comparison.selection import best_first
from crystalformer_rl.crystal.prototype import Kind, kind
from crystalformer_rl.hull.stability import is_stable
from crystalformer_rl.intervals import Estimate, fraction, mean
from crystalformer_rl.tables.column import table_of_rows
from crystalformer_rl.tables.comparison_columns import CURVES
from crystalformer_rl.tables.status import OK


class Rollouts:
    """The crystals of a run's fine-tuning as arrays, in their order.

    update: (N,) of each; reward: (N,) NaN where unknown; stable, known: (N,) bool; kind: (N,) numbers of kinds, -1 where
    there is no crystal; rank: (N,) places in the order in which best of N takes them, N where it does not.
    """

    def __init__(self, rows: Sequence[Row], threshold: float) -> None:
        numbers: dict[Kind, int] = {}
        self.update = np.array([row["update"] for row in rows], int)
        self.reward = np.array([np.nan if row["reward"] is None else row["reward"] for row in rows], float)
        self.stable = np.array([_stable(row, threshold) for row in rows], bool)
        self.known = np.array([bool(row["known"]) for row in rows], bool)
        self.kind = np.array([_number(row, numbers) for row in rows], int)
        order = best_first(rows)
        self.rank = np.full(len(rows), len(rows))
        self.rank[order] = np.arange(len(order))

    def sun(self, where: np.ndarray) -> np.ndarray:
        """Which of the crystals at these places are stable, the first of their kind among them, and of none known."""
        first = np.zeros(len(where), bool)
        first[np.unique(self.kind[where], return_index=True)[1]] = True
        return first & self.stable[where] & ~self.known[where] & (self.kind[where] >= 0)

    def found(self) -> np.ndarray:
        """(N,) bool: the first stable crystals of each kind that is not known, whatever came before of that kind."""
        good = np.flatnonzero(self.stable & ~self.known & (self.kind >= 0))
        first = np.zeros(len(self.kind), bool)
        first[good[np.unique(self.kind[good], return_index=True)[1]]] = True
        return first

    def selection(self, last: int, n: int) -> np.ndarray:
        """Places of the `n` crystals that best of N takes of the updates up to `last`, each kind once."""
        places = np.flatnonzero((self.update <= last) & (self.rank < len(self.rank)) & (self.kind >= 0))
        places = places[np.argsort(self.rank[places])]
        return places[np.sort(np.unique(self.kind[places], return_index=True)[1])][:n]


def _stable(row: Row, threshold: float) -> bool:
    above = row["e_above_hull"]
    return row["status"] == OK and above is not None and is_stable(above, threshold)


def _number(row: Row, numbers: dict[Kind, int]) -> int:
    if row["space_group"] is None or not row["wyckoff"]:
        return -1
    return numbers.setdefault(kind(row["space_group"], row["wyckoff"], row["elements"]), len(numbers))


def curves_table(runs: Sequence[Run]) -> pa.Table:
    """The CURVES table: a row for each update of each arm's seed."""
    rows = [row for run in runs if run.updates for row in _curve(run)]
    return table_of_rows(CURVES, rows)


def _curve(run: Run) -> list[Row]:
    rollouts = Rollouts(run.rollouts, run.metrics["stability_threshold"])
    rows, spent = [], 0
    found, selects = rollouts.found(), run.selects
    for update in run.updates:
        spent += update["evaluations"]
        number = update["update"]
        where = rollouts.selection(number, run.metrics["n"]) if selects else np.flatnonzero(rollouts.update == number)
        n = len(where)
        rewards = rollouts.reward[where]
        rows.append(
            {
                "policy": run.policy,
                "arm": run.arm,
                "seed": run.seed,
                "update": number,
                "evaluations": spent,
                "n": n,
                "sun_found": int(found[rollouts.update <= number].sum()),
                "stable_fraction": float(rollouts.stable[where].sum() / n) if n else None,
                "sun_fraction": float(rollouts.sun(where).sum() / n) if n else None,
                "reward_mean": float(np.nanmean(rewards)) if np.isfinite(rewards).any() else None,
                "kl": update["kl"],
                "entropy": update["entropy"],
                "unique_fraction": len(np.unique(rollouts.kind[where][rollouts.kind[where] >= 0])) / n if n else None,
            }
        )
    return rows


def base_level(runs: Sequence[Run]) -> dict[str, Estimate]:
    """What the crystals of the unmoved policy are worth by the same measures: the level from which the curves start.

    They are all crystals of the arms whose policy never moves; without such an arm those of the first update of each
    seed. Fractions have Wilson's intervals, the reward that of its mean.
    """
    still = [run for run in runs if run.updates and not run.moves]
    seeds: dict[int | None, Run] = {}
    for run in runs:
        if run.updates and (not run.moves or not still):
            seeds.setdefault(run.seed, run)
    count, stable, sun = 0, 0, 0
    rewards: list[np.ndarray] = []
    for run in seeds.values():
        rollouts = Rollouts(run.rollouts, run.metrics["stability_threshold"])
        for number in np.unique(rollouts.update) if still else [run.updates[0]["update"]]:
            where = np.flatnonzero(rollouts.update == number)
            count, stable = count + len(where), stable + int(rollouts.stable[where].sum())
            sun += int(rollouts.sun(where).sum())
            rewards.append(rollouts.reward[where])
    known = np.concatenate(rewards) if rewards else np.empty(0)
    known = known[np.isfinite(known)]
    level = {"stable_fraction": fraction(stable, count), "sun_fraction": fraction(sun, count)}
    return level | ({"reward_mean": mean(known)} if len(known) else {})
