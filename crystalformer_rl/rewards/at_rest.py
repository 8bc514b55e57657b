"""What relaxed crystals earn: the reward that a run fine-tunes by, on the figures of evaluated crystals."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from crystalformer_rl.crystal.encode import EncodeError, symmetrize
from crystalformer_rl.crystal.structure import Crystal, crystals_from_table
from crystalformer_rl.crystal.tokens import Sites
from crystalformer_rl.errors import InputError
from crystalformer_rl.rewards.algebra import Reward
from crystalformer_rl.rewards.scored_batch import FORCE, NEW_FORMULA, NOVELTY, Batch
from crystalformer_rl.tables.discovery_columns import EVALUATED, KNOWN_COMPOUND
from crystalformer_rl.tables.figure_columns import FIGURES

_FIGURES = tuple(column.name for column in FIGURES if column.name in {known.name for known in EVALUATED})


def rewards_at_rest(reward: Reward, evaluated: pa.Table) -> np.ndarray:
    """Rewards (N,) of the rows of an EVALUATED table by the figures of the relaxed crystals.

    `novelty` is by structure here: 1 where no pretraining structure matches; and `new_formula` 1 where the reference knows none. Rows that failed earn the price of failing.
    Raises InputError for a reward that looks at forces, which are gone after relaxation.
    """
    if FORCE in reward.needs:
        raise InputError("the reward looks at forces, which relaxation takes away; rank by another column than reward.")
    crystals, _ = crystals_from_table(evaluated)
    figures = {name: evaluated.column(name).to_numpy(zero_copy_only=False).astype(float) for name in _FIGURES}
    figures[NOVELTY] = np.array([np.nan if new is None else float(new) for new in evaluated.column("novel").to_pylist()])
    figures[NEW_FORMULA] = np.array(
        [
            np.nan if level is None else float(level not in KNOWN_COMPOUND)
            for level in evaluated.column("known_level").to_pylist()
        ]
    )
    numbers = [None if crystal is None else np.asarray(crystal.atomic_numbers) for crystal in crystals]
    sites = [None if crystal is None else _sites(crystal) for crystal in crystals]
    return reward.score(Batch(numbers, evaluated.column("status").to_pylist(), figures, sites)).reward


def _sites(crystal: Crystal) -> Sites | None:
    try:
        return symmetrize(crystal)
    except EncodeError:
        return None
