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
import sys
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from crystalformer_rl.errors import InputError
from crystalformer_rl.potential.environments import Environment, environment
from crystalformer_rl.tables.provenance import sha256

ENTRY_POINTS = "crystalformer_rl.potentials"


@dataclass(frozen=True)
class Registered:
    """What a name stands for.

    maker: `package.module:name`, called with the name or with what follows its colon; package: the distribution whose
    version belongs to what it computes; takes: what stands behind the colon, in words, empty for nothing; weights: glob of
    the weights within the package, where they come with it. environment: the key of the environment in which it may live, by
    default its name, or kind and module; requires: what pip installs there. apart: its package shares no environment with ours.
    """

    maker: str
    package: str
    takes: str = ""
    weights: str = ""
    environment: str = ""
    requires: tuple[str, ...] = ()
    apart: bool = False


_TORCH = "torch>=2.6,<2.14"
_SEVENNET = Registered(
    "crystalformer_rl.potential.sevennet:SevenNet",
    "sevenn",
    environment="sevennet",
    requires=("sevenn>=0.13,<0.14", _TORCH),
    apart=True,
)

BUILT_IN = {
    "chgnet": Registered(
        "crystalformer_rl.potential.chgnet:CHGNet",
        "chgnet",
        weights="pretrained/0.3.0/*.tar",
        environment="chgnet",
        requires=("chgnet>=0.4.2", _TORCH),
    ),
    "chgnet-r2scan": Registered(
        "crystalformer_rl.potential.chgnet:CHGNet",
        "chgnet",
        weights="pretrained/r2scan/*.tar",
        environment="chgnet",
        requires=("chgnet>=0.4.2", _TORCH),
    ),
    "sevennet-0": replace(_SEVENNET, weights="pretrained_potentials/SevenNet_0__11Jul2024/*.pth"),
    "sevennet-l3i5": replace(_SEVENNET, weights="pretrained_potentials/SevenNet_l3i5/*.pth"),
    "mace": Registered(
        "crystalformer_rl.potential.mace:Mace", "mace-torch", takes="FILE", requires=("mace-torch>=0.3.13", _TORCH)
    ),
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


def environment_key(name: str) -> str:
    """The key of a potential's environment: `sevennet`, `mace`, or of an ASE calculator `ase:package.module`."""
    found, argument = find(name)
    kind = name.partition(":")[0]
    return found.environment or (f"{kind}:{argument.partition(':')[0]}" if kind == "ase" else kind)


def environment_of(name: str) -> Environment | None:
    """The environment in which a potential lives; None for this Python.

    One that was installed for it comes first. Raises InputError for a potential whose package can live in no environment of
    ours, where none was installed.
    """
    found, _ = find(name)
    place = environment(environment_key(name))
    if place.there:
        return place
    if found.apart and not importable(name):
        raise InputError(
            f"the potential '{name}' needs the package {found.package} in an environment of its own; "
            f"`crystalformer-rl potential install {name}` makes it."
        )
    return None


def importable(name: str) -> bool:
    """Whether this Python has the package of a potential; of an ASE calculator, the module behind the colon."""
    found, argument = find(name)
    if name.startswith("ase:"):
        return bool(_source(argument))
    package = {"mace-torch": "mace"}.get(found.package, found.package)
    return not package.isidentifier() or importlib.util.find_spec(package) is not None


def whereabouts() -> list[dict[str, str]]:
    """Each potential by name, with where it lives in words."""
    rows = []
    for name, found in registered().items():
        written = _written(name, found)
        place = environment(found.environment or name)
        if found.takes and name == "ase":
            where = "a class or function of any module; where its packages cannot live here, `potential install` it"
        elif place.there:
            where = f"in an environment of its own, {place.folder}"
        elif importable(f"{name}:-" if found.takes else name):
            where = f"in this environment, {found.package}"
        else:
            where = f"not installed; `crystalformer-rl potential install {written}`"
        rows.append({"name": written, "where": where})
    return rows


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
    place = environment(environment_key(name))
    packages = [str(place.packages())] if place.there else _found_here(found.package)
    versions = (
        [d.version for d in importlib.metadata.distributions(name=found.package, path=packages)] if found.package else []
    )
    facts["package"] = f"{found.package} {versions[0]}" if versions else found.package
    files = _weights(found, packages) or ([Path(argument)] if Path(argument).is_file() else _source(argument))
    if files:
        facts["sha256"] = hashlib.sha256("".join(_digest(path) for path in files).encode()).hexdigest()
    return facts


def _found_here(package: str) -> list[str]:
    """The folders in which this Python finds packages, the one of `package` first."""
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    parents = [str(Path(place).parent) for place in (spec.submodule_search_locations or ())] if spec is not None else []
    return [*parents, *sys.path]


def _weights(found: Registered, packages: list[str]) -> list[Path]:
    """The weights that come with a package, in the first of the folders of packages that has some."""
    if not found.weights:
        return []
    for folder in packages:
        if files := sorted((Path(folder) / found.package).glob(found.weights)):
            return files
    return []


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
