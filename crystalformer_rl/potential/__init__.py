"""Machine-learned potentials, relaxation in symmetry coordinates, the energy worker. Torch; never JAX."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crystalformer_rl.errors import InputError

if TYPE_CHECKING:
    from crystalformer_rl.potential.protocol import Potential

NAMES = "chgnet, chgnet-r2scan, mace:/path/to/file.model, ase:package.module:Class"


def load(name: str, threads: int = 1) -> Potential:
    """The potential of that name: chgnet, chgnet-r2scan, mace:FILE or ase:package.module:Class.

    threads: of torch, for the whole process. The matrices are small: one thread a process and several processes
    waste less than several threads, and results then depend on no thread count.

    Raises InputError for a name that is none, a missing file or a missing package.
    """
    kind, _, rest = name.partition(":")
    try:
        import torch

        torch.set_num_threads(threads)
        if name in ("chgnet", "chgnet-r2scan"):
            from crystalformer_rl.potential.chgnet import CHGNet

            return CHGNet(name)
        if kind == "mace" and rest:
            from crystalformer_rl.potential.mace import Mace

            return Mace(rest)
        if kind == "ase" and rest:
            from crystalformer_rl.potential.ase_calculator import AseCalculator

            return AseCalculator(rest)
    except ModuleNotFoundError as error:
        raise InputError(
            f"the potential '{name}' needs the package '{error.name}'; install crystalformer-rl[potential]."
        ) from error
    raise InputError(f"'{name}' is no potential; choose one of {NAMES}.")
