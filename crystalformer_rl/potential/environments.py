"""Python environments of their own, in which potentials live whose packages cannot share ours.

An environment is a folder: a virtual environment made with pip, and `environment.json`, which says for what it was
made. The folders lie below `$CRYSTALFORMER_RL_ENVIRONMENTS`, by default in `potentials/` of the Python
that runs this, and go with it. Of this project only the code is seen from there, by a link to the package. Packages of the Python that
made it, such as torch, are seen too, and pip installs only what is missing or must differ, which comes first.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crystalformer_rl.errors import InputError

FOLDER_VARIABLE = "CRYSTALFORMER_RL_ENVIRONMENTS"
NEEDED_BY_ALL = ("numpy>=1.26", "pyarrow>=15", "pymatgen>=2024.10", "ase>=3.25")
"""What the code of this package needs in an environment to answer for a potential."""


@dataclass(frozen=True)
class Environment:
    """An environment by its folder, which need not be there."""

    folder: Path

    @property
    def python(self) -> Path:
        """The interpreter."""
        return self.folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

    @property
    def there(self) -> bool:
        """Whether it was made, whole."""
        return self._record.is_file() and self.python.exists()

    @property
    def code(self) -> Path:
        """What goes on the interpreter's path: a folder with a link to this package and nothing else."""
        return self.folder / "code"

    @property
    def _record(self) -> Path:
        return self.folder / "environment.json"

    def record(self) -> dict[str, Any]:
        """What is known of it. Raises InputError where the file is damaged."""
        try:
            found = json.loads(self._record.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"{self._record} cannot be read ({error}); delete {self.folder} and install again.") from error
        if not isinstance(found, dict):
            raise InputError(f"{self._record} holds no record; delete {self.folder} and install again.")
        return found

    def write_record(self, record: dict[str, Any]) -> None:
        """Replace what is known of it."""
        temporary = self._record.with_suffix(".tmp")
        temporary.write_text(json.dumps(record, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        temporary.replace(self._record)

    def variables(self) -> dict[str, str]:
        """Environment variables of a process that runs its interpreter: it sees this package, and no packages of the user's own."""
        return {"PYTHONPATH": str(self.code), "PYTHONNOUSERSITE": "1"}

    def packages(self) -> Path:
        """Where its packages lie."""
        (found,) = list(self.folder.glob("lib/python*/site-packages")) or [self.folder / "Lib" / "site-packages"]
        return found


def folder_of_environments() -> Path:
    """Where environments lie."""
    given = os.environ.get(FOLDER_VARIABLE)
    return Path(given) if given else Path(sys.prefix) / "potentials"


def environment(key: str) -> Environment:
    """The environment of that key, `sevennet` or `ase:my.module`."""
    return Environment(folder_of_environments() / re.sub(r"[^\w.-]+", "-", key))


def make(
    place: Environment, potential: str, requirements: Sequence[str], say: Callable[[str], object] = lambda _: None
) -> Environment:
    """Make an environment anew: pip installs `requirements` and what every environment needs.

    A folder that was there is replaced in the end, not before. Raises InputError where Python or pip fail, in pip's own words.
    """
    wanted = [*NEEDED_BY_ALL, *requirements]
    fresh = Environment(place.folder.with_name(place.folder.name + ".new"))
    shutil.rmtree(fresh.folder, ignore_errors=True)
    try:
        fresh.folder.parent.mkdir(parents=True, exist_ok=True)
        say(f"making {place.folder}")
        _run([sys.executable, "-m", "venv", str(fresh.folder)], "Python's venv")
        shared = "\n".join(dict.fromkeys(sysconfig.get_paths()[name] for name in ("purelib", "platlib")))
        (fresh.packages() / "shared_packages.pth").write_text(shared + "\n", encoding="utf-8")
        say(f"pip install {' '.join(requirements)}")
        _run([str(fresh.python), "-m", "pip", "install", "-q", *wanted], "pip")
        fresh.code.mkdir()
        (fresh.code / "crystalformer_rl").symlink_to(Path(__file__).resolve().parents[1], target_is_directory=True)
        fresh.write_record({"potential": potential, "requirements": list(requirements), "python": sys.version.split()[0]})
        shutil.rmtree(place.folder, ignore_errors=True)
        fresh.folder.rename(place.folder)
    except OSError as error:
        raise InputError(
            f"{place.folder} cannot be made ({error.strerror or error}); free space there, or name another folder in "
            f"{FOLDER_VARIABLE}."
        ) from error
    finally:
        shutil.rmtree(fresh.folder, ignore_errors=True)
    return place


_ALONE = {"PYTHONNOUSERSITE": "1", "PIP_USER": "0"}
"""Environment variables by which pip neither counts nor installs packages of the user's own."""


def _run(command: list[str], what: str) -> None:
    """Run a command that installs. Raises InputError with the last thing that it said."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **_ALONE})
    if done.returncode:
        said = [line for line in (done.stderr or done.stdout).strip().splitlines() if not line.startswith("WARNING")]
        raise InputError(
            f"{what} failed ({said[-1] if said else f'exit status {done.returncode}'}); see to that, and try again."
        )
