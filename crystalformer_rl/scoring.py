"""Scores of sampled crystals: energies from a potential's worker process, distances to the hull, rewards."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from crystalformer_rl.artifacts import CRYSTALS, STATUS, make_table
from crystalformer_rl.crystal.structure import crystal_columns
from crystalformer_rl.crystal.tokens import Sites, primitive
from crystalformer_rl.finetune.rollout import Score, Scores
from crystalformer_rl.potential.client import PotentialWorker
from crystalformer_rl.rewards import StabilityReward


def stability_score(worker: PotentialWorker, reward: StabilityReward) -> Score:
    """The score of a batch by its unrelaxed energy above the hull, in the worker's potential."""

    def score(sites: Sequence[Sites | None], statuses: Sequence[str]) -> Scores:
        table = _crystals_table(sites, statuses)
        energies = worker.energies(table)
        energy, found = energies.column("energy").to_pylist(), energies.column("status").to_pylist()
        scored = reward.score(table.column("atomic_numbers").to_pylist(), energy, found)
        column = {name: scored.column(name).to_pylist() for name in scored.column_names}
        return Scores(
            reward=np.array(column["reward"], float),
            energy=_floats(energy),
            formation_energy=_floats(column["formation_energy"]),
            e_above_hull=_floats(column["e_above_hull"]),
            suspect=np.array([bool(s) for s in column["suspect"]]),
            status=column["status"],
            evaluations=sum(s is not None for s in sites),
        )

    return score


def _crystals_table(sites: Sequence[Sites | None], statuses: Sequence[str]) -> pa.Table:
    """Crystals in their primitive cells, the cheapest for a potential."""
    columns = crystal_columns([None if s is None else primitive(s) for s in sites])
    ids = [str(i) for i in range(len(sites))]
    return make_table((*CRYSTALS, STATUS), {"id": ids, **columns, "status": list(statuses)})


def _floats(values: Sequence[float | None]) -> np.ndarray:
    return np.array([np.nan if v is None else v for v in values], float)
