"""From the folder of a run to its policies: crystals, the course of fine-tuning, and what the judge said."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from crystalformer_rl.comparison.consistency import check_comparable
from crystalformer_rl.comparison.policy_run import ARM_AND_SEED, BASE, Row, Run
from crystalformer_rl.comparison.round_folders import round_folders
from crystalformer_rl.errors import InputError
from crystalformer_rl.reference.identity import PotentialIdentity
from crystalformer_rl.tables.column import Column, pick
from crystalformer_rl.tables.discovery_columns import EVALUATED, JUDGED_CRYSTALS, METRICS
from crystalformer_rl.tables.parquet import read_table
from crystalformer_rl.tables.provenance import read_provenance, sha256
from crystalformer_rl.tables.rollout_columns import ROLLOUTS, UPDATES

MAIN = "tuned"
_ROLLOUTS = pick(ROLLOUTS, "id", "space_group", "wyckoff", "elements", "update", "e_above_hull", "known", "reward", "status")
_UPDATES = pick(UPDATES, "update", "evaluations", "kl", "entropy")


def read_runs(folder: str | Path, policies: Sequence[str] = (), advance: Callable[[int], object] | None = None) -> list[Run]:
    """The base policy first, then every seed of every arm, in the order asked for, else by name.

    policies: only these; the base policy is always read. Raises InputError where the folder holds no base policy or no arms,
    where some are not finished and none are chosen, and where runs cannot be compared (`check_comparable`).
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; give the folder of a run with `arms.policies`.")
    if not _evaluated(folder, BASE):
        raise InputError(f"{folder} holds no evaluation of the base policy (evaluation/base); run the pipeline on it first.")
    arms = [name for name in dict.fromkeys(policies) if name != BASE]
    if policies and not arms:
        raise InputError("The base policy alone is named; name an arm with its seed too, such as ppo-0.")
    arms = arms or _arms(folder)
    if not arms:
        raise InputError(
            f"{folder} holds no arms to compare (finetune/ARM-SEED and evaluation/ARM-SEED); name some in `arms.policies` "
            "of the configuration and run the pipeline."
        )
    runs = []
    for name in [BASE, *arms]:
        runs.append(_read(folder, name))
        if advance is not None:
            advance(1)
    check_comparable(folder, runs)
    return runs


def _arms(folder: Path) -> list[str]:
    """All policies besides base and main run, by arm and seed. Raises InputError where some are not evaluated yet."""
    begun = [path.parent.name for name in ("round_*", "settings.json") for path in folder.glob(f"finetune/*/{name}")]
    begun += [path.parent.name for path in folder.glob("evaluation/*/metrics.parquet")]
    names = sorted({name for name in begun if ARM_AND_SEED.fullmatch(name)}, key=_arm_and_seed)
    unfinished = [name for name in names if not _evaluated(folder, name)]
    if unfinished:
        raise InputError(
            f"{folder} holds no evaluation of {', '.join(unfinished)} yet (evaluation/ARM-SEED); let the pipeline finish, "
            "or choose what to compare."
        )
    return names


def _evaluated(folder: Path, policy: str) -> bool:
    return (folder / "evaluation" / policy / "metrics.parquet").is_file()


def _read(folder: Path, policy: str) -> Run:
    arm, seed = _arm_and_seed(policy)
    place = folder / "evaluation" / policy
    inputs = [place / "metrics.parquet", place / "crystals.parquet"]
    metrics = _rows(inputs[0], METRICS)[0]
    crystals = _rows(inputs[1], EVALUATED)
    judged_at = folder / "judge" / f"{policy}.parquet"
    judged = _judged(judged_at, crystals) if judged_at.is_file() else None
    found: Row = {}
    if policy != BASE:
        found = _course(folder / "finetune" / policy)
    inputs += found.pop("files", []) + ([judged_at] if judged is not None else [])
    return Run(
        policy, arm, seed, metrics, crystals, judged,
        judge=_potential(judged_at) if judged is not None else None, inputs=tuple(inputs), **found,
    )  # fmt: skip


def _arm_and_seed(policy: str) -> tuple[str, int | None]:
    if policy == BASE:
        return BASE, None
    parts = ARM_AND_SEED.fullmatch(policy)
    if parts is None:
        raise InputError(f"'{policy}' is not a policy of a comparison; give base, or an arm with its seed such as ppo-0.")
    if parts[1] in (BASE, MAIN):
        raise InputError(f"'{policy}' cannot be compared, as '{parts[1]}' is the name of another policy; rename the arm.")
    return parts[1], int(parts[2])


def _rows(path: Path, columns: Sequence[Column]) -> list[Row]:
    return read_table(path, columns).select([column.name for column in columns]).to_pylist()


def _judged(path: Path, crystals: Sequence[Row]) -> list[Row]:
    """The judge's rows in the order of the crystals."""
    by_id = {row["id"]: row for row in _rows(path, JUDGED_CRYSTALS)}
    if by_id.keys() != {row["id"] for row in crystals}:
        raise InputError(f"{path} judges other crystals than were evaluated; run `judge` again on these.")
    return [by_id[row["id"]] for row in crystals]


def _course(place: Path) -> Row:
    """Everything of a policy's rounds, the rounds in numerical order."""
    rounds = round_folders(place)
    files = [path / f"{name}.parquet" for path in rounds for name in ("rollouts", "updates")]
    record = read_provenance(files[1]) if files[1].is_file() else {}
    settings_at = place / "settings.json"
    parameters = record.get("parameters", {})
    settings: Row = {"finetune": parameters, "reward": parameters.get("reward")}
    digest = str(record.get("parameters_sha256", ""))
    if settings_at.is_file():
        settings, digest = _settings(settings_at), sha256(settings_at)
        files.append(settings_at)
    return {
        "rollouts": [row for path in rounds for row in _rows(path / "rollouts.parquet", _ROLLOUTS)],
        "updates": [row for path in rounds for row in _rows(path / "updates.parquet", _UPDATES)],
        "settings": settings,
        "settings_sha256": digest,
        "potential": PotentialIdentity.from_record(record.get("potential")),
        "files": files,
    }


def _settings(path: Path) -> Row:
    """The run configuration that fine-tuning had."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is not valid JSON ({error}); let the pipeline write it again.") from error
    if not isinstance(found, dict) or not all(isinstance(found.get(name, {}), dict) for name in ("finetune", "reward")):
        raise InputError(f"{path} does not hold sections `finetune` and `reward`; let the pipeline write it again.")
    return found


def _potential(path: Path) -> PotentialIdentity | None:
    return PotentialIdentity.from_record(read_provenance(path).get("potential"))
