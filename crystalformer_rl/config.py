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
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, ValidationError
from pydantic_core import ErrorDetails

from crystalformer_rl.errors import InputError

POLICY_SUFFIXES = (".safetensors", ".pkl")


def _not_boolean(value: Any) -> Any:
    """Refuse true and false where a number is meant; pydantic would take them for 1 and 0."""
    if isinstance(value, bool):
        raise ValueError("Input should be a number, not true or false")
    return value


def _ascending(values: list[int]) -> list[int]:
    """Sorted without repeats, so that two spellings of one choice are one run."""
    return sorted(set(values))


# Numbers may come as text: YAML 1.1 reads `1e-4` (no dot) so, and Snakemake whatever --config nests.
Integer = Annotated[int, BeforeValidator(_not_boolean)]
Number = Annotated[float, BeforeValidator(_not_boolean), Field(allow_inf_nan=False)]
SpaceGroup = Annotated[int, Field(ge=1, le=230), BeforeValidator(_not_boolean)]
Text = Annotated[str, Field(min_length=1)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ResourcesConfig(_Section):
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


class PolicyConfig(_Section):
    """Where the base policy comes from."""

    source: Text = Field(
        "embedded",
        description="`embedded`; `pretrain` (train one on pretrain.data first); the registry name of a published "
        "checkpoint, such as crystalformer-alex20; or the path of a .safetensors or .pkl file.",
    )


class ShapeConfig(_Section):
    """Size of the network; the names are those of the published configuration files."""

    num_layers: Integer = Field(4, ge=1, le=128, description="Transformer blocks.")
    num_heads: Integer = Field(4, ge=1, le=256, description="Attention heads.")
    key_size: Integer = Field(32, ge=2, le=1024, multiple_of=2, description="Size of a head's queries and keys; even.")
    model_size: Integer = Field(128, ge=1, le=8192, description="Width of the residual stream.")
    embed_size: Integer = Field(32, ge=1, le=4096, description="Size of the embeddings of space group, letter and element.")
    h0_size: Integer = Field(128, ge=1, le=8192, description="Hidden width of the head of the first Wyckoff letter.")


class TrainingConfig(_Section):
    """How a base policy is trained."""

    epochs: Integer = Field(50, ge=1, le=100_000, description="Passes over the crystals at most; they fix the decay.")
    minutes: Number = Field(0.0, ge=0, le=100_000, description="Time limit, minutes; 0 means none.")
    batch_size: Integer = Field(64, ge=1, le=100_000, description="Crystals in a step.")
    learning_rate: Number = Field(1e-3, gt=0, le=1, description="Largest step size of AdamW.")
    dropout: Number = Field(0.1, ge=0, lt=1, description="Fraction of activations dropped.")


class PretrainConfig(_Section):
    """Training a base policy; used only where policy.source is `pretrain`."""

    data: Text = Field(
        "mp20-train",
        description="Crystals to train on: a name in the registry or the path of a crystals table, CSV or "
        "folder of CIF files.",
    )
    shape: ShapeConfig = Field(ShapeConfig(), description="Size of the network.")
    training: TrainingConfig = Field(TrainingConfig(), description="How it is trained.")


class SampleConfig(_Section):
    """Drawing crystals from a policy."""

    n: Integer = Field(256, ge=1, le=10_000_000, description="Crystals to sample from each policy.")
    batch: Integer = Field(
        128,
        ge=1,
        le=100_000,
        description="Crystals in a file and job. A larger n only adds files; another batch size makes all of them again.",
    )
    temperature: Number = Field(1.0, gt=0, le=10, description="Temperature of every choice; 1 samples the policy itself.")
    space_groups: Annotated[list[SpaceGroup], AfterValidator(_ascending)] = Field(
        [],
        description="Space groups to sample in (1 to 230); none means the distribution that the policy was trained on.",
    )


class RelaxConfig(_Section):
    """Relaxation of cell and positions in the potential, keeping the space group."""

    fmax: Number = Field(0.05, gt=0, le=10, description="Converged when no force exceeds this, eV/Å, and …")
    smax: Number = Field(0.5, gt=0, le=100, description="… no stress component this, GPa.")
    max_evaluations: Integer = Field(
        25, ge=1, le=100_000, description="Evaluations of the potential that a crystal may take; it then stays unconverged."
    )
    free: StrictBool = Field(
        False, description="Relax without symmetry afterwards; the lower crystal counts, with the symmetry it then has."
    )


class FinetuneConfig(_Section):
    """Policy optimization towards crystals near the convex hull."""

    rounds: Integer = Field(4, ge=1, le=300, description="Rounds; each is one job that goes on from the one before.")
    updates: Integer = Field(5, ge=1, le=100_000, description="Policy updates in a round.")
    batch: Integer = Field(64, ge=2, le=1_000_000, description="Crystals sampled and scored for each update.")
    algorithm: Literal["ppo"] = Field("ppo", description="Objective: ppo, the clipped surrogate.")
    learning_rate: Number = Field(
        0.01, gt=0, le=1, description="Step size of Adam. 0.01 suits last_norm; 1e-4, the published one, suits all weights."
    )
    trainable: Literal["all", "norms_and_biases", "last_norm"] = Field(
        "last_norm",
        description="Weights that move: all; norms_and_biases of every layer; or last_norm, with the output's biases. "
        "The fewer crystals are scored, the fewer weights should move.",
    )
    clip: Number = Field(0.2, gt=0, lt=1, description="Probability ratios are clipped to 1 ± this.")
    inner_epochs: Integer = Field(5, ge=1, le=1000, description="Passes over the crystals of an update.")
    tau: Number = Field(
        0.1, ge=0, le=1000, description="Weight of the KL divergence from the base policy, in units of the reward (eV/atom)."
    )
    baseline_decay: Number = Field(
        0.95, ge=0, lt=1, description="Decay, per update, of the mean rewards of the space groups, the baseline."
    )


class EvaluateConfig(_Section):
    """The figures of a policy."""

    stable_below: Number = Field(
        0.1, ge=0, le=10, description="Largest energy above the hull that counts as stable, eV/atom."
    )


class RankConfig(_Section):
    """The table of candidates."""

    by: Literal["e_above_hull", "fom", "fom_total"] = Field(
        "e_above_hull",
        description="Best first by: e_above_hull, the energy above the hull; or fom (fom_total), the product of electronic (total) "
        "dielectric constant and band gap, stable crystals first.",
    )


class Config(_Section):
    """A run of the whole pipeline."""

    seed: Integer = Field(0, ge=0, lt=2**31, description="Seed of all sampling; the same seed gives the same crystals.")
    results: Text = Field("results", description="Folder for everything that the run writes.")
    device: Literal["cpu", "gpu"] = Field(
        "cpu",
        description="`gpu` lets the stages that gain from one use it, one job at a time; `cpu` hides it from them.",
    )
    resources: ResourcesConfig = Field(ResourcesConfig(), description="What the stages read.")
    policy: PolicyConfig = Field(PolicyConfig(), description="The base policy.")
    pretrain: PretrainConfig = Field(PretrainConfig(), description="Training a base policy.")
    sample: SampleConfig = Field(SampleConfig(), description="Drawing crystals from a policy.")
    relax: RelaxConfig = Field(RelaxConfig(), description="Relaxation.")
    finetune: FinetuneConfig = Field(FinetuneConfig(), description="Fine-tuning.")
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
    return _validate(Config, values, where)


def read_mapping(path: str | Path) -> dict[str, Any]:
    """The mapping in a YAML or JSON file; an empty file is an empty mapping."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path} does not exist; check the path of the configuration file.")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise InputError(f"{path}{line} is not valid YAML; check indentation, colons and quotes there.") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise InputError(f"{path} holds no settings; write lines such as `seed: 0`.")
    return values


def schema() -> dict[str, Any]:
    """JSON schema (draft 2020-12) of a configuration file."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Config.model_json_schema()}


def schema_text() -> str:
    """The schema as the file in the repository has it."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def _validate(model: type[BaseModel], values: Mapping[str, Any], where: str) -> Any:
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
    return f"'{name}' is {value!r}; give {_expected(model, problem['loc'])}."


def _dotted(place: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in place)


def _suggestion(model: type[BaseModel], place: tuple[int | str, ...]) -> str:
    """What a wrong key was probably meant to be: a near name, else the same name in another section."""
    section: type[BaseModel] = model
    for part in place[:-1]:
        annotation = section.model_fields[str(part)].annotation
        assert isinstance(annotation, type)
        assert issubclass(annotation, BaseModel)
        section = annotation
    key, prefix = str(place[-1]), _dotted(place[:-1])
    near = difflib.get_close_matches(key, section.model_fields, n=1)
    if near:
        return f"did you mean '{prefix + '.' if prefix else ''}{near[0]}'"
    elsewhere = [name for name in _settings(model) if name.split(".")[-1] == key]
    if elsewhere:
        return f"did you mean '{elsewhere[0]}'"
    return f"remove it, or use one of {', '.join(section.model_fields)}"


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
    found = whole
    for part in place:
        if "$ref" in found:
            found = whole["$defs"][found["$ref"].rsplit("/", 1)[1]]
        found = found["items"] if isinstance(part, int) else found["properties"][part]
    choices = found.get("enum") or ([found["const"]] if "const" in found else [])
    if choices:
        words = " or ".join(f"'{choice}'" for choice in choices)
    elif found.get("type") == "boolean":
        words = "true or false"
    elif found.get("type") == "array":
        words = f"a list, each {_number_words(found['items'])}"
    elif found.get("type") == "string":
        words = "some text"
    else:
        words = _number_words(found)
    default = found.get("default")
    return words + (
        ""
        if choices or default is None
        else f", such as the default {str(default).lower() if isinstance(default, bool) else default}"
    )


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
