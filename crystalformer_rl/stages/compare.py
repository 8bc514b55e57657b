"""Ways to fine-tune side by side at the same number of scored crystals: tables, a picture, a document."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import pyarrow as pa

from crystalformer_rl.comparison.arms import Arm, arms_table, summaries
from crystalformer_rl.comparison.curves import base_level, curves_table
from crystalformer_rl.comparison.document import document
from crystalformer_rl.comparison.policy_run import Run
from crystalformer_rl.comparison.top import top_table
from crystalformer_rl.plotting.arm_curves import arm_curves


class Comparison(NamedTuple):
    """tables: `arms`, `curves` and, where there are predictions, `top`; document: Markdown; picture: SVG; arms: by name."""

    tables: dict[str, pa.Table]
    document: str
    picture: str
    arms: dict[str, Arm]


def compare(runs: Sequence[Run]) -> Comparison:
    """Set runs side by side that `comparison.run_reader.read_runs` read and found comparable, the base policy first."""
    arms, curves, top = arms_table(runs), curves_table(runs), top_table(runs)
    tables = {"arms": arms, "curves": curves} | ({"top": top} if top is not None else {})
    found = summaries(arms)
    return Comparison(tables, document(runs, found, arms, top), arm_curves(curves, base_level(runs)), found)
