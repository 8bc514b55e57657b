"""What best of N takes first of the crystals that were sampled and scored."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from crystalformer_rl.tables.status import OK


def best_first(rows: Sequence[Mapping[str, Any]]) -> list[int]:
    """Places of the crystals that may be taken, by falling reward, equal ones by id.

    rows: with id, status and reward. Failures are left out.
    """
    taken = [k for k, row in enumerate(rows) if _may_be_taken(row)]
    return sorted(taken, key=lambda k: (-rows[k]["reward"], rows[k]["id"]))


def _may_be_taken(row: Mapping[str, Any]) -> bool:
    reward = row["reward"]
    return row["status"] == OK and reward is not None and math.isfinite(reward)
