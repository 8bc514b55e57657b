"""Which code of the package a stage runs, as one digest, so that an edit reruns the stages it touches and no other.

Snakemake notices changes of a rule, its inputs and parameters, but not of the package that the rule's command comes
from. The workflow passes `source_digest` as a parameter instead. It follows what a stage imports, and says nothing of
what changes no result: comments, docstrings, the descriptions of settings, the command line.
"""

from __future__ import annotations

import ast
import functools
import hashlib
from pathlib import Path
from typing import NamedTuple

PACKAGE = "crystalformer_rl"
_ROOT = Path(__file__).resolve().parent.parent
_STARTS = "STARTS"
"""Name of a stage's tuple of modules below the package that it has run elsewhere without importing them."""


def source_digest(stage: str, *also: str) -> str:
    """Hex digest of the code that a stage runs.

    Args:
        stage: such as `relax` or `log-prob`.
        also: dotted names of further modules of the package that this stage loads by name, such as that of a potential; those
            of other packages are passed over.
    """
    digest = hashlib.sha256()
    for path in source_files(stage, *also):
        digest.update(path.relative_to(_ROOT).as_posix().encode() + b"\0")
        digest.update((_module(path).code if path.suffix == ".py" else path.read_bytes()) + b"\0")
    return digest.hexdigest()


def source_files(stage: str, *also: str) -> list[Path]:
    """The modules that a stage imports, directly or not, in functions too, and the data files that they name.

    Raises FileNotFoundError where the stage has no module.
    """
    start = f"{PACKAGE}.stages.{stage.replace('-', '_')}"
    own = _file(start)
    if own is None:
        raise FileNotFoundError(f"no module {start}")
    waiting = [
        start,
        *(f"{PACKAGE}.{name}" for name in _module(own).starts),
        *(n for n in also if n.split(".")[0] == PACKAGE),
    ]
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        path = _file(name)
        # The package itself only leads to everything by name.
        if name in seen or name == PACKAGE or path is None:
            continue
        seen.add(name)
        waiting += _module(path).imports
        waiting.append(name.rpartition(".")[0])  # importing a module runs the packages around it
    modules = {path for name in seen if (path := _file(name))}
    return sorted(modules | {data for path in modules for data in _data_of(path)})


class _Module(NamedTuple):
    """What is asked of a module: names below the package that it may import, texts in it, what it starts, what it does."""

    imports: tuple[str, ...]
    texts: frozenset[str]
    starts: tuple[str, ...]
    code: bytes


def _module(path: Path) -> _Module:
    return _parsed(path.read_bytes())


@functools.cache
def _parsed(source: bytes) -> _Module:
    tree = ast.parse(source)
    names = tuple(name for name in _imports(tree) if name.split(".")[0] == PACKAGE)
    constants = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant))
    texts = frozenset(value for value in constants if isinstance(value, str))
    # The text anew from its syntax, without comments, docstrings and descriptions of settings.
    return _Module(names, texts, _starts(tree), ast.unparse(_Bare().visit(tree)).encode())


def _imports(tree: ast.Module) -> list[str]:
    """Dotted names that the import statements may mean, in functions too, those for type checkers aside."""
    names: list[str] = []
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            waiting += node.orelse
        elif isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif not isinstance(node, ast.expr):
            waiting += ast.iter_child_nodes(node)
    return names


def _starts(tree: ast.Module) -> tuple[str, ...]:
    """The modules that a stage names in `STARTS`."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == _STARTS for t in node.targets):
            return tuple(ast.literal_eval(node.value))
    return ()


class _Bare(ast.NodeTransformer):
    """Takes out statements that are plain texts, and the words of `Field(…, description=…)`."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            return ast.Pass()
        return self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        if isinstance(node.func, ast.Name) and node.func.id == "Field":
            node.keywords = [keyword for keyword in node.keywords if keyword.arg not in ("description", "examples")]
        return self.generic_visit(node)


def _file(name: str) -> Path | None:
    """The file of a module or package; None where the name is something else, such as a function."""
    place = _ROOT.joinpath(*name.split(".")[1:])
    candidates = (place / "__init__.py", place.with_suffix(".py")) if place != _ROOT else (place / "__init__.py",)
    return next((path for path in candidates if path.is_file()), None)


def _data_of(module: Path) -> list[Path]:
    """Tables, templates and the like beside a module that it names in a text of its own."""
    others = (path for path in module.parent.iterdir() if path.is_file() and path.suffix not in (".py", ".pyc"))
    return [path for path in others if path.name in _module(module).texts]
