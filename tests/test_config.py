"""The configuration: its defaults, its refusals in words, its schema."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from crystalformer_rl.config.loading import arm_settings, load_config, load_section, parse_config
from crystalformer_rl.config.run import RunSettings
from crystalformer_rl.config.schema import schema, schema_text
from crystalformer_rl.errors import InputError
from crystalformer_rl.finetune.finetune_settings import FinetuneSettings
from crystalformer_rl.policy.pretrain_settings import PretrainFile
from crystalformer_rl.policy.shape import PolicyShape


def test_the_default_run_is_the_default(root: Path) -> None:
    """The file in the repository spells out defaults and changes none."""
    assert load_config(root / "config.yaml") == RunSettings()


def test_schema_file_is_the_models(root: Path) -> None:
    written = (root / "workflow" / "schemas" / "config.schema.json").read_text(encoding="utf-8")
    assert written == schema_text(), "run `make schema`"


def test_schema_is_valid_and_agrees_with_the_model() -> None:
    jsonschema.Draft202012Validator.check_schema(schema())
    validator = jsonschema.Draft202012Validator(schema())
    validator.validate({})
    validator.validate(RunSettings().model_dump(mode="json"))
    for wrong in (
        {"sample": {"temprature": 1}},
        {"finetune": {"rounds": 0}},
        {"constraints": {"space_groups": [231]}},
        {"seed": "x"},
    ):
        assert not validator.is_valid(wrong)


def test_every_setting_is_described() -> None:
    sections = schema()["$defs"]
    for section in (schema(), *sections.values()):
        for name, field in section["properties"].items():
            target = sections[field["$ref"].rsplit("/", 1)[1]] if "$ref" in field else {}
            assert field.get("description") or target.get("description"), name
            assert "default" in field or name == "term", name


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sample: {temprature: 1}", "'sample.temprature' is not a setting; did you mean 'sample.temperature'"),
        ("temperature: 1", "'temperature' is not a setting; did you mean 'sample.temperature'"),
        ("wobble: 1", "'wobble' is not a setting; remove it, or use one of seed, results"),
        ("finetune: {clip: 2}", "'finetune.clip' is 2; give a number above 0 and below 1, such as the default 0.2"),
        ("finetune: {clip: true}", "'finetune.clip' is True; give a number above 0 and below 1"),
        ("finetune: {rounds: 0}", "'finetune.rounds' is 0; give a whole number from 1 to 300, such as the default 4"),
        ("finetune: {rounds: 2.5}", "'finetune.rounds' is 2.5; give a whole number"),
        ("finetune: {learning_rate: .nan}", "'finetune.learning_rate' is nan; give a number above 0 and up to 1"),
        ("finetune: 3", "'finetune' is 3, but it is a section; indent its settings below it"),
        ("constraints: {space_groups: [1, 231]}", "'constraints.space_groups.1' is 231; give a whole number from 1 to 230"),
        (
            "constraints: {space_groups: 225}",
            "'constraints.space_groups' is 225; give a list, each a whole number from 1 to 230",
        ),
        (
            "constraints: {require: [Li], forbid: [Li]}",
            "'constraints' is wrong: 'require' names Li, which may not be used; allow it",
        ),
        ("device: cuda", "'device' is 'cuda'; give 'cpu' or 'gpu'"),
        (
            "pretrain: {shape: {key_size: 33}}",
            "'pretrain.shape.key_size' is 33; give a whole number, a multiple of 2, from 2 to",
        ),
        ("pretrain: {shape: {keysize: 32}}", "did you mean 'pretrain.shape.key_size'"),
        ("results: ''", "'results' is ''; give some text, such as the default results"),
        ("seed:", "'seed' is None; give a whole number"),
        ("seed: -1\nfinetune: {clip: 3}", r"'seed' is -1; .* Wrong too: finetune\.clip"),
        ("1: 2", "'1' is not a name of a setting; write one, in quotes where it is a number or date"),
        ("sample: {2026-01-01: 2}", "'2026-01-01' is not a name of a setting"),
        ("constraints: {elements: [Xx]}", "'constraints.elements' is wrong: 'Xx' is not an element symbol; write symbols"),
        ("seed: 0\nsample: {n: 1}\nsample: {n: 2}", r"config\.yaml, line 3: 'sample' is set twice; keep one"),
        ("reward:\n  terms:\n  - term: fom\n    weight: 1\n    weight: 2", r"line 5: 'weight' is set twice"),
        ("? [1]\n: 2", r"config\.yaml, line 1 is not valid YAML"),
        ("- seed", "holds no settings; write lines such as `seed: 0`"),
        ("seed: 1\n  x: [", r"config\.yaml, line 2 is not valid YAML"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=words) as caught:
        load_config(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.yaml does not exist"):
        load_config(tmp_path / "none.yaml")


def test_numbers_as_yaml_and_snakemake_write_them(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(
        "finetune: {learning_rate: 1e-4, rounds: '6'}\nconstraints: {space_groups: [225, '1', 225]}\n", encoding="utf-8"
    )
    config = load_config(path)
    assert (config.finetune.learning_rate, config.finetune.rounds, config.constraints.space_groups) == (1e-4, 6, [1, 225])


def test_empty_file_and_empty_sections_mean_defaults(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("", encoding="utf-8")
    assert load_config(path) == RunSettings()
    path.write_text("sample:\nfinetune:\n", encoding="utf-8")
    assert load_config(path) == RunSettings()


def test_a_section_in_its_own_file(tmp_path: Path) -> None:
    section = RunSettings().finetune.model_copy(update={"updates": 7})
    for path, text in (
        (tmp_path / "a.json", json.dumps(section.model_dump())),
        (tmp_path / "a.yaml", yaml.safe_dump(section.model_dump())),
    ):
        path.write_text(text, encoding="utf-8")
        assert load_section(path, FinetuneSettings) == section
    path.write_text("updats: 7", encoding="utf-8")
    with pytest.raises(InputError, match=r"a\.yaml: 'updats' is not a setting; did you mean 'updates'"):
        load_section(path, FinetuneSettings)


def test_config_is_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        parse_config({}).sample.n = 3  # type: ignore[misc]


def test_pretraining_is_declared_once(tmp_path: Path) -> None:
    """What `pretrain` reads is what the run's section holds, by the same parser: no fraction of an epoch, no key twice."""
    sections = RunSettings().pretrain
    assert PretrainFile() == PretrainFile(shape=sections.shape, training=sections.training)
    PolicyShape(**sections.shape.model_dump())
    path = tmp_path / "pretrain.yaml"
    path.write_text("training: {learning_rate: 1e-3}\n", encoding="utf-8")
    assert load_section(path, PretrainFile).training.learning_rate == 1e-3
    for text, words in (
        ("training: {epochs: 2.5}\n", "'training.epochs' is 2.5; give a whole number"),
        ("training: {epochs: 2, epochs: 3}\n", "'epochs' is set twice"),
        ("training: {epoch: 2}\n", "did you mean 'training.epochs'"),
    ):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(InputError, match=words):
            load_section(path, PretrainFile)


@pytest.mark.parametrize(
    ("given", "place", "expected"),
    [
        ({"relax": {"free": "true", "fmax": "0.1"}}, "relax.free", True),
        ({"relax": {"free": "false"}}, "relax.free", False),
        ({"judge": "null"}, "judge", None),
        ({"finetune": {"kl_target": "null"}}, "finetune.kl_target", None),
        ({"finetune": {"kl_target": "2.5"}}, "finetune.kl_target", 2.5),
        ({"reward": {"terms": [{"term": "fom", "log": "true", "clip": "null"}]}}, "reward.terms", True),
    ],
)
def test_texts_of_the_command_line_mean_what_yaml_means(given: dict[str, Any], place: str, expected: Any) -> None:
    """Snakemake hands whatever `--config` nests over as texts."""
    found: Any = parse_config(given)
    for part in place.split("."):
        found = getattr(found, part)
    if place == "reward.terms":
        assert (found[0].log, found[0].clip) == (True, None)
    else:
        assert found == expected


@pytest.mark.parametrize("word", ["yes", "True", "1", "null"])
def test_other_words_are_no_truth_values(word: str) -> None:
    with pytest.raises(InputError, match=r"'relax\.free' is .*give true or false"):
        parse_config({"relax": {"free": word}})


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"reward": {"terms": [{"term": "fom", "wieght": 1}]}}, "did you mean 'reward.terms.0.weight'"),
        ({"reward": {"terms": [{"term": "fom", "weight": "x"}]}}, "'reward.terms.0.weight' is 'x'; give a number"),
        ({"reward": {"terms": [{"weight": 1}]}}, "'reward.terms.0.term' is missing; give some text"),
        ({"finetune": {"tau": 0, "kl_target": 1}}, "'tau' is 0, but it is adapted from its value; give one above 0"),
        (
            {
                "finetune": {"tau": 0, "algorithm": "ppo"},
                "arms": {"policies": {"dpo": {"finetune": {"algorithm": "dpo"}}}},
            },
            r"arms\.policies\.dpo\.finetune: 'tau' is 0, but the reward is divided by it",
        ),
        ({"finetune": {"kl_target": 0}}, "'finetune.kl_target' is 0; give a number above 0 or null"),
        ({"reward": {"terms": []}}, "'reward.terms' is \\[\\]; give a list of at least 1"),
        (
            {"reward": {"terms": [{"term": "fom", "clip": [2, 1]}]}},
            "'reward.terms.0' is wrong: its lowest value 2.0 is above",
        ),
        ({"reward": {"terms": [{"term": "fom", "clip": [1]}]}}, "give a list of 2, each a number, or null"),
        ({"arms": {"policies": {"base": {}}}}, "'arms.policies.base' is wrong: 'base' is the name of another policy"),
        ({"arms": {"policies": {"ppo": {"seeds": [-1]}}}}, "'arms.policies.ppo.seeds.0' is -1; give a whole number from 0"),
        ({"arms": {"policies": {"ppo": {"seeds": 3}}}}, "'arms.policies.ppo.seeds' is 3; give a list of at least 1"),
        ({"arms": {"policies": {"ppo": {"kind": "x"}}}}, "'arms.policies.ppo.kind' is 'x'; give 'finetune' or 'best_of_n'"),
        (
            {"arms": {"policies": {"ppo": {"finetune": {"algorithm": "none", "density_temperature": 1.0}}}}},
            "the policy stays as it is; leave the arm out",
        ),
        (
            {"judge": {"potential": "chgnet"}},
            "'judge.potential' is chgnet, which gives the energies already; name another",
        ),
        (
            {"sample": {"n": 20_000}, "arms": {"policies": {"n": {"kind": "best_of_n"}}}},
            r"the best 20000 \(sample.n\) of 10240 crystals are asked for; sample fewer",
        ),
        ({"arms": {"policies": {"PPO": {}}}}, "'arms.policies.PPO' is 'PPO'; give a name of small letters"),
        ({"arms": {"policies": {"ppo": {"sede": [0]}}}}, "did you mean 'arms.policies.ppo.seeds'"),
        (
            {"arms": {"policies": {"ppo": {"finetune": {"clip": 2}}}}},
            "arms.policies.ppo.finetune: 'clip' is 2; give a number",
        ),
        (
            {"arms": {"policies": {"ppo": {"finetune": {"batch": 3}}}}},
            "5 updates of 3 crystals are 15 evaluations a round, and arms are compared at the same number; let updates · batch be "
            "2560, as in finetune.",
        ),
        ({"arms": {"policies": {"ppo": {"finetune": {"rounds": 3}}}}}, "'rounds' is 3; all arms have finetune.rounds, 4."),
        ({"arms": {"policies": {"n": {"kind": "best_of_n", "finetune": {"clip": 0.1}}}}}, "learns nothing; leave this out"),
    ],
)
def test_mistakes_in_lists_and_mappings_are_named(values: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        parse_config(values)


def test_arms_take_the_settings_of_finetune_and_their_own() -> None:
    arms = {"sft": {"finetune": {"algorithm": "sft"}}, "best_of_n": {"kind": "best_of_n", "seeds": [1, 0]}}
    config = parse_config({"finetune": {"batch": 32}, "arms": {"policies": arms}})
    assert arm_settings(config, "sft") == config.finetune.model_copy(update={"algorithm": "sft"})
    assert arm_settings(config, "best_of_n").algorithm == "none"
    narrow = parse_config({"arms": {"policies": {"narrow": {"finetune": {"algorithm": "none"}}}}})
    assert arm_settings(narrow, "narrow").density_temperature == 0.02, "nothing is learned, and yet it is another policy"
    assert config.arms.policies["best_of_n"].seeds == [0, 1]


def test_the_schema_is_written_by_a_command(tmp_path: Path) -> None:
    program = [sys.executable, "-m", "crystalformer_rl.config"]
    assert subprocess.run(program, capture_output=True, text=True, check=True).stdout == schema_text()
    subprocess.run([*program, str(tmp_path / "schema.json")], check=True)
    assert (tmp_path / "schema.json").read_text(encoding="utf-8") == schema_text()
