"""The device of a potential: the CPU, or the GPU of a PyTorch that was built for one."""

from __future__ import annotations

from crystalformer_rl.errors import InputError
from crystalformer_rl.potential.devices import CPU

_SHARE = 0.6  # of the free memory that a batch may fill; JAX may use the card too
_BYTES_A_ROW = 40_000
"""Of a directed bond or angle, forces included, generously; a batch that is too large is halved."""


def torch_device(device: str) -> str:
    """PyTorch's name of a device. Raises InputError for a GPU where this PyTorch finds none."""
    if device == CPU:
        return "cpu"
    import torch

    if not torch.cuda.is_available():
        built = "was built without CUDA" if torch.version.cuda is None else "finds no GPU"
        raise InputError(
            f"the device is gpu, but PyTorch {torch.__version__} {built}; install a build for your card (pytorch.org), or "
            "let the device be cpu."
        )
    return "cuda"


def rows_that_fit(device: str, on_cpu: int) -> int:
    """Directed bonds and angles of a batch: `on_cpu`, or on a GPU as many as its free memory holds."""
    if device == CPU:
        return on_cpu
    import torch

    free, _ = torch.cuda.mem_get_info()
    return max(on_cpu, int(_SHARE * free / _BYTES_A_ROW))
