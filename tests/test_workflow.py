"""The workflow: what it plans, what it refuses, and a tiny run from end to end."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml
from workflow_examples import TINY, Workflow

from crystalformer_rl.cli import COMMANDS
from crystalformer_rl.config.loading import parse_config
from crystalformer_rl.crystal.structure import Crystal, crystal_columns
from crystalformer_rl.tables.column import make_table
from crystalformer_rl.tables.crystal_columns import CRYSTALS_AND_TOKENS, SAMPLES
from crystalformer_rl.tables.parquet import read_table, write_table
from crystalformer_rl.tables.provenance import read_provenance, sha256

pytest.importorskip("snakemake")


@pytest.fixture
def workflow(root: Path, tmp_path: Path) -> Workflow:
    return Workflow(root, tmp_path)


DEFAULT_PLAN = {
    "fetch": 4,
    "check_potential": 1,
    "check_reference": 1,
    "sample": 4,
    "select": 1,
    "relax": 5,
    "hull": 3,
    "properties": 3,
    "novelty": 3,
    "finetune_settings": 1,
    "finetune": 4,
    "evaluate": 3,
    "shortlist": 1,
    "judge_best": 1,
    "rank": 1,
    "report": 1,
}


def test_default_plan(workflow: Workflow) -> None:
    assert workflow.plan(config={}) == DEFAULT_PLAN


def test_what_fine_tuning_scored_can_be_left_out(workflow: Workflow) -> None:
    also = dict.fromkeys(("relax", "hull", "properties", "novelty", "evaluate", "select"), 1)
    planned = {rule: n for rule, many in DEFAULT_PLAN.items() if (n := many - also.get(rule, 0))}
    assert workflow.plan(config={"rank": {"scored": 0, "by": "reward"}}) == planned


ARMS = {
    "policies": {
        "best": {"kind": "best_of_n"},
        "ppo": {"seeds": [0, 1]},
        "sft": {"finetune": {"algorithm": "sft"}},
    }
}
WITH_ARMS = {
    **DEFAULT_PLAN,
    "fetch": 4,
    "finetune_settings": 5,
    "finetune": 20,
    "sample": 4 + 3 * 2,
    "select": 3,
    "relax": 13,
    **dict.fromkeys(("hull", "properties", "novelty", "evaluate"), 7),
    "judge": 5,
    "compare": 1,
}


def test_plan_of_a_comparison(workflow: Workflow) -> None:
    """Every seed of every arm is a policy with rounds of its own; the judge sees them all and the base policy."""
    assert workflow.plan(config={"arms": ARMS}) == WITH_ARMS
    without = workflow.plan(config={"arms": ARMS, "judge": None})
    assert without == {rule: n for rule, n in WITH_ARMS.items() if rule not in ("judge", "judge_best", "shortlist")}
    only = workflow.plan("results/evaluation/sft-0/metrics.parquet", config={"arms": ARMS})
    assert (only["finetune"], only["finetune_settings"], only["sample"]) == (4, 1, 2)
    assert "judge" not in only


@pytest.mark.slow
def test_plan_of_two_long_chains(workflow: Workflow) -> None:
    arms = {"policies": {"best": ARMS["policies"]["best"]}}
    assert workflow.plan(config={"arms": arms, "finetune": {"rounds": 300}})["finetune"] == 600


def test_arms_have_settings_and_seeds_of_their_own(workflow: Workflow) -> None:
    config = {"seed": 7, "arms": {"policies": {"sft": {"seeds": [3], "finetune": {"algorithm": "sft"}}}}, "judge": None}
    text = workflow.snakemake("--dry-run", "--printshellcmds", config=config).stdout
    settings = {json.loads(found)["finetune"]["algorithm"] for found in re.findall(r"printf '%s\\n' '({.*})'", text)}
    assert settings == {"balance", "sft"}
    for policy, seed in (("tuned", 7), ("sft-3", 3)):
        command = next(c for c in text.splitlines() if "finetune --policy" in c and f"finetune/{policy}/round_1 " in c)
        assert f"--seed {seed} --config results/finetune/{policy}/settings.json" in command
        command = next(c for c in text.splitlines() if f"--out results/samples/{policy}/00000.parquet" in c)
        assert f"--policy results/finetune/{policy}/round_4/policy.safetensors" in command
        assert f"--seed {seed} " in command


def test_models_are_read_where_the_reward_predicts(workflow: Workflow) -> None:
    def commands(term: str) -> str:
        config = {"reward": {"terms": [{"term": term}]}}
        return workflow.snakemake("--dry-run", "--printshellcmds", config=config).stdout

    given = "--models results/resources/properties.safetensors  --potential"
    assert given in commands("fom")
    assert given not in commands("e_above_hull")
    learned = "--stability results/resources/stability.safetensors --potential"
    assert learned in commands("p_stable")
    assert learned not in commands("e_above_hull")


def test_a_run_without_the_judges_environment_goes_on_unjudged(root: Path, tmp_path: Path) -> None:
    """What would install it is said; one without a judge says nothing."""
    workflow = Workflow(root, tmp_path, judged=False)
    done = workflow.snakemake("--dry-run", config={})
    assert done.returncode == 0
    assert "No second potential judges this run" in done.stdout + done.stderr
    assert "crystalformer-rl potential install sevennet-0" in done.stdout + done.stderr
    assert workflow.plan() == {rule: n for rule, n in DEFAULT_PLAN.items() if rule not in ("shortlist", "judge_best")}
    done = workflow.snakemake("--dry-run", config={"judge": None})
    assert "No second potential" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    "preset",
    [
        "ehull-small",
        "ehull-long",
        "fom-small",
        "gap-window",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("ehull", "fom")),
    ],
)
def test_presets(root: Path, workflow: Workflow, preset: str) -> None:
    path = root / "workflow" / "presets" / f"{preset}.yaml"
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    config = parse_config(values, str(path))
    assert config.results == f"results/{preset}"
    terms = {
        "fom": {"fom"},
        "fom-small": {"e_above_hull", "fom"},
        "ehull": {"e_above_hull"},
        "gap-window": {"band_gap", "novelty"},
    }.get(preset, {"e_above_hull", "novelty", "new_formula"})
    assert {term.term for term in config.reward.terms} == terms
    assert config.constraints.space_groups == ([225] if preset.startswith("fom") else [])
    plan = workflow.plan("--configfile", str(path), config={})
    seeds = sum(len(arm.seeds) for arm in config.arms.policies.values())
    assert plan["finetune"] == config.finetune.rounds * (1 + seeds)
    assert plan.get("compare", 0) == bool(seeds)


def test_every_preset_is_tested(root: Path) -> None:
    tested = {"ehull", "fom", "ehull-small", "ehull-long", "fom-small", "gap-window", "data-engine"}
    assert {path.stem for path in (root / "workflow" / "presets").glob("*")} == tested


def test_a_turn_of_the_data_engine(root: Path, workflow: Workflow) -> None:
    """Recovered structures are tokens beside the crystals given, before the policy is trained."""
    path = root / "workflow" / "presets" / "data-engine.yaml"
    pq.write_table(pa.table({"formula": ["KCl"]}), workflow.folder / "compositions.parquet")
    done = workflow.snakemake("--dry-run", "--printshellcmds", "--configfile", str(path), config={})
    assert done.returncode == 0, done.stdout + done.stderr
    recovered = "results/data-engine/pretrain/recovered.parquet"
    lines = done.stdout.splitlines()
    recover = next(line for line in lines if "crystalformer-rl recover" in line)
    assert "recover compositions.parquet --prototypes" in recover
    assert "--second sevennet-0" in recover
    assert recovered in next(line for line in lines if "crystalformer-rl tokenize" in line)
    extended = "results/data-engine/pretrain/reference.parquet"
    assert f"{recovered} --out {extended}" in next(line for line in lines if "crystalformer-rl extend" in line)
    for command in ("novelty", "evaluate", "finetune"):
        assert f"--reference {extended}" in next(line for line in lines if f"crystalformer-rl {command}" in line)


def test_plan_of_a_longer_run(workflow: Workflow) -> None:
    """More samples are more files of the same size; more rounds are more jobs."""
    config = {"sample": {"n": 600}, "finetune": {"rounds": 5}}
    assert workflow.plan(config=config) == {**DEFAULT_PLAN, "sample": 6, "relax": 7, "finetune": 5}


@pytest.mark.slow
def test_plan_of_the_largest_number_of_rounds(workflow: Workflow) -> None:
    config = {"finetune": {"rounds": 300}}
    assert workflow.plan("results/metrics.parquet", config=config)["finetune"] == 300


def test_pretraining_and_published_policies_take_one_value(workflow: Workflow) -> None:
    plan = workflow.plan(config={"policy": {"source": "pretrain"}})
    assert plan == {**DEFAULT_PLAN, "fetch": 3, "fetch_undigested": 1, "tokenize": 1, "pretrain_settings": 1, "pretrain": 1}
    done = workflow.snakemake("--dry-run", "--printshellcmds", config={"policy": {"source": "crystalformer-alex20"}})
    assert done.returncode == 0
    assert (
        "crystalformer-rl fetch crystalformer-alex20 --out results/resources/crystalformer-alex20.pkl"
        in done.stdout + done.stderr
    )
    assert "--space-groups-from results/resources/reference.parquet" in done.stdout + done.stderr


def test_own_files_are_used_in_place(workflow: Workflow) -> None:
    for name in ("mine.safetensors", "known.parquet", "weights.model"):
        (workflow.folder / name).write_bytes(b"")
    config = {
        "policy": {"source": "mine.safetensors"},
        "resources": {"reference": "known.parquet", "potential": "mace:weights.model"},
    }
    done = workflow.snakemake("--dry-run", "--printshellcmds", config=config)
    text = done.stdout + done.stderr
    assert done.returncode == 0, text
    assert "--policy mine.safetensors" in text
    assert "--reference known.parquet" in text
    assert "--potential mace:weights.model" in text


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (
            {"sample": {"temprature": 2}},
            "config.yaml: 'sample.temprature' is not a setting; did you mean 'sample.temperature'.",
        ),
        ({"finetune": {"rounds": 0}}, "'finetune.rounds' is 0; give a whole number from 1 to 300"),
        ({"policy": {"source": "crystalformer-alex2"}}, "did you mean 'crystalformer-alex20'?"),
        ({"resources": {"reference": "none.parquet"}}, "'resources.reference' is 'none.parquet', neither a resource nor"),
        (
            {"arms": {"policies": {"wide": {"finetune": {"batch": 128}}}}},
            "5 updates of 128 crystals are 640 evaluations a round, and arms are compared at the same number",
        ),
        (
            {"judge": {"reference": "none.parquet"}},
            "'judge.reference' is 'none.parquet', neither a resource nor",
        ),
        ({"resources": {"potential": "chgnt"}}, "'chgnt' is not a potential; did you mean 'chgnet'"),
    ],
)
def test_wrong_configuration_ends_before_any_work(workflow: Workflow, config: dict[str, Any], words: str) -> None:
    done = workflow.snakemake("--cores", "1", config=config)
    assert done.returncode != 0
    assert words in done.stdout + done.stderr
    assert not (workflow.folder / "results").exists()


def test_a_setting_written_twice_ends_before_any_work(workflow: Workflow) -> None:
    (workflow.folder / "config.yaml").write_text("sample: {n: 8}\nseed: 1\nsample: {batch: 4}\n", encoding="utf-8")
    done = workflow.snakemake("--dry-run")
    assert done.returncode != 0
    assert "config.yaml, line 3: 'sample' is set twice; keep one." in done.stdout + done.stderr


def test_a_single_stage_ends_without_words_on_a_report(workflow: Workflow) -> None:
    done = workflow.snakemake("results/resources/properties.safetensors", "--cores", "1", config=TINY)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "report/summary.txt" not in done.stdout + done.stderr


def test_lint(workflow: Workflow) -> None:
    done = workflow.snakemake("--lint", config={})
    assert done.returncode == 0, done.stdout + done.stderr


def test_profiles_are_taken(workflow: Workflow) -> None:
    """The default profile applies by itself; the other one submits."""
    done = workflow.snakemake("--dry-run", "--cores", "2", config={})
    assert "profiles/default" in done.stdout + done.stderr
    slurm = yaml.safe_load((workflow.root / "profiles" / "slurm" / "config.yaml").read_text(encoding="utf-8"))
    assert slurm["executor"] == "slurm"
    assert "gres" not in yaml.safe_dump(slurm)


def test_every_command_of_the_workflow_exists(root: Path) -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in (root / "workflow" / "rules").glob("*.smk"))
    used = set(re.findall(r"crystalformer-rl ([a-z-]+)", text))
    assert used <= set(COMMANDS)
    assert {"fetch", "sample", "relax", "hull", "properties", "finetune", "novelty", "evaluate", "rank", "report"} <= used
    assert {"select", "judge", "compare"} <= used


@pytest.fixture(scope="module")
def finished(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory, root: Path) -> tuple[Workflow, str]:
    """The tiny run from end to end, in a copy of this module's own, and what it said."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    shutil.copytree(tiny_run, folder, symlinks=True)
    return Workflow(root, folder), (tiny_run / "said.txt").read_text(encoding="utf-8")


def test_run_makes_the_tables_and_ends_in_words(finished: tuple[Workflow, str]) -> None:
    workflow, said = finished
    results = workflow.folder / "results"
    metrics = pq.read_table(results / "metrics.parquet").to_pylist()
    assert len(metrics) == 2
    for policy in ("base", "tuned"):
        samples = [read_table(results / "samples" / policy / f"{k:05d}.parquet", SAMPLES) for k in (0, 1)]
        ids = [name for table in samples for name in table.column("id").to_pylist()]
        assert len(set(ids)) == 8
        crystals = pq.read_table(results / "evaluation" / policy / "crystals.parquet")
        assert crystals.column("id").to_pylist() == ids, "every crystal keeps its row"
    for path in sorted(results.rglob("*.parquet")):
        if "resources" not in path.parts:
            assert read_provenance(path)["stage"], path
    page = (results / "report" / "index.html").read_text(encoding="utf-8")
    assert "<html" in page
    summary = (results / "report" / "summary.txt").read_text(encoding="utf-8").rstrip()
    assert summary
    assert said.rstrip().endswith(summary), "the last words on the terminal"


@pytest.mark.parametrize(
    ("stage", "jobs", "later"),
    [
        ("relax", {"sample": 4, "relax": 4}, {"hull", "novelty", "properties", "evaluate", "rank", "report"}),
        ("hull", {"relax": 4, "hull": 2}, {"novelty", "properties", "evaluate", "rank", "report"}),
        ("finetune", {"finetune": 1}, {"sample", "relax", "hull", "rank", "report"}),
    ],
)
def test_a_stage_as_target_means_all_its_policies_and_batches(
    workflow: Workflow, stage: str, jobs: dict[str, int], later: set[str]
) -> None:
    planned = workflow.plan(stage, config=TINY)
    assert {rule: planned.get(rule) for rule in jobs} == jobs
    assert not later & planned.keys()


def test_a_stage_that_has_nothing_to_do_is_one_sentence(workflow: Workflow) -> None:
    done = workflow.snakemake("--dry-run", "judge", config=TINY)
    assert done.returncode != 0
    assert "There is nothing to judge" in done.stdout + done.stderr


TINIEST = {
    "judge": {"potential": "chgnet-r2scan"},
    "sample": {"n": 2, "batch": 1},
    "relax": {"max_evaluations": 1},
    "finetune": {"rounds": 1, "updates": 1, "batch": 2, "inner_epochs": 1},
}


@pytest.mark.slow
@pytest.mark.parametrize("absolute", [False, True])
def test_results_may_lie_in_folders_with_spaces_and_accents(workflow: Workflow, absolute: bool) -> None:
    place = "ré sults ü/my run"
    results = str(workflow.folder / place) if absolute else place
    done = workflow.snakemake("--cores", "2", config={**TINIEST, "results": results})
    assert done.returncode == 0, done.stdout + done.stderr
    folder = workflow.folder / place
    assert pq.read_table(folder / "metrics.parquet").num_rows == 2
    assert (folder / "report" / "index.html").is_file()
    assert not (workflow.folder / "results").exists()
    assert workflow.plan() == {}


def test_nothing_is_done_twice(finished: tuple[Workflow, str]) -> None:
    workflow, _ = finished
    again = workflow.snakemake("--cores", "2")
    assert again.returncode == 0
    assert "Nothing to be done" in again.stdout + again.stderr


@pytest.mark.parametrize(
    ("lost", "jobs"),
    [
        ("hull/base.parquet", {"hull": 1, "evaluate": 1, "shortlist": 1, "judge_best": 1, "rank": 1, "report": 1}),
        (
            "relaxed/tuned/00001.parquet",
            {"relax": 1, "hull": 1, "novelty": 1, "properties": 1, "evaluate": 1, "shortlist": 1, "judge_best": 1, "rank": 1,
             "report": 1},
        ),
        (
            "finetune/tuned/round_1/state.safetensors",
            {"finetune": 1, "sample": 2, "relax": 2, "hull": 1, "novelty": 1, "properties": 1,
             "evaluate": 1, "shortlist": 1, "judge_best": 1, "rank": 1, "report": 1},
        ),
        pytest.param(
            "evaluation/tuned/metrics.parquet", {"evaluate": 1, "shortlist": 1, "judge_best": 1, "rank": 1, "report": 1},
            marks=pytest.mark.slow,
        ),
        pytest.param("metrics.parquet", {"rank": 1, "report": 1}, marks=pytest.mark.slow),
        ("report/summary.txt", {"report": 1}),
    ],
)  # fmt: skip
def test_what_is_lost_is_made_again_and_what_depends_on_it(
    finished: tuple[Workflow, str], tmp_path: Path, lost: str, jobs: dict[str, int]
) -> None:
    workflow, _ = finished
    path, kept = workflow.folder / "results" / lost, tmp_path / "kept"
    path.rename(kept)
    try:
        assert workflow.plan() == jobs
    finally:
        kept.rename(path)
    assert workflow.plan() == {}


@pytest.mark.slow
def test_settings_rerun_what_they_concern(finished: tuple[Workflow, str]) -> None:
    workflow, _ = finished
    try:
        assert workflow.plan(config={**TINY, "rank": {"by": "fom", "scored": 0}}) == {
            "shortlist": 1, "judge_best": 1, "rank": 1, "report": 1,
        }  # fmt: skip
        more = workflow.plan(config={**TINY, "sample": {"n": 12, "batch": 4}})
        assert (more["sample"], more["relax"]) == (2, 2)
        assert "finetune" not in more
        longer = workflow.plan(config={**TINY, "finetune": {**TINY["finetune"], "rounds": 3}})
        assert longer["finetune"] == 2
    finally:
        assert workflow.plan(config=TINY) == {}


def test_a_stage_run_again_gives_the_same_bytes(finished: tuple[Workflow, str], tmp_path: Path) -> None:
    workflow = Workflow(finished[0].root, tmp_path / "run")
    shutil.copytree(finished[0].folder, workflow.folder, symlinks=True)
    names = ("samples/tuned/00001.parquet", "relaxed/tuned/00001.parquet", "evaluation/base/metrics.parquet",
             "finetune/tuned/round_1/policy.safetensors", "finetune/tuned/round_1/rollouts.parquet")  # fmt: skip
    paths = [workflow.folder / "results" / name for name in names]
    before = [sha256(path) for path in paths]
    for path in paths:
        path.unlink()
    done = workflow.snakemake("--cores", "2", *(f"results/{name}" for name in names))
    assert done.returncode == 0, done.stdout + done.stderr
    assert [sha256(path) for path in paths] == before


def broken_crystals() -> dict[str, Crystal]:
    """A crystal for each way to fail, by the status that it must get."""
    numbers, coords, lattice = np.array([11, 17]), np.array([[0.0, 0, 0], [0.5, 0.5, 0.5]]), 4.0 * np.eye(3)
    return {
        "bad_coordinates": Crystal(numbers, coords * np.nan, lattice),
        "bad_lattice": Crystal(numbers, coords, lattice * [[1], [1], [0]]),
        "overlapping_atoms": Crystal(numbers, coords * 0.1, lattice),
        "isolated_atoms": Crystal(numbers, coords, 12 * lattice),
        "unsupported_element": Crystal(np.array([100, 17]), coords, lattice),
        "unknown_element": Crystal(np.array([0, 17]), coords, lattice),
    }


def test_a_run_with_one_broken_crystal_in_ten(finished: tuple[Workflow, str], tmp_path: Path) -> None:
    """All rows stay, the broken ones with their statuses; the others are as if those were not there."""
    workflow = Workflow(finished[0].root, tmp_path / "run")
    shutil.copytree(finished[0].folder, workflow.folder, symlinks=True)
    reference = pq.read_table(workflow.folder / "results" / "resources" / "reference.parquet")
    good = reference.filter(pc.and_(pc.equal(reference["role"], "held_out"), pc.equal(reference["status"], "ok")))
    faulty = broken_crystals()
    good = good.slice(0, 9 * len(faulty))
    columns = {column.name: good.column(column.name).to_pylist() for column in CRYSTALS_AND_TOKENS}
    for k, (status, crystal) in enumerate(faulty.items()):
        row = {name: values[0] for name, values in crystal_columns([crystal]).items()} | {"id": status}
        for name, values in columns.items():
            values.insert(10 * k + k, row.get(name))
    sampled = make_table(SAMPLES, {**columns, "status": ["ok"] * len(columns["id"])})
    assert sampled.num_rows == 10 * len(faulty)
    write_table(workflow.folder / "results" / "samples" / "base" / "00000.parquet", sampled, {})

    done = workflow.snakemake("--cores", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    results = workflow.folder / "results"
    ids = sampled.column("id").to_pylist()
    rows = {row["id"]: row for row in pq.read_table(results / "evaluation" / "base" / "crystals.parquet").to_pylist()}
    assert list(rows)[: len(ids)] == ids
    for name in ids:
        assert rows[name]["status"] == (name if name in faulty else "ok"), name
        assert (rows[name]["e_above_hull"] is None) == (name in faulty), name
    for stage in ("relaxed/base/00000", "hull/base", "novelty/base", "properties/base"):
        assert pq.read_table(results / f"{stage}.parquet").column("id").to_pylist()[: len(ids)] == ids, stage
    metrics = pq.read_table(results / "metrics.parquet").to_pylist()[0]
    assert metrics["n"] == len(rows) == len(ids) + 4
    failures = json.loads(metrics["failures"])
    found = {status: failures[stage].get(status, 0) for stage in failures for status in failures[stage]}
    assert found.keys() >= faulty.keys()

    # What the good ones get, they get without the bad ones too.
    alone = workflow.folder / "good.parquet"
    mask = [name not in faulty for name in ids]
    write_table(alone, sampled.filter(mask), {})
    program = [sys.executable, "-m", "crystalformer_rl", "relax", str(alone), "--max-evaluations", "2", "--out"]
    subprocess.run([*program, str(tmp_path / "alone.parquet")], check=True)
    energies = pq.read_table(tmp_path / "alone.parquet").column("energy").to_pylist()
    for name, energy in zip(sampled.filter(mask).column("id").to_pylist(), energies, strict=True):
        assert rows[name]["energy"] == pytest.approx(energy, abs=1e-5)


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Workflow:
    """A tiny comparison from end to end: the best two of four, and an arm that learns."""
    workflow = Workflow(root, tmp_path_factory.mktemp("arms"))
    policies = {"best": {"kind": "best_of_n"}, "sft": {"seeds": [1], "finetune": {"algorithm": "sft"}}}
    config = {**TINY, "sample": {"n": 2, "batch": 2}, "arms": {"policies": policies}}
    done = workflow.snakemake("--cores", "2", config=config)
    assert done.returncode == 0, done.stdout + done.stderr
    return workflow


@pytest.mark.slow
def test_a_comparison_runs(compared: Workflow) -> None:
    results = compared.folder / "results"
    rows = pq.read_table(results / "comparison" / "arms.parquet").to_pylist()
    assert [row["policy"] for row in rows] == ["base", "best-0", "sft-1"]
    assert all(row["judged_stable_count"] is not None for row in rows)
    rollouts = pq.read_table(results / "finetune" / "best-0" / "round_1" / "rollouts.parquet")
    chosen = pq.read_table(results / "samples" / "best-0" / "00000.parquet").column("id").to_pylist()
    rewards = {row["id"]: row["reward"] for row in rollouts.to_pylist() if row["status"] == "ok"}
    assert [rewards[name] for name in chosen] == sorted(rewards.values(), reverse=True)[:2]
    assert compared.plan() == {}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("lost", "jobs"),
    [
        ("judge/sft-1.parquet", {"judge": 1, "compare": 1}),
        ("comparison/comparison.svg", {"compare": 1}),
        (
            "finetune/sft-1/round_1/rollouts.parquet",
            {"finetune": 1, "sample": 1, "relax": 1, "hull": 1, "novelty": 1, "properties": 1, "evaluate": 1, "judge": 1,
             "compare": 1},
        ),
        (
            "samples/best-0/00000.parquet",
            {"select": 1, "relax": 1, "hull": 1, "novelty": 1, "properties": 1, "evaluate": 1, "judge": 1, "compare": 1},
        ),
        ("finetune/tuned/round_1/updates.parquet",
         {"finetune": 1, "sample": 1, "relax": 1, "hull": 1, "novelty": 1, "properties": 1, "evaluate": 1, "shortlist": 1, "judge_best": 1, "rank": 1, "report": 1}),
    ],
)  # fmt: skip
def test_what_an_arm_loses_is_its_own(compared: Workflow, tmp_path: Path, lost: str, jobs: dict[str, int]) -> None:
    """The other arms, the main run, its ranking and report stay."""
    path, kept = compared.folder / "results" / lost, tmp_path / "kept"
    path.rename(kept)
    try:
        assert compared.plan() == jobs
    finally:
        kept.rename(path)
    assert compared.plan() == {}


@pytest.mark.slow
def test_the_report_is_about_the_main_run(compared: Workflow) -> None:
    page = (compared.folder / "results" / "report" / "index.html").read_text(encoding="utf-8")
    assert "tuned" in page
    assert "sft-1" not in page
    assert "best-0" not in page
