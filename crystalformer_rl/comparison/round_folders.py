"""The rounds that a policy's fine-tuning left in its folder."""

from __future__ import annotations

import re
from pathlib import Path

from crystalformer_rl.errors import InputError

_ROUND = re.compile(r"round_(\d+)")


def round_folders(place: Path) -> list[Path]:
    """Folders round_1, round_2 … in numerical order. Raises InputError where there is none."""
    found = {int(match[1]): path for path in place.glob("round_*") if (match := _ROUND.fullmatch(path.name))}
    if not found:
        raise InputError(f"{place} holds no rounds of fine-tuning (round_1/rollouts.parquet …); run the pipeline first.")
    return [found[number] for number in sorted(found)]
