"""Fine-tune a space-group-aware crystal generator on what machine-learned potentials say of its crystals.

>>> import crystalformer_rl as cf
>>> table = cf.evaluate(structures)                       # a pandas DataFrame, a row a crystal, none dropped
>>> policy = cf.load_policy("embedded")
>>> crystals = policy.sample(64, seed=1, formula="Li3YCl6")

Everything here is loaded when it is first used, so that importing the package costs nothing and brings no framework.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crystalformer_rl.front_door.crystals import evaluate, novelty, phase_diagram, relax, to_structures
    from crystalformer_rl.front_door.policies import Policy, load_policy
    from crystalformer_rl.front_door.predictions import predict

__version__ = "0.1.0"

_FRONT_DOOR = {
    "evaluate": "crystals",
    "relax": "crystals",
    "novelty": "crystals",
    "to_structures": "crystals",
    "phase_diagram": "crystals",
    "load_policy": "policies",
    "Policy": "policies",
    "predict": "predictions",
}
#: Rooms whose names are also functions of the front door: `hull(…)` computes, `hull.stability` is a module.
_CALLABLE_ROOMS = {"hull": "crystals", "properties": "crystals", "finetune": "policies"}

__all__ = [
    "Policy",
    "__version__",
    "evaluate",
    "finetune",
    "hull",
    "load_policy",
    "novelty",
    "phase_diagram",
    "predict",
    "properties",
    "relax",
    "to_structures",
]


class _CallableRoom(ModuleType):
    """A package of the project that can be called: the function of the front door that has its name."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return self.__wrapped__(*arguments, **options)

    @property
    def __wrapped__(self) -> Any:
        """The function itself, whose arguments and words `help` and notebooks show."""
        name = self.__name__.rpartition(".")[2]
        return getattr(importlib.import_module(f"{__name__}.front_door.{_CALLABLE_ROOMS[name]}"), name)


class _Package(ModuleType):
    """The package itself: rooms that share their names with functions become callable, whenever they are imported."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _CALLABLE_ROOMS and isinstance(value, ModuleType):
            value.__class__ = _CallableRoom
        super().__setattr__(name, value)


def __getattr__(name: str) -> Any:
    if name in _FRONT_DOOR:
        return getattr(importlib.import_module(f"{__name__}.front_door.{_FRONT_DOOR[name]}"), name)
    if name in _CALLABLE_ROOMS:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)


sys.modules[__name__].__class__ = _Package
