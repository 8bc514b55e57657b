"""The configuration of a run: every setting declared once, with its default, bounds and meaning.

`load_config` reads a YAML or JSON file, `parse_config` a mapping that was read
elsewhere (Snakemake's). Both raise InputError in one sentence that names the
file, the setting, its value and what to do. `python -m crystalformer_rl.config`
writes the JSON schema that editors and the workflow use.
"""

from __future__ import annotations

import difflib
import json
import sys
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import AfterValidator, BaseModel, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from crystalformer_rl.errors import InputError
from crystalformer_rl.potential.relax_settings import RelaxSettings
from crystalformer_rl.rewards.reward_settings import RewardConfig
from crystalformer_rl.settings import Elements, Integer, Number, Positive, Section, Seed, SpaceGroup, Text, ascending

POLICY_SUFFIXES = (".safetensors", ".pkl")


class ResourcesConfig(Section):
    """What the stages read besides the policy."""

    reference: Text = Field(
        "embedded",
        description="Known crystals and their energies, the basis of hull and novelty: `embedded`, a name in the registry, "
        "or the path of a Parquet file made by `crystalformer-rl reference`.",
    )
    properties: Text = Field(
        "embedded",
        description="Models of band gap and dielectric constants: `embedded`, a name in the registry, or the path of a "
        ".safetensors file made by `crystalformer-rl train-properties`.",
    )
    potential: Text = Field(
        "chgnet",
        description="Interatomic potential for energies and relaxation: chgnet, chgnet-r2scan, mace:FILE, "
        "ase:package.module:Class, or the registry name of a checkpoint, such as mace-mpa-0-medium. The reference "
        "must have been computed with the same one.",
    )


class PolicyConfig(Section):
    """Where the base policy comes from."""

    source: Text = Field(
        "embedded",
        description="`embedded`; `pretrain` (train one on pretrain.data first); the registry name of a published "
        "checkpoint, such as crystalformer-alex20; or the path of a .safetensors or .pkl file.",
    )


class ShapeConfig(Section):
    """Size of the network; the names are those of the published configuration files."""

    num_layers: Integer = Field(4, ge=1, le=128, description="Transformer blocks.")
    num_heads: Integer = Field(4, ge=1, le=256, description="Attention heads.")
    key_size: Integer = Field(32, ge=2, le=1024, multiple_of=2, description="Size of a head's queries and keys; even.")
    model_size: Integer = Field(128, ge=1, le=8192, description="Width of the residual stream.")
    embed_size: Integer = Field(32, ge=1, le=4096, description="Size of the embeddings of space group, letter and element.")
    h0_size: Integer = Field(128, ge=1, le=8192, description="Hidden width of the head of the first Wyckoff letter.")


class TrainingConfig(Section):
    """How a base policy is trained."""

    epochs: Integer = Field(50, ge=1, le=100_000, description="Passes over the crystals at most; they fix the decay.")
    minutes: Number = Field(0.0, ge=0, le=100_000, description="Time limit, minutes; 0 means none.")
    batch_size: Integer = Field(64, ge=1, le=100_000, description="Crystals in a step.")
    learning_rate: Number = Field(1e-3, gt=0, le=1, description="Largest step size of AdamW.")
    dropout: Number = Field(0.1, ge=0, lt=1, description="Fraction of activations dropped.")


class PretrainConfig(Section):
    """Training a base policy; used only where policy.source is `pretrain`."""

    data: Text = Field(
        "mp20-train",
        description="Crystals to train on: a name in the registry or the path of a crystals table, CSV or "
        "folder of CIF files.",
    )
    shape: ShapeConfig = Field(ShapeConfig(), description="Size of the network.")
    training: TrainingConfig = Field(TrainingConfig(), description="How it is trained.")


class SampleConfig(Section):
    """Drawing crystals from a policy."""

    n: Integer = Field(256, ge=1, le=10_000_000, description="Crystals to sample from each policy.")
    batch: Integer = Field(
        128,
        ge=1,
        le=100_000,
        description="Crystals in a file and job. A larger n only adds files; another batch size makes all of them again.",
    )
    temperature: Number = Field(1.0, gt=0, le=10, description="Temperature of every choice; 1 samples the policy itself.")
    space_groups: Annotated[list[SpaceGroup], AfterValidator(ascending)] = Field(
        [],
        description="Space groups to sample in (1 to 230); none means the distribution that the policy was trained on.",
    )


class FinetuneConfig(Section):
    """Policy optimization towards crystals that earn more."""

    rounds: Integer = Field(4, ge=1, le=300, description="Rounds; each is one job that goes on from the one before.")
    updates: Integer = Field(5, ge=1, le=100_000, description="Policy updates in a round.")
    batch: Integer = Field(64, ge=2, le=1_000_000, description="Crystals sampled and scored for each update.")
    algorithm: Literal["ppo", "grpo", "rloo", "dpo", "sft", "none"] = Field(
        "ppo",
        description="Objective: ppo, the clipped surrogate; grpo, the same on normalized advantages with the KL "
        "term in the loss; rloo, the plain policy gradient; dpo, preferences between pairs of a minibatch in one space group; sft, imitation of the "
        "batch's own stable crystals; none, sampling and scoring alone.",
    )
    baseline: Literal["space_group", "moving_average", "leave_one_out", "batch_space_group"] = Field(
        "space_group",
        description="What an advantage counts from: the decayed mean of the crystal's space group; the decayed mean of all "
        "batches, as published; the mean of the batch's other crystals; or that of those in the same space group.",
    )
    learning_rate: Number = Field(
        0.01, gt=0, le=1, description="Step size of Adam. 0.01 suits last_norm; 1e-4, the published one, suits all weights."
    )
    learning_rate_half_life: Positive | None = Field(
        None,
        description="Updates in which the step size falls to half, so that a policy comes to rest; null keeps the size.",
    )
    steps: Literal["absolute", "relative"] = Field(
        "absolute",
        description="absolute: Adam's steps, as published; relative: those times the size of the weights in each array.",
    )
    trainable: Literal["all", "norms_and_biases", "last_norm"] = Field(
        "last_norm",
        description="Weights that move: all; norms_and_biases of every layer; or last_norm, with the output's biases. "
        "The fewer crystals are scored, the fewer weights should move.",
    )
    clip: Number = Field(0.2, gt=0, lt=1, description="Probability ratios are clipped to 1 ± this (ppo, grpo).")
    inner_epochs: Integer = Field(5, ge=1, le=1000, description="Passes over the crystals of an update.")
    minibatches: Integer = Field(1, ge=1, le=1000, description="Steps of Adam in a pass, each on its share of the crystals.")
    tau: Number = Field(
        0.1,
        ge=0,
        le=1000,
        description="Weight of the KL divergence from the base policy, in units of the reward a nat; for dpo its β.",
    )
    kl_target: Positive | None = Field(
        None, description="KL divergence, nats, that τ is adapted to from update to update; null keeps τ."
    )
    entropy: Number = Field(0.0, ge=0, le=1000, description="Weight of the policy's entropy, in units of the reward a nat.")
    repeats: Number = Field(
        0.0,
        ge=0,
        le=1000,
        description="Penalty on crystals whose composition, space group and Wyckoff letters came before, in units of the reward: "
        "ln(1 + n) of it after n such crystals, so that kinds are kept apart.",
    )
    repeats_memory: Integer = Field(
        10_000,
        ge=1,
        le=1_000_000,
        description="Crystals, the last before a batch, among which its repeats are counted, besides those in it. Many tell rare kinds from very rare ones; few "
        "answer sooner, which keeps a policy from swinging between the best kinds and all others.",
    )
    replay: Integer = Field(
        0, ge=0, le=100_000, description="Best crystals so far, each kind once, that are kept for replay."
    )
    replay_weight: Number = Field(
        0.1,
        ge=0,
        le=1000,
        description="Weight of imitating the replayed crystals in the loss (a quarter of a minibatch a step).",
    )
    baseline_decay: Number = Field(
        0.95, ge=0, lt=1, description="Decay, per update, of the baselines that remember (space_group, moving_average)."
    )
    temperature: Number = Field(1.0, gt=0, le=10, description="Temperature of sampling; part of all log-probabilities.")
    space_groups: Annotated[list[SpaceGroup], AfterValidator(ascending)] = Field(
        [],
        description="Space groups to sample in (1 to 230); none means the distribution that the policy was trained on.",
    )
    elements: Elements = Field([], description="Symbols of the elements that may be used; none means all.")

    @model_validator(mode="after")
    def _tau_means_something(self) -> Self:
        if self.tau == 0 and (self.kl_target is not None or self.algorithm == "dpo"):
            why = "is the weight of preferences" if self.algorithm == "dpo" else "is adapted from its value"
            raise ValueError(f"'tau' is 0, but {why}; give one above 0")
        return self


class ArmConfig(Section):
    """One way of spending the evaluations: settings of fine-tuning that differ from `finetune`, and seeds."""

    kind: Literal["finetune", "best_of_n"] = Field(
        "finetune",
        description="finetune: rounds of fine-tuning, then samples of the policy; best_of_n: samples of the base policy scored "
        "at the same cost, of which the best are kept.",
    )
    seeds: Annotated[list[Seed], AfterValidator(ascending)] = Field([0], min_length=1, description="Seeds, a policy each.")
    finetune: dict[str, Any] = Field(
        {},
        description="Settings of `finetune` that differ in this arm; `rounds` and the product of `updates` and `batch` must stay.",
    )


class JudgeConfig(Section):
    """A second potential that no reward has seen, and its hull."""

    potential: Text = Field("chgnet-r2scan", description="As resources.potential.")
    reference: Text = Field(
        "embedded", description="Energies of the reference's entries in that potential: `embedded`, or a Parquet file."
    )


def _not_taken(name: str) -> str:
    """Refuse names that other policies of every run have."""
    if name in ("base", "tuned"):
        raise ValueError(f"'{name}' is the name of another policy; choose another")
    return name


class ArmsConfig(Section):
    """Policies side by side, each with the same number of crystals sampled and scored."""

    policies: dict[Annotated[str, Field(pattern="^[a-z][a-z0-9_]*$"), AfterValidator(_not_taken)], ArmConfig] = Field(
        {}, description="Arms by name: small letters, digits and underscores. None: no comparison."
    )
    judge: JudgeConfig | None = Field(
        JudgeConfig(), description="Who judges besides the potential that rewarded; null: nobody."
    )


class EvaluateConfig(Section):
    """The figures of a policy."""

    stable_below: Number = Field(
        0.1, ge=0, le=10, description="Largest energy above the hull that counts as stable, eV/atom."
    )


class RankConfig(Section):
    """The table of candidates."""

    by: Literal["e_above_hull", "fom", "fom_total"] = Field(
        "e_above_hull",
        description="Best first by: e_above_hull, the energy above the hull; or fom (fom_total), the product of electronic (total) "
        "dielectric constant and band gap, stable crystals first.",
    )


class Config(Section):
    """A run of the whole pipeline."""

    seed: Seed = Field(0, description="Seed of all sampling; the same seed gives the same crystals.")
    results: Text = Field("results", description="Folder for everything that the run writes.")
    device: Literal["cpu", "gpu"] = Field(
        "cpu",
        description="`gpu` lets the stages that gain from one use it, one job at a time; `cpu` hides it from them.",
    )
    resources: ResourcesConfig = Field(ResourcesConfig(), description="What the stages read.")
    policy: PolicyConfig = Field(PolicyConfig(), description="The base policy.")
    pretrain: PretrainConfig = Field(PretrainConfig(), description="Training a base policy.")
    sample: SampleConfig = Field(SampleConfig(), description="Drawing crystals from a policy.")
    relax: RelaxSettings = Field(RelaxSettings(), description="Relaxation.")
    reward: RewardConfig = Field(RewardConfig(), description="What a sampled crystal earns in fine-tuning.")
    finetune: FinetuneConfig = Field(FinetuneConfig(), description="Fine-tuning.")
    arms: ArmsConfig = Field(ArmsConfig(), description="Comparison of ways to fine-tune.")
    evaluate: EvaluateConfig = Field(EvaluateConfig(), description="The figures of a policy.")
    rank: RankConfig = Field(RankConfig(), description="The table of candidates.")


def load_config(path: str | Path) -> Config:
    """Read a run's configuration; what the file leaves out takes its default.

    Raises InputError for a file that is missing, no YAML, or holds a wrong key or value.
    """
    return parse_config(read_mapping(path), where=str(path))


def load_section(path: str | Path, name: str) -> Any:
    """Read one section, such as `finetune`, from a file that holds that section alone."""
    model = Config.model_fields[name].annotation
    assert isinstance(model, type)
    assert issubclass(model, BaseModel)
    return _validate(model, read_mapping(path), str(path))


def parse_config(values: Mapping[str, Any], where: str = "the configuration") -> Config:
    """Check a mapping; `where` names its origin in errors."""
    config: Config = _validate(Config, values, where)
    for name in config.arms.policies:
        arm_settings(config, name, where)
    judge = config.arms.judge
    if config.arms.policies and judge is not None and judge.potential == config.resources.potential:
        raise InputError(
            f"{where}: 'arms.judge.potential' is {judge.potential}, which gives the rewards; name another, or set "
            "`judge: null`."
        )
    return config


def arm_settings(config: Config, name: str, where: str = "the configuration") -> FinetuneConfig:
    """The settings of fine-tuning of an arm. Raises InputError for wrong ones, and where its cost would differ."""
    arm = config.arms.policies[name]
    place = f"{where}, arms.policies.{name}.finetune"
    if arm.kind == "best_of_n" and set(arm.finetune) - {"temperature", "space_groups", "elements"}:
        raise InputError(f"{place}: an arm that keeps the best of the base policy's samples learns nothing; leave this out.")
    merged = {**config.finetune.model_dump(), **arm.finetune, **({"algorithm": "none"} if arm.kind == "best_of_n" else {})}
    settings: FinetuneConfig = _validate(FinetuneConfig, merged, place)
    wanted, found = (own.updates * own.batch for own in (config.finetune, settings))
    if arm.kind == "finetune" and settings.algorithm == "none":
        raise InputError(
            f"{place}: with 'algorithm' none nothing is learned; leave the arm out, or let 'kind' be best_of_n."
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


def read_mapping(path: str | Path) -> dict[str, Any]:
    """The mapping in a YAML or JSON file; an empty file is an empty mapping."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path} does not exist; check the path of the configuration file.")
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except _TwiceError as error:
        raise InputError(f"{path}, line {error.line}: '{error.key}' is set twice; keep one.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise InputError(f"{path}{line} is not valid YAML; check indentation, colons and quotes there.") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise InputError(f"{path} holds no settings; write lines such as `seed: 0`.")
    return values


class _TwiceError(Exception):
    """A key that a mapping already has; YAML itself would let the last one win."""

    def __init__(self, key: str, line: int) -> None:
        super().__init__(key)
        self.key, self.line = key, line


class _Loader(yaml.SafeLoader):
    """YAML whose mappings have every key once."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(problem="a key that is no name", problem_mark=key.start_mark)
            if key.value in seen:
                raise _TwiceError(key.value, key.start_mark.line + 1)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def schema() -> dict[str, Any]:
    """JSON schema (draft 2020-12) of a configuration file."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Config.model_json_schema()}


def schema_text() -> str:
    """The schema as the file in the repository has it."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def _validate(model: type[BaseModel], values: Mapping[str, Any], where: str) -> Any:
    for key in _keys(values):
        if not isinstance(key, str):
            raise InputError(f"{where}: '{key}' is no name of a setting; write one, in quotes where it is a number or date.")
    values = {key: value for key, value in values.items() if value is not None or not _is_section(model, key)}
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problems = error.errors(include_url=False)
        sentence = _sentence(model, problems[0])
        others = [_dotted(problem["loc"]) for problem in problems[1:]]
        if others:
            sentence += f" Wrong too: {', '.join(others)}."
        raise InputError(f"{where}: {sentence}") from error


def _keys(values: Any) -> Iterator[Any]:
    """All keys of nested mappings and lists."""
    if isinstance(values, Mapping):
        yield from values
        values = list(values.values())
    if isinstance(values, list):
        for value in values:
            yield from _keys(value)


def _is_section(model: type[BaseModel], key: str) -> bool:
    field = model.model_fields.get(key)
    return field is not None and isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)


def _sentence(model: type[BaseModel], problem: ErrorDetails) -> str:
    """One problem in words: the setting, its value, the remedy."""
    name, value = _dotted(problem["loc"]), problem["input"]
    if problem["type"] == "extra_forbidden":
        return f"'{name}' is not a setting; {_suggestion(model, problem['loc'])}."
    if problem["type"] in ("model_type", "model_attributes_type"):
        return f"'{name}' is {value!r}, but it is a section; indent its settings below it."
    if problem["type"] == "missing":
        return f"'{name}' is missing; give {_expected(model, problem['loc'])}."
    reason = str(problem.get("ctx", {}).get("error", ""))
    if reason and not reason.startswith("Input should"):
        return f"'{name}' is wrong: {reason}." if name else f"{reason}."
    return f"'{name}' is {value!r}; give {_expected(model, problem['loc'])}."


def _dotted(place: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in place if part != "[key]")


def _suggestion(model: type[BaseModel], place: tuple[int | str, ...]) -> str:
    """What a wrong key was probably meant to be: a near name, else the same name in another section."""
    section = model
    for part in place[:-1]:
        section = _section_in(section.model_fields[part].annotation) if part in section.model_fields else section
    key, prefix = str(place[-1]), _dotted(place[:-1])
    near = difflib.get_close_matches(key, section.model_fields, n=1)
    if near:
        return f"did you mean '{prefix + '.' if prefix else ''}{near[0]}'"
    elsewhere = [name for name in _settings(model) if name.split(".")[-1] == key]
    if elsewhere:
        return f"did you mean '{elsewhere[0]}'"
    return f"remove it, or use one of {', '.join(section.model_fields)}"


def _section_in(annotation: Any) -> type[BaseModel]:
    """The section that an annotation holds, alone, in a list, in a mapping or beside null."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = [inner for inner in typing.get_args(annotation) if inner is not type(None)]
    return _section_in(found[-1])


def _settings(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Dotted names of all settings."""
    for name, field in model.model_fields.items():
        if _is_section(model, name):
            yield from _settings(typing.cast(type[BaseModel], field.annotation), f"{prefix}{name}.")
        else:
            yield prefix + name


def _expected(model: type[BaseModel], place: tuple[int | str, ...]) -> str:
    """What a setting takes, in words: `a whole number from 1 to 230`."""
    whole = model.model_json_schema()
    if place[-1] == "[key]":
        return "a name of small letters, digits and underscores, a letter first"
    found: dict[str, Any] = whole
    for part in place:
        found = _plain(whole, found)
        if isinstance(part, int):
            found = found["items"]
        else:
            found = found["properties"][part] if part in found.get("properties", {}) else _of_any_key(found)
    or_null = any(choice.get("type") == "null" for choice in found.get("anyOf", ()))
    found = _plain(whole, found)
    choices = found.get("enum") or ([found["const"]] if "const" in found else [])
    if choices:
        words = " or ".join(f"'{choice}'" for choice in choices)
    elif found.get("type") == "boolean":
        words = "true or false"
    elif found.get("type") == "array":
        words = _list_words(found)
    elif found.get("type") == "string":
        words = "some text"
    elif found.get("type") == "object":
        words = "settings, indented below it"
    else:
        words = _number_words(found)
    words += (", or null" if found.get("type") == "array" else " or null") if or_null else ""
    default = None if found.get("type") in ("array", "object") else found.get("default")
    return words + (
        ""
        if choices or default is None
        else f", such as the default {str(default).lower() if isinstance(default, bool) else default}"
    )


def _of_any_key(found: dict[str, Any]) -> dict[str, Any]:
    """The schema of a mapping's values."""
    return next(iter(found.get("patternProperties", {}).values()), None) or found.get("additionalProperties") or {}


def _plain(whole: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """A part of a schema with its reference followed, and without the null that it may be instead."""
    if "anyOf" in found:
        default = {"default": found["default"]} if found.get("default") is not None else {}
        found = default | next(choice for choice in found["anyOf"] if choice.get("type") != "null")
    if "$ref" in found:
        return _plain(whole, whole["$defs"][found["$ref"].rsplit("/", 1)[1]])
    return found


def _list_words(found: dict[str, Any]) -> str:
    """`a list of 2, each a number`."""
    least, most, items = found.get("minItems"), found.get("maxItems"), found["items"]
    count = "" if least is None else f" of {least}" if least == most else f" of at least {least}"
    if items.get("type") == "string":
        return f"a list{count}, each some text"
    return f"a list{count}, each " + (_number_words(items) if "type" in items else "a group of settings")


def _number_words(found: dict[str, Any]) -> str:
    words = "a whole number" if found.get("type") == "integer" else "a number"
    low, high = found.get("minimum"), found.get("maximum")
    above, below = found.get("exclusiveMinimum"), found.get("exclusiveMaximum")
    if "multipleOf" in found:
        words += f", a multiple of {found['multipleOf']},"
    if low is not None and high is not None:
        return f"{words} from {low} to {high}"
    bounds = [f"{text} {bound}" for text, bound in (
        ("from", low), ("above", above), ("up to", high), ("below", below)) if bound is not None]  # fmt: skip
    return " ".join([words, " and ".join(bounds)]).strip()


def main(arguments: list[str]) -> None:
    """Write the schema to the path given, or to standard output."""
    if arguments:
        Path(arguments[0]).write_text(schema_text(), encoding="utf-8")
    else:
        sys.stdout.write(schema_text())


if __name__ == "__main__":
    main(sys.argv[1:])
