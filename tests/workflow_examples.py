"""The workflow as a user starts it, in a folder of its own, and the settings of a tiny run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from crystalformer_rl.potential.environments import FOLDER_VARIABLE

TINY = {
    "sample": {"n": 8, "batch": 4},
    "relax": {"max_evaluations": 2},
    "finetune": {"rounds": 1, "updates": 1, "batch": 4, "unscored": 4},
    "rank": {"scored": 0},
    "judge": {"potential": "chgnet-r2scan"},  # which needs no environment of its own
}


@dataclass
class Workflow:
    """The repository's Snakefile, working in a folder of its own."""

    root: Path
    folder: Path
    judged: bool = True

    def configure(self, config: Mapping[str, Any]) -> None:
        (self.folder / "config.yaml").write_text(yaml.safe_dump(dict(config)), encoding="utf-8")

    def snakemake(self, *arguments: str, config: Mapping[str, Any] | None = None) -> subprocess.CompletedProcess[str]:
        if config is not None:
            self.configure(config)
        environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            FOLDER_VARIABLE: str(self._environments()),
        }
        command = [
            sys.executable,
            "-m",
            "snakemake",
            "--snakefile",
            str(self.root / "Snakefile"),
            "--directory",
            str(self.folder),
        ]
        return subprocess.run(
            [*command, *arguments], cwd=self.root, env=environment, capture_output=True, text=True, check=False
        )

    def _environments(self) -> Path:
        """A folder of environments in which that of the default judge seems to be, so that plans are the same everywhere."""
        place = self.folder / "potentials"
        python = place / "sevennet" / "bin" / "python"
        if self.judged and not python.exists():
            python.parent.mkdir(parents=True)
            python.touch()
            (place / "sevennet" / "environment.json").write_text("{}", encoding="utf-8")
        return place

    def plan(self, *arguments: str, config: Mapping[str, Any] | None = None) -> dict[str, int]:
        """How many jobs of each rule a run would start."""
        done = self.snakemake("--dry-run", *arguments, config=config)
        output = done.stdout + done.stderr
        assert done.returncode == 0, output
        if "Nothing to be done" in output:
            return {}
        table = output.split("Job stats:", 1)[1].split("total", 1)[0]
        jobs = {rule: int(count) for rule, count in re.findall(r"^(\w+) +(\d+)$", table, re.MULTILINE)}
        return {rule: count for rule, count in jobs.items() if rule != "all"}
