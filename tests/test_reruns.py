"""Which stages run again when a value of the configuration, or a line of the package, changes: those that depend on it."""

from __future__ import annotations

import copy
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from workflow_examples import TINY, Workflow

from crystalformer_rl.config.loading import parse_config
from crystalformer_rl.config.run import RunSettings
from crystalformer_rl.stages import source_digest as digests
from crystalformer_rl.stages.source_digest import PACKAGE, source_digest, source_files

pytest.importorskip("snakemake")

FOLLOWED_BY = {
    "check_potential": ("relax", "finetune"),
    "check_reference": ("hull", "finetune"),
    "finetune_settings": ("finetune",),
    "finetune": ("sample", "report"),
    "sample": ("relax", "evaluate"),
    "select": ("relax", "evaluate"),
    "relax": ("hull", "properties", "novelty", "evaluate"),
    "hull": ("evaluate",),
    "properties": ("evaluate",),
    "novelty": ("evaluate",),
    "evaluate": ("shortlist", "rank", "report"),
    "shortlist": ("judge_best",),
    "judge_best": ("rank",),
    "rank": ("report",),
}
"""Rules that read what a rule writes."""


def and_all_that_follow(*rules: str) -> set[str]:
    """The rules with all rules after them."""
    found, waiting = set(), list(rules)
    while waiting:
        rule = waiting.pop()
        if rule not in found:
            found.add(rule)
            waiting += FOLLOWED_BY.get(rule, ())
    return found


REFERENCE, PROPERTIES, POLICY = "reference.parquet", "properties.safetensors", "policy.safetensors"
STABILITY = "stability.safetensors"
NOTHING: tuple[str, ...] = ()
SETTINGS: dict[str, tuple[Any, tuple[str, ...]]] = {
    "seed": (1, ("sample", "finetune")),
    "device": ("gpu", NOTHING),  # where a stage computes; its results are the same to rounding
    "resources.reference": (REFERENCE, ("check_reference", "hull", "novelty", "evaluate", "finetune")),
    "resources.properties": (PROPERTIES, ("properties",)),
    "resources.stability": (STABILITY, ("relax", "hull", "judge_best")),
    "resources.potential": ("sevennet-0", ("check_potential", "check_reference", "relax", "finetune")),
    "policy.source": (POLICY, ("sample", "finetune")),
    "sample.n": (12, ("sample",)),
    "sample.batch": (8, ("sample",)),
    "sample.temperature": (0.9, ("sample",)),
    "constraints.space_groups": ([225], ("sample", "finetune_settings")),
    **{
        f"constraints.{name}": (value, ("sample", "finetune_settings"))
        for name, value in {
            "elements": ["Na", "Cl"],
            "forbid": ["Pb"],
            "require": ["Na"],
            "min_elements": 2,
            "charge_balanced": True,
            "formula": "NaCl",
            "wyckoff": ["4a", "4b"],
            "max_atoms": 10,
        }.items()
    },
    "relax.fmax": (0.1, ("relax",)),
    "relax.smax": (1.0, ("relax",)),
    "relax.max_evaluations": (3, ("relax",)),
    "relax.free": (True, ("relax",)),
    "reward.terms": ([{"term": "formation_energy", "weight": -1.0}], ("finetune_settings",)),
    "reward.failure": (-2.0, ("finetune_settings",)),
    "reward.relax.max_evaluations": (3, ("finetune_settings",)),
    "scoring.workers": (2, NOTHING),  # which changes no result
    "finetune.rounds": (2, ("finetune",)),
    "finetune.algorithm": ("sft", ("finetune_settings",)),
    "finetune.baseline": ("leave_one_out", ("finetune_settings",)),
    "finetune.steps": ("relative", ("finetune_settings",)),
    "finetune.trainable": ("last_norm", ("finetune_settings",)),
    "finetune.keep": ("space_group", ("finetune_settings",)),
    "finetune.learns": ("everything", ("finetune_settings",)),
    "finetune.follows_forces": (False, ("finetune_settings",)),
    "finetune.placebo": (True, ("finetune_settings",)),
    "finetune.density_temperature": (0.1, ("finetune_settings",)),
    "arms.policies": ({"sft": {"finetune": {"algorithm": "sft"}}}, ("finetune_settings", "sample", "judge", "compare")),
    "judge": (None, ("rank",)),
    "evaluate.stable_below": (0.05, ("finetune_settings", "hull")),  # rounds record what was stable
    "rank.by": ("fom", ("shortlist",)),
    "rank.judge": (2, ("judge_best",)),
    "rank.scored": (4, ("select",)),
    "rank.where": (["band_gap between 1 and 3"], ("shortlist",)),
    "rank.exclude": (["Pb"], ("shortlist",)),
    "pretrain.training.mixed_precision": (0, NOTHING),
    # where nothing is pretrained, nothing is recovered
    "recover.compositions": ("compositions.parquet", NOTHING),
    "recover.second": (None, NOTHING),
    "recover.limit": (10, NOTHING),
    "recover.max_e_above_hull": (0.05, NOTHING),
    "recover.candidates": (4, NOTHING),
    "recover.relaxed": (2, NOTHING),
    "recover.max_atoms": (10, NOTHING),
    "recover.max_evaluations": (10, NOTHING),
    "recover.accepted_from": (0.9, NOTHING),
    "recover.learned_from": (0.5, NOTHING),
}
"""Another value of each setting, and the rules that are planned with it before those that follow them.

Settings that are not listed: all numbers of `finetune` rerun it; those of `pretrain` rerun nothing, where nothing is
pretrained; `results` is another run.
"""


def leaves(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Dotted names of all settings."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from leaves(field.annotation, f"{prefix}{name}.")
        else:
            yield prefix + name


def value_of(name: str) -> Any:
    found: Any = RunSettings()
    for part in name.split("."):
        found = getattr(found, part)
    return found


def other_number(name: str) -> Any:
    """Another value of a number of fine-tuning or pretraining that is within its bounds."""
    given: Any = TINY
    for part in name.split("."):
        given = given.get(part, {}) if isinstance(given, dict) else given
    value = given if isinstance(given, int | float) else value_of(name)
    if value is None or value == 0:
        return 1
    return value + 1 if isinstance(value, int) else value / 2


def case(name: str) -> tuple[Any, tuple[str, ...]]:
    """Another value of a setting, and the rules that are planned first."""
    if name in SETTINGS:
        return SETTINGS[name]
    if name.startswith("finetune."):
        return other_number(name), ("finetune_settings",)
    assert name.startswith("pretrain.")
    value = value_of(name)
    if isinstance(value, str):
        return f"{value}x", NOTHING
    return (2 * value if isinstance(value, int) and value else other_number(name)), NOTHING  # some must be even


ALL = [name for name in leaves(RunSettings) if name != "results"]
FAST = ["resources.potential", "resources.reference", "sample.temperature", "relax.free", "evaluate.stable_below", "rank.by"]


def test_every_setting_has_its_place_in_the_table() -> None:
    """A setting that is new must be put into the table, unless it is a number of fine-tuning or of pretraining."""
    others = {name for name in ALL if not name.startswith(("finetune.", "pretrain."))}
    assert others == {name for name in SETTINGS if not name.startswith(("finetune.", "pretrain."))}
    for name in ALL:
        if name not in SETTINGS and name.startswith("finetune."):
            assert isinstance(value_of(name), int | float | None.__class__), f"put {name} into the table"


@pytest.fixture(scope="module")
def run(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory, root: Path) -> Workflow:
    """A copy of the finished tiny run, with resources of its own beside the results."""
    folder = tmp_path_factory.mktemp("reruns") / "run"
    shutil.copytree(tiny_run, folder, symlinks=True)
    for name in (REFERENCE, PROPERTIES, POLICY, STABILITY):
        shutil.copy(folder / "results" / "resources" / name, folder / name)
    return Workflow(root, folder)


def other_config(name: str) -> dict[str, Any]:
    """The tiny run with another value of a setting."""
    config: dict[str, Any] = copy.deepcopy(TINY)
    place = config
    *sections, key = name.split(".")
    for section in sections:
        place = place.setdefault(section, {})
    place[key] = case(name)[0]
    if name == "constraints.wyckoff":
        place["space_groups"] = [225]  # whose positions they are
    return config


def test_every_other_value_is_allowed() -> None:
    for name in ALL:
        assert value_of(name) != case(name)[0]
        parse_config(other_config(name), name)


def planned(run: Workflow, name: str) -> set[str]:
    try:
        return set(run.plan(config=other_config(name))) - {"fetch"}
    finally:
        run.configure(TINY)


@pytest.mark.parametrize("name", [pytest.param(n, marks=[] if n in FAST else pytest.mark.slow) for n in ALL])
def test_a_value_plans_exactly_the_stages_that_depend_on_it(run: Workflow, name: str) -> None:
    expected = and_all_that_follow(*case(name)[1])
    if name == "finetune.rounds":
        expected -= {"finetune_settings"}
    if name == "arms.policies":  # the main run stays as it is
        expected -= {"shortlist", "judge_best", "rank", "report"}
    assert planned(run, name) == expected


@pytest.mark.slow
@pytest.mark.parametrize("name", ["rank.by", "relax.max_evaluations"])
def test_after_the_run_the_second_plan_is_empty(tiny_run: Path, tmp_path: Path, root: Path, name: str) -> None:
    again = Workflow(root, tmp_path / "run")
    shutil.copytree(tiny_run, again.folder, symlinks=True)
    section, key = name.split(".")
    config = {**TINY, section: {**TINY.get(section, {}), key: case(name)[0]}}
    done = again.snakemake("--cores", "2", config=config)
    assert done.returncode == 0, done.stdout + done.stderr
    assert again.plan() == {}


# --- edits of the package -------------------------------------------------------

STAGES = ("check-potential", "check-reference", "sample", "relax", "hull", "properties", "novelty", "finetune", "evaluate",
          "rank", "report", "judge", "compare", "select", "tokenize", "pretrain", "recover", "extend")  # fmt: skip
LOADED = {
    **dict.fromkeys(
        ("check-potential", "check-reference", "relax", "properties", "finetune", "judge", "recover"), "potential.chgnet"
    )
}
"""What the default run's stages load by name."""

EDITS: dict[str, set[str]] = {
    "crystal/elements.py": set(STAGES) - {"select"},
    "reading/cif_crystals.py": set(),
    "reading/entries.py": {"hull", "judge", "evaluate"},
    "tables/status.py": set(STAGES),
    "tables/discovery_columns.py": {"novelty", "evaluate", "rank", "report", "compare", "judge"},
    "tables/pretrain_columns.py": {"pretrain"},
    "reference/energies.py": {"recover", "hull", "judge", "finetune", "evaluate", "check-reference"},
    "reference/competing.py": {"recover", "extend", "hull", "judge", "finetune", "evaluate", "check-reference"},
    "reference/corrections.py": {"recover", "hull", "evaluate", "judge", "finetune"},
    "hull/probability.py": {"hull", "judge", "finetune", "evaluate"},
    "hull/convex_hull.py": {"recover", "hull", "judge", "finetune", "evaluate"},
    "hull/stability.py": {"hull", "judge", "finetune", "evaluate", "rank", "compare", "report"},
    "potential/chgnet.py": set(LOADED),
    "potential/mace.py": set(),
    "potential/contract.py": {"check-potential"},
    "potential/walker.py": {"recover", "relax", "check-potential", "judge", "finetune"},
    "policy/sampler.py": {"sample", "finetune"},
    "policy/transformer.py": {"sample", "finetune", "pretrain"},
    "policy/pretraining.py": {"pretrain"},
    "finetune/loop.py": {"finetune"},
    "finetune/objectives.py": {"finetune"},
    "rewards/algebra.py": {"finetune", "rank"},
    "scoring/scorer.py": {"finetune"},
    "recovery/acceptance.py": {"recover"},
    "prediction/common_types.py": set(),
    "recovery/acceptance.json": {"recover"},
    "scoring/figure_answers.py": {"finetune", "judge"},
    "properties/models.py": {"properties", "finetune", "relax", "judge"},
    "properties/energy_errors.py": {"relax", "judge"},
    "discovery/known_structures.py": {"novelty", "evaluate", "report"},
    "discovery/metrics.py": {"evaluate"},
    "discovery/candidates.py": {"rank", "report"},
    "discovery/ranking.py": {"rank", "report"},
    "comparison/document.py": {"compare"},
    "proposals/substitution.py": set(),  # by command alone
    "retrieval/counts.py": set(),
    "comparison/selection.py": {"compare", "select"},
    "report/page.py": {"report"},
    "report/template.html": {"report"},
    "intervals.py": {"evaluate", "compare", "report"},
    "resources/registry.py": set(),
    "resources/registry.yaml": set(),
    "config/run.py": set(),
    "config/messages.py": set(),
    "front_door/crystals.py": set(),
    "cli/console.py": set(),
    "cli/relax.py": set(),
    "__init__.py": set(),
}
"""Modules of every room, and the stages whose code they are part of."""


@pytest.fixture
def package(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the package whose digests are asked for."""
    copied = tmp_path / PACKAGE
    shutil.copytree(root / PACKAGE, copied, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(digests, "_ROOT", copied)
    return copied


def all_digests() -> dict[str, str]:
    return {stage: source_digest(stage, *(f"{PACKAGE}.{n}" for n in [LOADED.get(stage)] if n)) for stage in STAGES}


def test_an_edit_concerns_exactly_the_stages_that_run_it(package: Path) -> None:
    before = all_digests()
    for place, expected in EDITS.items():
        path = package / place
        content = path.read_bytes()
        path.write_bytes(content + (b"\nEDITED = 1\n" if place.endswith(".py") else b"\n<!-- edited -->\n"))
        after = all_digests()
        path.write_bytes(content)
        assert {stage for stage in STAGES if before[stage] != after[stage]} == expected, place
    assert all_digests() == before


def test_every_room_has_an_edit_in_the_table(root: Path) -> None:
    rooms = {path.parent.name for path in (root / PACKAGE).glob("*/__init__.py")}
    assert rooms - {"stages", "plotting"} <= {place.partition("/")[0] for place in EDITS}


def test_comments_and_docstrings_concern_no_stage(package: Path) -> None:
    """A comment at the end, another docstring of the module and another description of a setting, in every module at once."""
    before = all_digests()
    for path in package.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if text.startswith('"""'):
            text = '"""Other words.' + text[3:]
        if "pydantic" in text:
            text = text.replace("description=", "description='other words: ' + ")
        text = re.sub(r'(:\n +""")(?=\S)', r"\1Other words. ", text)
        path.write_text(text + "# a comment\n", encoding="utf-8")
    assert all_digests() == before


def test_a_stage_without_a_module_is_an_error() -> None:
    with pytest.raises(FileNotFoundError, match="no module"):
        source_files("nothing")


def test_an_edit_of_the_hull_plans_hull_and_what_follows(run: Workflow, root: Path, tmp_path: Path) -> None:
    """The workflow itself, with an edited copy of the package beside it, which it takes before the installed one."""
    copied = tmp_path / PACKAGE
    shutil.copytree(root / PACKAGE, copied, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(root / "workflow", tmp_path / "workflow")
    shutil.copy(root / "Snakefile", tmp_path)
    for name in ("config.yaml", "envs", "resources"):
        (tmp_path / name).symlink_to(root / name)
    edited = Workflow(tmp_path, run.folder)
    stability = copied / "hull" / "stability.py"
    stability.write_text(stability.read_text(encoding="utf-8") + "# a comment\n", encoding="utf-8")
    assert edited.plan(config=TINY) == {}
    hull = copied / "hull" / "convex_hull.py"
    text = hull.read_text(encoding="utf-8")
    hull.write_text(text.replace("_LEAST_AMOUNT = 1e-8", "_LEAST_AMOUNT = 1e-7"), encoding="utf-8")
    assert set(edited.plan()) == and_all_that_follow("hull", "finetune")
