"""The command that makes a round, killed at random moments: run again it gives the bytes of an undisturbed run."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from policy_examples import small_policy, with_real_lattices

from crystalformer_rl.cli.finetune import command
from crystalformer_rl.crystal.elements import SYMBOLS
from crystalformer_rl.policy.checkpoint import read_safetensors, save_policy
from crystalformer_rl.reference.file import write_reference
from crystalformer_rl.tables.column import make_table
from crystalformer_rl.tables.energy_columns import REFERENCE
from crystalformer_rl.tables.provenance import provenance

POTENTIAL = "ase:ase.calculators.lj:LennardJones"
KILLS = 10


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small policy, and a reference of the elements alone in a potential that needs no weights."""
    from crystalformer_rl.potential import load

    folder = tmp_path_factory.mktemp("rounds")
    card = {"space_group_counts": [int(g in (2, 62, 225)) for g in range(1, 231)]}
    save_policy(folder / "base.safetensors", with_real_lattices(small_policy()), card)
    entry = {
        "id": "He",
        "formula": "He",
        "role": "pretraining",
        "energy": 0.0,
        "formation_energy": 0.0,
        "n_atoms": 1,
        "status": "ok",
    }
    table = make_table(REFERENCE, {c.name: [entry.get(c.name)] for c in REFERENCE})
    record = {"potential": load(POTENTIAL).identity.as_record(), "elemental_energies": dict.fromkeys(SYMBOLS, 0.0)}
    write_reference(folder / "reference.parquet", table, provenance("reference", {}, [], **record))
    settings = {"updates": 2, "batch": 16, "unscored": 16, "repeats": 0.1, "replay": 8, "kl_target": 1.0}
    reward = {"terms": [{"term": "e_above_hull", "weight": -1.0, "clip": [0.0, 1.0]}]}
    (folder / "settings.json").write_text(json.dumps({"finetune": settings, "reward": reward}))
    return folder


def arguments(folder: Path, out: Path) -> list[str]:
    base = str(folder / "base.safetensors")
    return [
        *(
            "--policy",
            base,
            "--base-policy",
            base,
            "--reference",
            str(folder / "reference.parquet"),
            "--potential",
            POTENTIAL,
        ),
        *("--config", str(folder / "settings.json"), "--out", str(out)),
    ]


def run(folder: Path, out: Path) -> subprocess.Popen[str]:
    line = [sys.executable, "-m", "crystalformer_rl", "finetune", *arguments(folder, out)]
    return subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True)


def finish(process: subprocess.Popen[str]) -> None:
    _, said = process.communicate()
    assert process.returncode == 0, said


def kill(process: subprocess.Popen[str]) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def expected(workplace: Path) -> dict[str, bytes]:
    """The files of an undisturbed run."""
    folder = workplace / "undisturbed"
    finish(run(workplace, folder))
    made = files(folder)
    assert set(made) == {"policy.safetensors", "state.safetensors", "rollouts.parquet", "updates.parquet"}
    updates = pq.read_table(folder / "updates.parquet").column("evaluations").to_pylist()
    assert min(updates) > 5, "most crystals were evaluated"
    state, _ = read_safetensors(folder / "state.safetensors")
    assert len(state["best.value"]) == 8, "and the best are kept for replay"
    return made


def test_a_round_killed_between_updates_runs_again_to_the_same_bytes(
    workplace: Path, expected: dict[str, bytes], tmp_path: Path
) -> None:
    process = run(workplace, tmp_path)
    assert process.stderr is not None
    assert any("update 1" in line for line in process.stderr)
    kill(process)
    assert not expected.keys() & files(tmp_path).keys()
    finish(run(workplace, tmp_path))
    assert {name: files(tmp_path)[name] for name in expected} == expected


@pytest.mark.slow
def test_a_round_killed_at_any_moment_runs_again_to_the_same_bytes(
    workplace: Path, expected: dict[str, bytes], tmp_path: Path
) -> None:
    begin = time.monotonic()
    finish(run(workplace, tmp_path / "again"))
    duration = time.monotonic() - begin
    assert files(tmp_path / "again") == expected
    disturbed, moments = tmp_path / "disturbed", random.Random(0)
    for _ in range(KILLS):
        process = run(workplace, disturbed)
        time.sleep(moments.uniform(0.05, 1.0) * duration)
        kill(process)
        whole = files(disturbed) if disturbed.is_dir() else {}
        # what stands under its final name is whole, however early the end came
        assert all(content == expected[name] for name, content in whole.items() if name in expected)
    finish(run(workplace, disturbed))
    assert {name: files(disturbed)[name] for name in expected} == expected


def test_what_the_command_says(workplace: Path) -> None:
    result = CliRunner().invoke(command, [*arguments(workplace, workplace / "again"), "--json"])
    assert result.exit_code == 0, result.output
    assert "update 2: reward" in result.stderr
    for figure in ("stable", "KL", "needed", "templates", "unique", "evaluations"):
        assert figure in result.stderr
    assert json.loads(result.stdout)["update"] == 2


def test_a_place_that_is_no_folder_is_named_before_any_work(workplace: Path) -> None:
    (workplace / "taken").write_text("")
    result = CliRunner().invoke(command, arguments(workplace, workplace / "taken"))
    assert "taken cannot be a folder" in str(result.exception)
    assert "update 1" not in result.output


def test_a_state_is_wanted_exactly_where_there_is_one_before(workplace: Path) -> None:
    result = CliRunner().invoke(command, [*arguments(workplace, workplace / "x"), "--round", "2"])
    assert "every later round needs the state" in str(result.exception)
