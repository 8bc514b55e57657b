"""From the folder of a run to what its arms scored."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from crystalformer_rl.comparison.policy_run import ARM_AND_SEED
from crystalformer_rl.comparison.round_folders import round_folders
from crystalformer_rl.errors import InputError
from crystalformer_rl.hull.stability import STABLE_BELOW
from crystalformer_rl.retrieval.scored_pool import Pool
from crystalformer_rl.scoring.known_kinds import KnownKinds
from crystalformer_rl.tables.column import Column, pick
from crystalformer_rl.tables.parquet import read_table
from crystalformer_rl.tables.rollout_columns import ROLLOUTS, UPDATES

SCORED = pick(ROLLOUTS, "id", "space_group", "wyckoff", "elements", "round", "e_above_hull", "reward", "status")
"""What is read of crystals that were scored."""

_UPDATES = pick(UPDATES, "round", "evaluations")


def read_pools(
    folder: str | Path, policies: Sequence[str], known: KnownKinds, threshold: float = STABLE_BELOW
) -> tuple[list[Pool], list[Path]]:
    """The pools of the policies named (`tuned`, `ppo-0` …; none: all in finetune/), by name, and the files that were read.

    Raises InputError where the folder holds no crystals that were scored for one of them.
    """
    place = Path(folder) / "finetune"
    names = list(policies) or sorted(
        path.name for path in place.glob("*") if (path / "round_1" / "rollouts.parquet").is_file()
    )
    if not names:
        raise InputError(
            f"{place} holds no crystals that were scored (POLICY/round_1/rollouts.parquet); run the pipeline first."
        )
    pools, files = [], []
    for name in names:
        rounds = round_folders(place / name)
        files += [path / f"{table}.parquet" for path in rounds for table in ("rollouts", "updates")]
        rollouts = [row for path in rounds for row in _rows(path / "rollouts.parquet", SCORED)]
        updates = [row for path in rounds for row in _rows(path / "updates.parquet", _UPDATES)]
        found = ARM_AND_SEED.fullmatch(name)
        arm, seed = (found[1], int(found[2])) if found else (name, None)
        pools.append(Pool.of(name, arm, seed, rollouts, updates, known, threshold))
    return pools, files


def _rows(path: Path, columns: Sequence[Column]) -> list[dict[str, Any]]:
    return read_table(path, columns).select([column.name for column in columns]).to_pylist()
