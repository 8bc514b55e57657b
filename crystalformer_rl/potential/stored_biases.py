"""Biases of potentials that are not a reference's own, stored where their environments lie, each by its potential's identity."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from crystalformer_rl.errors import InputError
from crystalformer_rl.potential.environments import folder_of_environments
from crystalformer_rl.reference.bias import Bias
from crystalformer_rl.reference.identity import PotentialIdentity


def stored_bias(identity: PotentialIdentity) -> Bias | None:
    """The bias that was measured of a potential; None where none was. Raises InputError for a damaged file."""
    path = _path(identity)
    if not path.is_file():
        return None
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}); delete it, and measure the bias again.") from error
    return Bias.from_record(record.get("bias") if isinstance(record, dict) else {})


def store_bias(identity: PotentialIdentity, bias: Bias) -> Path:
    """Write a potential's bias; the file."""
    path = _path(identity)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    record = {"potential": identity.as_record(), "bias": bias.as_record()}
    temporary.write_text(json.dumps(record, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    temporary.replace(path)
    return path


def _path(identity: PotentialIdentity) -> Path:
    key = hashlib.sha256(json.dumps(identity.as_record(), sort_keys=True).encode()).hexdigest()[:16]
    return folder_of_environments() / "biases" / f"{key}.json"
