"""Which files of the package a command is made of, so that an edit reruns the stages it touches.

Snakemake notices changes of a rule, its inputs and parameters, but not of the
package that the rule's command comes from. The workflow passes `source_digest`
as a parameter instead.
"""

from __future__ import annotations

import ast
import functools
import hashlib
from pathlib import Path

PACKAGE = "crystalformer_rl"
_ROOT = Path(__file__).resolve().parent.parent
#: Lists the commands and imports each by name; no result depends on it.
_ENTRY = f"{PACKAGE}.cli"


def source_digest(command: str, *also: str) -> str:
    """Hex digest of everything in the package that a command uses.

    Args:
        command: such as `relax` or `log-prob`.
        also: further modules below the package that it starts without importing them,
            such as `scoring.worker`.
    """
    digest = hashlib.sha256()
    for path in source_files(command, *also):
        digest.update(path.relative_to(_ROOT).as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def source_files(command: str, *also: str) -> list[Path]:
    """The modules that a command imports, directly or not, in functions too, and the data files beside them.

    Raises FileNotFoundError where the command has no module.
    """
    waiting = [f"{_ENTRY}.{command.replace('-', '_')}", *(f"{PACKAGE}.{name}" for name in also)]
    if missing := [name for name in waiting if _file(name) is None]:
        raise FileNotFoundError(f"no module {', '.join(missing)}")
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        path = _file(name)
        if name in seen or name == _ENTRY or path is None:
            continue
        seen.add(name)
        waiting += imported_modules(path)
        waiting.append(name.rpartition(".")[0])  # importing a module runs the packages around it
    modules = {path for name in seen if (path := _file(name))}
    return sorted(modules | {data for path in modules for data in _data_beside(path)})


@functools.cache
def imported_modules(path: Path) -> tuple[str, ...]:
    """Dotted names below the package that a module's import statements may mean."""
    names = []
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return tuple(name for name in names if name.split(".")[0] == PACKAGE)


def _file(name: str) -> Path | None:
    """The file of a module or package; None where the name is something else, such as a function."""
    place = _ROOT.joinpath(*name.split(".")[1:])
    candidates = (place / "__init__.py", place.with_suffix(".py")) if place != _ROOT else (place / "__init__.py",)
    return next((path for path in candidates if path.is_file()), None)


def _data_beside(module: Path) -> list[Path]:
    """Tables, templates and the like in a module's folder; they count as part of it."""
    if module.parent == _ROOT:
        return []
    files = (path for path in module.parent.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return [path for path in files if path.suffix not in (".py", ".pyc", ".typed")]
