"""What a crystal is worth: distance to the hull turned into a bounded reward, with failures priced.

The reward is higher for better crystals and has the unit of its term (eV/atom
for stability). A crystal that no stage could judge earns a stated penalty
instead of being dropped, so that a policy cannot gain by making crystals that
fail. Nothing here knows a model: numbers and statuses come in, numbers go out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from crystalformer_rl.artifacts import HULL, OK, STATUS, Column, make_table
from crystalformer_rl.errors import InputError
from crystalformer_rl.hull import SUSPECT_BELOW, Hull, row_status


@dataclass(frozen=True)
class StabilitySettings:
    """Bounds of the stability reward; all in eV/atom.

    most_below: a crystal further below the hull than this earns no more (it is
    flagged as suspect, and a fault of the potential must not pay). most_above: one
    further above loses no more, so that a single wild crystal does not rule a
    batch. failure_reward: what a crystal without an energy earns; None means the
    reward at `most_above`.
    """

    most_below: float = SUSPECT_BELOW
    most_above: float = 1.0
    failure_reward: float | None = None

    def __post_init__(self) -> None:
        if not (0 <= self.most_below < np.inf and 0 < self.most_above < np.inf):
            raise InputError(
                f"reward bounds most_below = {self.most_below} and most_above = {self.most_above} make no interval around "
                "the hull; give finite numbers of eV/atom, the first at least 0, the second above 0."
            )
        if self.failure_reward is not None and not np.isfinite(self.failure_reward):
            raise InputError(
                f"failure_reward = {self.failure_reward} is not finite; give a number of eV/atom or leave it out."
            )

    @property
    def reward_of_failure(self) -> float:
        return -self.most_above if self.failure_reward is None else self.failure_reward


@dataclass(frozen=True)
class Rewards:
    """Rewards of N crystals with the parts that they are made of.

    reward: (N,) finite; terms: name → (N,) the value of each term before its sum,
    NaN where the crystal failed; clipped: (N,) bool, a bound decided; failed: (N,)
    bool, the reward is the penalty; statuses: N names, as they came in.
    """

    reward: np.ndarray
    terms: dict[str, np.ndarray]
    clipped: np.ndarray
    failed: np.ndarray
    statuses: list[str]


def reward_terms(e_above_hull: np.ndarray, statuses: Sequence[str], settings: StabilitySettings | None = None) -> Rewards:
    """The stability reward −e_above_hull, clipped, with failures at a stated penalty.

    e_above_hull: (N,) eV/atom, NaN where there is none; statuses: N names. A crystal
    fails when its status is not ok or its distance is not finite. The reward lies in
    [−most_above, most_below].
    """
    settings = settings or StabilitySettings()
    distances = np.asarray(e_above_hull, float)
    if distances.shape != (len(statuses),):
        raise ValueError(f"{len(statuses)} statuses for distances of shape {distances.shape}")
    failed = ~np.isfinite(distances) | np.array([status != OK for status in statuses], bool)
    stability = np.where(failed, np.nan, 0.0 - distances)
    bounded = np.clip(stability, -settings.most_above, settings.most_below)
    reward = np.where(failed, settings.reward_of_failure, bounded)
    return Rewards(reward, {"stability": stability}, ~failed & (bounded != stability), failed, list(statuses))


_HULL = {column.name: column for column in HULL}
SCORES = (
    _HULL["formation_energy"],
    _HULL["e_above_hull"],
    _HULL["suspect"],
    Column(
        "reward", pa.float64(), "eV/atom", "reward: minus the energy above hull, clipped; the penalty where status is not ok"
    ),
    STATUS,
)


@dataclass(frozen=True)
class StabilityReward:
    """Scores crystals by their distance to the hull of a reference.

    The energies must come from the potential that `hull.identity` names; whoever
    makes them checks it (`hull.check_same_potential`).
    """

    hull: Hull
    settings: StabilitySettings = field(default_factory=StabilitySettings)

    def score(
        self,
        atomic_numbers: Sequence[Sequence[int] | np.ndarray | None],
        energies: Sequence[float | None] | np.ndarray,
        statuses: Sequence[str],
    ) -> pa.Table:
        """Columns of `SCORES` for N crystals, in order.

        atomic_numbers: the atoms of each crystal (None where there is no crystal);
        energies: (N,) total energies, eV/atom, NaN or None where there is none;
        statuses: N names, kept where not ok. A crystal of status ok without energy
        becomes `potential_failed`, one with an element that the reference lacks
        `no_reference_energy`.
        """
        n = len(statuses)
        formation = np.full(n, np.nan)
        distance = np.full(n, np.nan)
        suspect: list[bool | None] = [None] * n
        found: list[str] = []
        for i, (numbers, energy, status) in enumerate(zip(atomic_numbers, energies, statuses, strict=True)):
            found.append(row_status(self.hull, numbers, energy, status))
            if found[i] == OK and numbers is not None and energy is not None:
                formation[i] = self.hull.formation_energy(numbers, energy)
                result = self.hull.distance(numbers, formation[i])
                distance[i], suspect[i] = result.e_above_hull, result.suspect
        rewards = reward_terms(distance, found, self.settings)
        return make_table(
            SCORES,
            {
                "formation_energy": _nullable(formation),
                "e_above_hull": _nullable(distance),
                "suspect": suspect,
                "reward": rewards.reward,
                "status": found,
            },
        )


def _nullable(values: np.ndarray) -> pa.Array:
    return pa.array(values, mask=np.isnan(values))
