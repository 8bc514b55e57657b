"""Whether runs may stand side by side: what the document says of all of them must be true of each."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from crystalformer_rl.comparison.policy_run import Run
from crystalformer_rl.errors import InputError
from crystalformer_rl.reference.identity import PotentialIdentity

_OF_THE_RUN = ("seed", "round", "reward")
"""Parameters of a round that are no settings of fine-tuning."""


def check_comparable(folder: Path, runs: Sequence[Run]) -> None:
    """Raise InputError unless the runs, read from `folder`, can be compared.

    Each must hold all its updates; all must have sampled as many crystals, with one reward, rewarding potential, stability
    threshold and judge, who judges all of them and is not the rewarding potential; seeds of an arm must have one setting.
    """
    arms = [run for run in runs if run.seed is not None]
    for run in arms:
        _check_updates(folder, run)
    _check_sampled(folder, arms)
    _check_seeds(folder, arms)
    _check_rewards(folder, arms)
    _check_thresholds(folder, runs)
    _check_judge(folder, runs)


def _check_updates(folder: Path, run: Run) -> None:
    numbers = [row["update"] for row in run.updates]
    whole = list(range(1, max(numbers) + 1))
    if numbers != whole or sorted({row["update"] for row in run.rollouts}) != whole:
        raise InputError(
            f"{folder}/finetune/{run.policy} does not hold updates 1 to {whole[-1]} once each with their crystals, so a "
            "round is missing or there twice; let the pipeline finish."
        )


def _check_sampled(folder: Path, arms: Sequence[Run]) -> None:
    # Evaluations of the potential differ by those crystals that fail before it is asked.
    if pair := _pair(arms, lambda run: len(run.rollouts)):
        (a, n), (b, m) = pair
        raise InputError(
            f"{folder}/finetune: {n} crystals were sampled for {a.policy} but {m} for {b.policy}, and arms are compared at "
            "the same number; let the pipeline finish, or choose others."
        )


def _check_seeds(folder: Path, arms: Sequence[Run]) -> None:
    for arm in dict.fromkeys(run.arm for run in arms):
        if pair := _pair([run for run in arms if run.arm == arm], _shared):
            (a, own), (b, other) = pair
            keys = sorted(key for key in own.keys() | other.keys() if own.get(key) != other.get(key))
            raise InputError(
                f"{folder}/finetune: {a.policy} and {b.policy} are seeds of one arm but differ in {', '.join(keys)}; let "
                "the pipeline make both again, or choose one of them."
            )


def _check_rewards(folder: Path, arms: Sequence[Run]) -> None:
    if pair := _pair(arms, lambda run: run.settings.get("reward")):
        (a, _), (b, _) = pair
        raise InputError(
            f"{folder}/finetune: {a.policy} and {b.policy} had different rewards, so they cannot be compared; let the "
            "pipeline make both again, or choose others."
        )
    if pair := _pair(arms, lambda run: run.potential):
        (a, own), (b, other) = pair
        raise InputError(
            f"{folder}/finetune: {a.policy} was rewarded by {own} but {b.policy} by "
            f"{other}; let the pipeline make both again, or choose others."
        )


def _check_thresholds(folder: Path, runs: Sequence[Run]) -> None:
    if pair := _pair(runs, lambda run: run.metrics["stability_threshold"]):
        (a, own), (b, other) = pair
        raise InputError(
            f"{folder}/evaluation: stable means at most {own:g} eV/atom above the hull for {a.policy} but {other:g} for "
            f"{b.policy}; run `evaluate` on all with one threshold."
        )


def _check_judge(folder: Path, runs: Sequence[Run]) -> None:
    judged = [run for run in runs if run.judged is not None]
    if judged and len(judged) < len(runs):
        missing = ", ".join(f"{run.policy}.parquet" for run in runs if run.judged is None)
        raise InputError(
            f"{folder}/judge lacks {missing}, while others are judged; let the pipeline finish, or remove {folder}/judge."
        )
    if pair := _pair(judged, lambda run: run.judge):
        (a, own), (b, other) = pair
        raise InputError(
            f"{folder}/judge: {a.policy} was judged by {own} but {b.policy} by "
            f"{other}; run `judge` on all with one potential."
        )
    for run in judged:
        if run.judge and any(run.judge == other.potential for other in runs):
            raise InputError(
                f"{folder}/judge: the judge, {run.judge}, is the potential that gave the rewards; judge "
                "by another one (arms.judge.potential)."
            )


def _shared(run: Run) -> dict[str, Any]:
    """The settings of fine-tuning that all seeds of an arm share."""
    return {key: value for key, value in run.settings.get("finetune", {}).items() if key not in _OF_THE_RUN}


def _pair(runs: Sequence[Run], value: Callable[[Run], Any]) -> tuple[tuple[Run, Any], tuple[Run, Any]] | None:
    """The first run and the first after it that has another value, with both; what is not recorded is no other value."""
    known = [(run, found) for run in runs if (found := value(run)) not in (None, {})]
    other = [pair for pair in known[1:] if _text(pair[1]) != _text(known[0][1])]
    return (known[0], other[0]) if other else None


def _text(value: Any) -> str:
    return str(value) if isinstance(value, PotentialIdentity) else json.dumps(value, sort_keys=True)
