"""Machine-learned potentials, relaxation in symmetry coordinates, the worker that holds a potential. Torch; never JAX."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING

from crystalformer_rl.errors import InputError
from crystalformer_rl.potential.potential_registry import environment_of, find

if TYPE_CHECKING:
    from crystalformer_rl.potential.protocol import Potential


def load(name: str, threads: int | None = 1) -> Potential:
    """The potential of that name: chgnet, chgnet-r2scan, sevennet-0, sevennet-l3i5, mace:FILE, ase:package.module:Class, or a registered one.

    It runs in this process, or in the environment that was installed for it. threads: of torch. Raises InputError as
    `load_here`, and where it needs an environment that is not there.
    """
    place = environment_of(name)
    if place is None:
        return load_here(name, threads)
    from crystalformer_rl.potential.elsewhere import Elsewhere

    return Elsewhere(name, place, threads)


def load_here(name: str, threads: int | None = 1) -> Potential:
    """The potential of that name in this process.

    threads: of torch, for the whole process; None leaves them. The matrices are small: one thread a process and several
    processes waste less than several threads, and results then depend on no thread count.

    Raises InputError for a name that is not one, a missing file or a missing package.
    """
    found, argument = find(name)
    module, _, maker = found.maker.partition(":")
    try:
        made = getattr(importlib.import_module(module), maker)
        potential: Potential = made(argument)
    except ModuleNotFoundError as error:
        raise InputError(
            f"the potential '{name}' needs the package '{error.name}'; install crystalformer-rl[potential]."
        ) from error
    torch = sys.modules.get("torch")  # a potential without it need not wait for its import
    if torch is not None and threads is not None:
        torch.set_num_threads(threads)
    return potential
