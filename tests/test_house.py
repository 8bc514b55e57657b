"""The house as it is drawn: what is imported is declared, names stand once, stages have commands, words know no options."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import re
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from crystalformer_rl.cli import COMMANDS
from crystalformer_rl.potential.potential_registry import BUILT_IN
from crystalformer_rl.tables.column import Column

PACKAGE = "crystalformer_rl"
LONGEST = 450


@pytest.fixture(scope="module")
def modules(root: Path) -> list[Path]:
    return sorted((root / PACKAGE).rglob("*.py"))


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0]


def test_every_import_is_a_declared_dependency(root: Path, modules: list[Path]) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    declared = [*project["dependencies"], *extras["potential"], *extras["analysis"], *extras["workflow"]]
    declared += [text for found in BUILT_IN.values() for text in found.requires]  # of environments of their own
    names = {re.split(r"[<>=!\[; ]", text, maxsplit=1)[0].lower().replace("_", "-") for text in declared}
    distributions = importlib.metadata.packages_distributions()
    missing = {}
    for path in modules:
        for name in imported(ast.parse(path.read_bytes())):
            if name == PACKAGE or name in sys.stdlib_module_names:
                continue
            own = {d.lower().replace("_", "-") for d in distributions.get(name, [name])}
            if not own & names:
                missing[name] = path.name
    assert missing == {}


def test_no_two_modules_have_one_name(root: Path, modules: list[Path]) -> None:
    """But a stage and its command, which are two sides of one thing."""
    places = defaultdict(set)
    for path in modules:
        if path.stem not in ("__init__", "__main__"):
            places[path.stem].add(path.parent.relative_to(root / PACKAGE).as_posix())
    twice = {name: found for name, found in places.items() if len(found) > 1 and not found <= {"cli", "stages"}}
    assert twice == {}


def test_every_stage_has_its_command(root: Path) -> None:
    for path in (root / PACKAGE / "stages").glob("*.py"):
        if path.stem not in ("__init__", "questions", "answers", "source_digest"):
            assert path.stem.replace("_", "-") in COMMANDS, path.name


def test_only_the_command_line_knows_of_options(root: Path, modules: list[Path]) -> None:
    for path in modules:
        if (root / PACKAGE / "cli") in path.parents:
            continue
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert not re.search(r"(^|\s|['`])--[a-z]", node.value), f"{path.name}:{node.lineno}"


def test_no_module_is_long(modules: list[Path]) -> None:
    lengths = {path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in modules}
    assert {name: n for name, n in lengths.items() if n > LONGEST} == {}


def test_a_column_of_one_name_has_one_type_and_unit(root: Path) -> None:
    import importlib

    seen: dict[str, set[tuple[pa.DataType, str]]] = defaultdict(set)
    for path in (root / PACKAGE / "tables").glob("*_columns.py"):
        for value in vars(importlib.import_module(f"{PACKAGE}.tables.{path.stem}")).values():
            for column in value if isinstance(value, tuple) else [value]:
                if isinstance(column, Column):
                    seen[column.name].add((column.type, column.unit))
    assert len(seen) > 50
    # A chain's reward is that of its law, in eV/atom; fine-tuning's is what the configuration wrote down.
    assert {name for name, found in seen.items() if len(found) > 1} <= {"reward"}


#: Groups of entry points, which are no modules.
_ENTRY_POINTS = {f"{PACKAGE}.{name}" for name in ("potentials", "objectives", "reward_terms")}


def exists(dotted: str) -> bool:
    """Whether a dotted name is a module of the package or something in one."""
    parts = dotted.split(".")
    for k in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:k]))
        except ImportError:
            continue
        for name in parts[k:]:
            found = getattr(found, name, None)
        return found is not None
    return False


def test_names_in_the_documents_exist(root: Path) -> None:
    wrong = []
    for path in [*(root / "docs").glob("*.md"), root / "README.md", root / "CONTRIBUTING.md"]:
        text = path.read_text(encoding="utf-8")
        names = set(re.findall(rf"\b{PACKAGE}(?:\.\w+)+", text))
        for module, imports in re.findall(rf"from ({PACKAGE}[\w.]*) import ([\w, ]+)", text):
            names |= {f"{module}.{name.strip()}" for name in imports.split(",")}
        wrong += [f"{path.name}: {name}" for name in sorted(names - _ENTRY_POINTS) if not exists(name)]
    assert wrong == []
