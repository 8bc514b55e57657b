"""Machine-learned potentials, relaxation in symmetry coordinates, the worker that holds a potential. Torch; never JAX."""

from __future__ import annotations

import importlib
import inspect
import sys
from typing import TYPE_CHECKING

from crystalformer_rl.errors import InputError
from crystalformer_rl.potential.devices import CPU, GPU
from crystalformer_rl.potential.potential_registry import environment_of, find

if TYPE_CHECKING:
    from collections.abc import Callable

    from crystalformer_rl.potential.protocol import Potential


def load(name: str, threads: int | None = 1, device: str = CPU) -> Potential:
    """The potential of that name: chgnet, chgnet-r2scan, sevennet-0, sevennet-l3i5, mace:FILE, ase:package.module:Class, or a registered one.

    It runs in this process, or in the environment that was installed for it. threads: of torch; device: cpu or gpu. Raises InputError as
    `load_here`, and where it needs an environment that is not there.
    """
    place = environment_of(name)
    if place is None:
        return load_here(name, threads, device)
    from crystalformer_rl.potential.elsewhere import Elsewhere

    return Elsewhere(name, place, threads, device)


def load_here(name: str, threads: int | None = 1, device: str = CPU) -> Potential:
    """The potential of that name in this process.

    threads: of torch, for the whole process; None leaves them. The matrices are small: one thread a process and several
    processes waste less than several threads, and results then depend on no thread count.

    Raises InputError for a name that is not one, a missing file or a missing package, and for a GPU where there is none, or
    that the potential cannot use.
    """
    found, argument = find(name)
    module, _, maker = found.maker.partition(":")
    try:
        made = getattr(importlib.import_module(module), maker)
        potential: Potential = made(argument, **({} if device == CPU else _on_gpu(name, made)))
    except ModuleNotFoundError as error:
        raise InputError(
            f"the potential '{name}' needs the package '{error.name}'; install crystalformer-rl[potential]."
        ) from error
    torch = sys.modules.get("torch")  # a potential without it need not wait for its import
    if torch is not None and threads is not None:
        torch.set_num_threads(threads)
    return potential


def _on_gpu(name: str, made: Callable[..., Potential]) -> dict[str, str]:
    """How a maker is told to use the GPU."""
    if "device" not in inspect.signature(made).parameters:
        raise InputError(f"the potential '{name}' takes no device, so it computes where it likes; let the device be cpu.")
    from crystalformer_rl.potential.torch_device import torch_device

    torch_device(GPU)
    return {"device": GPU}
