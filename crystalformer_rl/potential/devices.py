"""Names of the devices on which a potential may compute; `potential.torch_device` finds them."""

from __future__ import annotations

CPU, GPU = "cpu", "gpu"
DEVICES = (CPU, GPU)
