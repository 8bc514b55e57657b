"""Which potentials there are: ours by one line each here, others' by an entry point of their package.

A potential's name is its registered name, `chgnet`, or a registered kind and what it takes, `mace:FILE`. The entry-point
group is `crystalformer_rl.potentials`: a name, and `package.module:Class` of what is called with the name, or with what
stands behind the colon. Nothing here imports a framework, so that a workflow can ask what a name stands for.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.metadata
import importlib.util
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from crystalformer_rl.errors import InputError
from crystalformer_rl.tables.provenance import sha256

ENTRY_POINTS = "crystalformer_rl.potentials"


@dataclass(frozen=True)
class Registered:
    """What a name stands for.

    maker: `package.module:name`, called with the name or with what follows its colon; package: the distribution whose
    version belongs to what it computes; takes: what stands behind the colon, in words, empty for nothing; weights: glob of
    the weights within the package, where they come with it.
    """

    maker: str
    package: str
    takes: str = ""
    weights: str = ""


BUILT_IN = {
    "chgnet": Registered("crystalformer_rl.potential.chgnet:CHGNet", "chgnet", weights="pretrained/0.3.0/*.tar"),
    "chgnet-r2scan": Registered("crystalformer_rl.potential.chgnet:CHGNet", "chgnet", weights="pretrained/r2scan/*.tar"),
    "mace": Registered("crystalformer_rl.potential.mace:Mace", "mace-torch", takes="FILE"),
    "ase": Registered("crystalformer_rl.potential.ase_calculator:AseCalculator", "ase", takes="package.module:Class"),
}


def registered() -> dict[str, Registered]:
    """All potentials by name; an installed package's own come after ours and cannot take their names."""
    found = dict(BUILT_IN)
    for point in importlib.metadata.entry_points(group=ENTRY_POINTS):
        found.setdefault(point.name, Registered(point.value, point.dist.name if point.dist else ""))
    return found


def names() -> str:
    """`chgnet, chgnet-r2scan, mace:FILE, ase:package.module:Class` and what installed packages register."""
    return ", ".join(_written(name, found) for name, found in registered().items())


def _written(name: str, found: Registered) -> str:
    """As a user writes it: `chgnet`, `mace:FILE`."""
    return f"{name}:{found.takes}" if found.takes else name


def find(name: str) -> tuple[Registered, str]:
    """What a name stands for, and what its maker is called with. Raises InputError for a name that is not one."""
    there = registered()
    if name in there and not there[name].takes:
        return there[name], name
    kind, _, rest = name.partition(":")
    if kind in there and rest:
        return there[kind], rest
    near = difflib.get_close_matches(name, there, n=1)
    advice = f"did you mean '{_written(near[0], there[near[0]])}'" if near else f"choose one of {names()}"
    raise InputError(f"'{name}' is not a potential; {advice}.")


def module_of(name: str) -> str:
    """The module that computes a potential, such as `crystalformer_rl.potential.mace`."""
    return find(name)[0].maker.partition(":")[0]


def fingerprint(name: str) -> dict[str, str]:
    """What decides a potential's energies, as far as can be told without loading it: package, version, digest of weights.

    The digest is of the weights that come with the package, of the file, or of the source of the module behind the colon;
    it is left out where that is not there, as where the potential lives in another environment. Raises InputError for a
    name that is not one.
    """
    found, argument = find(name)
    facts = {"name": name if not Path(argument).is_file() else f"{name.partition(':')[0]}:{Path(argument).name}"}
    try:
        facts["package"] = f"{found.package} {importlib.metadata.version(found.package)}"
    except (importlib.metadata.PackageNotFoundError, ValueError):
        facts["package"] = found.package
    files = _weights(found) or ([Path(argument)] if Path(argument).is_file() else _source(argument))
    if files:
        facts["sha256"] = hashlib.sha256("".join(_digest(path) for path in files).encode()).hexdigest()
    return facts


def _weights(found: Registered) -> list[Path]:
    if not found.weights:
        return []
    spec = importlib.util.find_spec(found.package)
    places = list(spec.submodule_search_locations or []) if spec is not None else []
    return sorted(path for place in places for path in Path(place).glob(found.weights))


def _source(argument: str) -> list[Path]:
    """The file of the module in `package.module:Class`."""
    module, colon, _ = argument.partition(":")
    if not colon:
        return []
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError, AttributeError):  # a parent that is not a package, or cannot be imported
        return []
    return [Path(spec.origin)] if spec is not None and spec.origin and Path(spec.origin).is_file() else []


@cache
def _digest(path: Path) -> str:
    return sha256(path)
