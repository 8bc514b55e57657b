"""The head of a stability file: whose energies it speaks of, and the calibrations of probabilities."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from crystalformer_rl.errors import InputError
from crystalformer_rl.resources.mistaken import mistaken_for

METADATA_KEY = "crystalformer_rl"
FORMAT = "crystalformer_rl stability 1"


def read_header(path: str | Path) -> dict[str, Any]:
    """What stands at the head of a stability file. Raises InputError for a missing, damaged or foreign one."""
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        raise InputError(f"{path} does not exist; check the path.")
    try:
        if instead := mistaken_for(path, "safetensors"):
            raise InputError(f"{path} {instead}.")
        with safe_open(path, framework="numpy") as stored:
            header: dict[str, Any] = json.loads((stored.metadata() or {}).get(METADATA_KEY, "{}"))
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path} is not a readable safetensors file ({error}); fetch it again.") from error
    if header.get("format") != FORMAT:
        raise InputError(f"{path} holds nothing of stability ('{FORMAT}'); give a file of that kind, or `embedded`.")
    return header
