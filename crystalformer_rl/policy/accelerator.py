"""Where the policy computes."""

from __future__ import annotations

from crystalformer_rl.errors import InputError


def check_device(device: str) -> None:
    """Raises InputError for `gpu` where JAX sees none: it would fall back to the CPU without a word."""
    if device != "gpu":
        return
    import jax

    try:
        found = jax.devices("gpu")
    except RuntimeError:
        found = []
    if not found:
        raise InputError(
            f"the device is gpu, but JAX {jax.__version__} sees none; install a build for it (`pip install "
            "'crystalformer-rl[cuda]'`) on a machine that has one, or let the device be cpu."
        )
