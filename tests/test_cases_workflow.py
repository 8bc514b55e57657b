"""What went wrong for others around Snakemake, SLURM and conda: resources that vanish, limits that are handed down, packages of the home folder."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from workflow_examples import TINY, Workflow

_ONE_CORE = {
    "SLURM_JOB_ID": "4711", "SLURM_CPUS_PER_TASK": "1", "SLURM_CPUS_ON_NODE": "1", "SLURM_MEM_PER_NODE": "2048",
    "SLURM_TRES_PER_TASK": "cpu=1", "SLURM_NTASKS": "1", "SRUN_CPUS_PER_TASK": "1", "SBATCH_PARTITION": "small",
}  # fmt: skip
"""What a job of one core and 2 GB leaves in the environment."""


# --- one resource on the command line wipes out those of the profile ----------------


def rules(root: Path) -> dict[str, str]:
    """The text of every rule of the workflow, by name; a rule that takes over another's has that before its own."""
    head = re.compile(r"^(?:use )?rule (?:(\w+) as )?(\w+)(?: with)?:$", re.MULTILINE)
    texts: dict[str, str] = {}
    taken_from: dict[str, str] = {}
    for path in sorted((root / "workflow" / "rules").glob("*.smk")):
        parts = head.split(path.read_text(encoding="utf-8"))
        for other, name, text in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
            texts[name] = text
            if other:
                taken_from[name] = other
    return {name: texts.get(taken_from.get(name, ""), "") + text for name, text in texts.items()}


def test_every_submitted_rule_states_what_command_lines_wipe_out(root: Path) -> None:
    found = rules(root)
    assert {"relax", "shortlist", "judge", "pretrain", "compare"} <= set(found)
    local = {name for name, text in found.items() if "localrule: True" in text}
    assert local == {"finetune_settings", "pretrain_settings"}
    for name, text in found.items():
        if name not in local:
            assert re.search(r"^ +mem_mb=\d+.*,$", text, re.MULTILINE), name
            assert re.search(r"^ +runtime=\d+,$", text, re.MULTILINE), name


def test_the_documentation_says_that_default_resources_do_not_add_up(root: Path) -> None:
    text = " ".join((root / "docs" / "slurm.md").read_text(encoding="utf-8").split())
    assert "`--default-resources` on the command line does not add to those of the profile but replaces them all" in text
    (block,) = re.findall(
        r"```\n(default-resources:\n(?: .*\n)+)```", (root / "docs" / "slurm.md").read_text(encoding="utf-8")
    )
    ours = yaml.safe_load((root / "profiles" / "slurm" / "config.yaml").read_text(encoding="utf-8"))["default-resources"]
    assert yaml.safe_load(block)["default-resources"] == ours | {"slurm_partition": "PARTITION", "slurm_account": "ACCOUNT"}


# --- Snakemake as a job of its own ---------------------------------------------------


def head_job(root: Path) -> str:
    """The script that docs/slurm.md gives for Snakemake as a job of its own."""
    (script,) = re.findall(r"```\n(#!/usr/bin/env bash\n#SBATCH.*?)```", (root / "docs" / "slurm.md").read_text(), re.DOTALL)
    return str(script)


@pytest.mark.parametrize("inside", [_ONE_CORE, {}], ids=["in a job", "on a login node"])
def test_the_script_of_the_documentation_hands_no_limits_down(root: Path, tmp_path: Path, inside: dict[str, str]) -> None:
    shim = tmp_path / ".venv" / "bin" / "activate"
    shim.parent.mkdir(parents=True)
    shim.write_text(f"snakemake() {{ {sys.executable} -c 'import json, os; print(json.dumps(dict(os.environ)))'; }}\n")
    done = subprocess.run(
        ["bash", "-c", head_job(root).replace("REPOSITORY", str(tmp_path))],
        env={**os.environ, **inside}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    seen = json.loads(done.stdout)
    assert "PATH" in seen
    assert not [name for name in seen if name.startswith(("SLURM_", "SRUN_", "SBATCH_"))]


def test_a_run_inside_a_job_is_planned_as_elsewhere(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("snakemake_executor_plugin_slurm", reason="needs the SLURM executor (the extra `workflow`)")
    workflow, submit = Workflow(root, tmp_path), ("--workflow-profile", str(root / "profiles" / "slurm"))
    outside = workflow.plan(*submit, config={})
    for name, value in _ONE_CORE.items():
        monkeypatch.setenv(name, value)
    inside = workflow.plan(*submit, "--default-resources", "slurm_partition=cpu", "slurm_account=proj42", config={})
    assert inside == outside
    assert outside["relax"] == 5


# --- packages of the home folder -----------------------------------------------------

BARE = getattr(sys, "_base_executable", sys.executable)
"""An interpreter outside a virtual environment, as one of conda is."""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home folder whose ~/.local holds a numpy that cannot be imported, which Python finds unless told not to look."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    package = tmp_path / "home" / ".local" / "lib" / version / "site-packages" / "numpy"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text('raise ImportError("numpy of the home folder")\n', encoding="utf-8")
    seen = subprocess.run(
        [BARE, "-c", "import sys; print(sys.path)"], env=bare(tmp_path / "home"), capture_output=True, text=True, check=True
    )
    if str(package.parent) not in seen.stdout:
        pytest.skip(f"{BARE} does not look into the home folder")
    return tmp_path / "home"


def bare(home: Path, **more: str) -> dict[str, str]:
    """The environment of a user with that home folder."""
    left_out = ("PYTHONNOUSERSITE", "PYTHONPATH", "VIRTUAL_ENV", "PIP_USER")
    kept = {name: value for name, value in os.environ.items() if name not in left_out}
    return kept | {"HOME": str(home), "PYTHONUSERBASE": str(home / ".local")} | more


def recording(folder: Path, *names: str) -> Path:
    """Programs of those names, each of which notes what a bare interpreter sees of the home folder, and pip's setting."""
    folder.mkdir()
    look = "import os, sys; print([p for p in sys.path if '/.local/' in p], os.environ.get('PIP_USER'), *sys.argv[1:])"
    for name in names:
        program = folder / name
        program.write_text(f'#!/bin/sh\n"{BARE}" -c "{look}" "$@" >> "{folder}/seen"\n', encoding="utf-8")
        program.chmod(0o755)
    return folder


@pytest.mark.parametrize("name", ["analysis", "policy", "potential", "sevennet"])
def test_environments_are_made_without_the_home_folder(root: Path, home: Path, tmp_path: Path, name: str) -> None:
    programs = recording(tmp_path / "programs", "python", "crystalformer-rl")
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(
        ["bash", root / "envs" / f"{name}.post-deploy.sh"], env=bare(home, PATH=path, PIP_USER="1"), cwd=tmp_path, check=True
    )
    lines = (programs / "seen").read_text(encoding="utf-8").splitlines()
    assert lines
    assert all(line.startswith("[] 0 ") for line in lines), lines
    assert any("install --editable" in line for line in lines)


def test_every_environment_is_tried(root: Path) -> None:
    names = {path.name.removesuffix(".post-deploy.sh") for path in (root / "envs").glob("*.post-deploy.sh")}
    assert names == {path.stem for path in (root / "envs").glob("*.yaml")} == {"analysis", "policy", "potential", "sevennet"}


def test_jobs_do_not_see_the_home_folder(root: Path, home: Path, tmp_path: Path) -> None:
    programs, folder = recording(tmp_path / "programs", "crystalformer-rl"), tmp_path / "run"
    folder.mkdir()
    workflow = Workflow(root, folder)
    workflow.configure(TINY)
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "--snakefile", root / "Snakefile", "--directory", folder, "--cores", "1",
         "results/resources/properties.safetensors"],
        env=bare(home, PATH=f"{programs}{os.pathsep}{os.environ['PATH']}", PYTHONPATH=str(root)),
        cwd=root, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (programs / "seen").is_file(), done.stdout + done.stderr
    (line,) = (programs / "seen").read_text(encoding="utf-8").splitlines()
    assert line.startswith("[] "), line
    assert " fetch " in line


def test_a_virtual_environment_never_looks_there(home: Path) -> None:
    if sys.prefix == sys.base_prefix:
        pytest.skip("these tests run outside a virtual environment")
    told = subprocess.run(
        [sys.executable, "-c", "import numpy; print(numpy.__file__)"],
        env=bare(home),
        capture_output=True,
        text=True,
        check=True,
    )
    assert str(home) not in told.stdout
