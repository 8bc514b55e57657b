"""Reading the configuration of a run, from a file or from a mapping that was read elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from crystalformer_rl.config.messages import validate
from crystalformer_rl.config.run import RunSettings
from crystalformer_rl.config.yaml_file import read_mapping
from crystalformer_rl.errors import InputError
from crystalformer_rl.finetune.finetune_settings import FinetuneSettings
from crystalformer_rl.settings import Section

POLICY_SUFFIXES = (".safetensors", ".pkl")
_Section = TypeVar("_Section", bound=Section)


def load_config(path: str | Path) -> RunSettings:
    """Read a run's configuration; what the file leaves out takes its default.

    Raises InputError for a file that is missing, no YAML, or holds a wrong key or value.
    """
    return parse_config(read_mapping(path), where=str(path))


def load_section(path: str | Path, section: type[_Section]) -> _Section:
    """Read a file that holds the settings of one section alone."""
    found: _Section = validate(section, read_mapping(path), str(path))
    return found


def parse_config(values: Mapping[str, Any], where: str = "the configuration") -> RunSettings:
    """Check a mapping; `where` names its origin in errors."""
    config: RunSettings = validate(RunSettings, values, where)
    for name in config.arms.policies:
        arm_settings(config, name, where)
    judge = config.judge
    if judge is not None and judge.potential == config.resources.potential and (config.arms.policies or config.rank.judge):
        raise InputError(
            f"{where}: 'judge.potential' is {judge.potential}, which gives the energies already; name another, or set "
            "`judge: null`."
        )
    return config


def arm_settings(config: RunSettings, name: str, where: str = "the configuration") -> FinetuneSettings:
    """The settings of fine-tuning of an arm. Raises InputError for wrong ones, and where its cost would differ."""
    arm = config.arms.policies[name]
    place = f"{where}, arms.policies.{name}.finetune"
    if arm.kind == "best_of_n" and set(arm.finetune) - {"temperature", "density_temperature"}:
        raise InputError(f"{place}: an arm that keeps the best of the base policy's samples learns nothing; leave this out.")
    merged = {**config.finetune.model_dump(), **arm.finetune, **({"algorithm": "none"} if arm.kind == "best_of_n" else {})}
    settings: FinetuneSettings = validate(FinetuneSettings, merged, place)
    wanted, found = (own.updates * own.batch for own in (config.finetune, settings))
    if arm.kind == "finetune" and settings.algorithm == "none" and settings.density_temperature == 1:
        raise InputError(
            f"{place}: with 'algorithm' none and 'density_temperature' 1 the policy stays as it is; leave the arm out, or let 'kind' be "
            "best_of_n."
        )
    if settings.rounds != config.finetune.rounds:
        raise InputError(f"{place}: 'rounds' is {settings.rounds}; all arms have finetune.rounds, {config.finetune.rounds}.")
    if found != wanted:
        raise InputError(
            f"{place}: {settings.updates} updates of {settings.batch} crystals are {found} evaluations a round, and arms are "
            f"compared at the same number; let updates · batch be {wanted}, as in finetune."
        )
    sampled = settings.rounds * found
    if arm.kind == "best_of_n" and config.sample.n > sampled:
        raise InputError(
            f"{place}: the best {config.sample.n} (sample.n) of {sampled} crystals are asked for; sample fewer, or let "
            "rounds · updates · batch be more."
        )
    return settings
