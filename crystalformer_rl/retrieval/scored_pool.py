"""What one way of spending evaluations scored, in its order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from crystalformer_rl.comparison.selection import best_first
from crystalformer_rl.crystal.prototype import Kind, kind
from crystalformer_rl.hull.stability import is_stable
from crystalformer_rl.scoring.known_kinds import KnownKinds
from crystalformer_rl.tables.status import OK

Row = Mapping[str, Any]
Rung = Literal["structure", "formula", "none"]
"""What the pretraining set has of a crystal: its kind; its formula in another kind; neither."""


@dataclass(frozen=True)
class Pool:
    """N crystals of one seed of an arm.

    round: (N,) of each; kinds: of each, None where there is no crystal; rungs: see `Rung`; stable: (N,) bool, as scored; best: places of those
    that may be selected, by falling reward, each kind once and its best; evaluations: of the potential up to the end of each round.
    """

    policy: str
    arm: str
    seed: int | None
    round: np.ndarray
    kinds: Sequence[Kind | None]
    rungs: Sequence[Rung | None]
    stable: np.ndarray
    best: Sequence[int]
    evaluations: Mapping[int, int]

    @classmethod
    def of(
        cls,
        policy: str,
        arm: str,
        seed: int | None,
        rollouts: Sequence[Row],
        updates: Sequence[Row],
        known: KnownKinds,
        threshold: float,
    ) -> Pool:
        """From the rows of ROLLOUTS and UPDATES of all rounds. known: what the policy was trained on; threshold: eV/atom above the hull."""
        kinds = [_kind(row) for row in rollouts]
        spent: dict[int, int] = {}
        for update in updates:
            spent[update["round"]] = spent.get(update["round"], 0) + update["evaluations"]
        numbers = sorted(spent)
        return cls(
            policy,
            arm,
            seed,
            np.array([row["round"] for row in rollouts], int),
            kinds,
            [None if own is None else _rung(own, known) for own in kinds],
            np.array([_stable(row, threshold) for row in rollouts], bool),
            best_first(rollouts),
            dict(zip(numbers, np.cumsum([spent[n] for n in numbers]).tolist(), strict=True)),
        )

    def chosen(self, last: int, most: int | None) -> list[int]:
        """Places of the best of the rounds up to `last`, at most so many, each kind once."""
        seen: set[Kind] = set()
        places = []
        for place in self.best:
            own = self.kinds[place]
            if self.round[place] <= last and own is not None and own not in seen:
                seen.add(own)
                places.append(place)
                if len(places) == most:
                    break
        return places


def _kind(row: Row) -> Kind | None:
    if row["space_group"] is None or not row["wyckoff"]:
        return None
    return kind(row["space_group"], row["wyckoff"], row["elements"])


def _rung(own: Kind, known: KnownKinds) -> Rung:
    if own in known:
        return "structure"
    return "formula" if known.has_formula_of(own) else "none"


def _stable(row: Row, threshold: float) -> bool:
    above = row["e_above_hull"]
    return row["status"] == OK and above is not None and is_stable(above, threshold)
