"""How good a policy's crystals are: counts, fractions of all rows sampled, and their intervals."""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa

from crystalformer_rl.discovery.evaluation import STABLE_BELOW
from crystalformer_rl.errors import InputError
from crystalformer_rl.tables.column import make_table
from crystalformer_rl.tables.discovery_columns import METRICS
from crystalformer_rl.tables.status import OK

_Z_95 = 1.959963984540054
"""The standard normal quantile of a two-sided 95 % interval."""

_Row = dict[str, Any]


def wilson_interval(count: int, n: int) -> tuple[float, float]:
    """95 % interval of a fraction `count`/`n` (E. B. Wilson, J. Am. Stat. Assoc. 22, 209, 1927); (0, 1) for n = 0."""
    if n == 0:
        return 0.0, 1.0
    share, z2 = count / n, _Z_95**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z_95 / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    # The ends are exact at no and at all successes; rounding must not move them past the fraction.
    return (0.0 if count == 0 else centre - half), (1.0 if count == n else centre + half)


def difference_interval(first: tuple[int, int], second: tuple[int, int]) -> tuple[float, float]:
    """95 % interval of the second fraction less the first, each given as (count, n).

    The hybrid score interval of R. G. Newcombe, Stat. Med. 17, 873 (1998), method 10: it holds
    zero where the two samples do not tell the fractions apart.
    """
    (count1, n1), (count2, n2) = first, second
    p1, p2 = (count / n if n else 0.5 for count, n in (first, second))
    low1, high1 = wilson_interval(count1, n1)
    low2, high2 = wilson_interval(count2, n2)
    return p2 - p1 - math.hypot(p2 - low2, high1 - p1), p2 - p1 + math.hypot(high2 - p2, p1 - low1)


def metrics(evaluated: pa.Table, stable_below: float = STABLE_BELOW) -> pa.Table:
    """The METRICS table of one policy's EVALUATED table: one row.

    Every fraction counts all rows in its denominator, failed ones too. Suspect crystals
    count as stable nowhere and have a count of their own. Raises InputError for crystals
    of several policies. `stable_below` (eV/atom) is recorded; the rows carry the verdicts.
    """
    policies = sorted(set(evaluated.column("policy").to_pylist()))
    if len(policies) != 1:
        raise InputError(f"The crystals name {len(policies)} policies ({', '.join(policies)}); evaluate one at a time.")
    rows = evaluated.to_pylist()
    figures: _Row = {"policy": policies[0], "n": len(rows), "stability_threshold": stable_below}
    for name, count in _counts(rows).items():
        low, high = wilson_interval(count, len(rows))
        figures |= {f"{name}_count": count, f"{name}_fraction": count / len(rows), f"{name}_low": low, f"{name}_high": high}
    figures |= _distributions(rows) | _breakdowns(rows)
    return make_table(METRICS, {column.name: [figures.get(column.name)] for column in METRICS})


def _counts(rows: list[_Row]) -> dict[str, int]:
    """How many rows each share counts; a null counts as no."""
    plain = (
        "valid",
        "charge_balanced",
        "converged",
        "stable_initial",
        "stable",
        "suspect",
        "unique",
        "novel",
        "rediscovered",
        "sun",
    )
    counts = {name: sum(bool(row[name]) for row in rows) for name in plain}
    counts["completed"] = sum(row["status"] == OK for row in rows)
    counts["on_hull_initial"] = sum(bool(row["stable_initial"]) and row["e_above_hull_initial"] <= 0 for row in rows)
    counts["on_hull"] = sum(bool(row["stable"]) and row["e_above_hull"] <= 0 for row in rows)
    counts["sun_initial"] = sum(bool(row["stable_initial"] and row["unique"] and row["novel"]) for row in rows)
    return counts


def _distributions(rows: list[_Row]) -> _Row:
    trusted = [row for row in rows if not row["suspect"]]
    stable = [row for row in rows if row["stable"]]
    figures: _Row = {}
    for name in ("e_above_hull_initial", "e_above_hull"):
        values = _known(trusted, name)
        figures[f"{name}_mean"] = float(values.mean()) if len(values) else None
        figures[f"{name}_median"] = float(np.median(values)) if len(values) else None
    support = _known(rows, "hull_support")
    for name, quantile in (("q1", 0.25), ("median", 0.5), ("q3", 0.75)):
        figures[f"hull_support_{name}"] = float(np.quantile(support, quantile)) if len(support) else None
    for name in ("band_gap", "fom"):
        values = _known(stable, name)
        figures[f"stable_{name}_mean"] = float(values.mean()) if len(values) else None
    figures["evaluations"] = int(_known(rows, "evaluations").sum())
    return figures


def _known(rows: list[_Row], name: str) -> np.ndarray:
    return np.array([row[name] for row in rows if row[name] is not None], float)


def _breakdowns(rows: list[_Row]) -> _Row:
    levels = Counter(row["known_level"] for row in rows if row["known_level"] is not None)
    failures: dict[str, Counter[str]] = {}
    for row in rows:
        if row["status"] != OK:
            failures.setdefault(row["failed_stage"], Counter())[row["status"]] += 1
    return {"known_levels": json.dumps(levels, sort_keys=True), "failures": json.dumps(failures, sort_keys=True)}
