"""How good a policy's crystals are: counts, fractions of all rows sampled, and their intervals."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa

from crystalformer_rl.crystal.coverage import anonymous_formula, chemistry_counts, effective_elements, effective_number
from crystalformer_rl.crystal.elements import ATOMIC_NUMBERS, ELEMENT_GROUPS
from crystalformer_rl.discovery.pareto import hypervolume, pareto_front
from crystalformer_rl.discovery.protocols import PROTOCOLS
from crystalformer_rl.errors import InputError
from crystalformer_rl.hull.stability import FAR_BELOW, STABLE_BELOW, is_on_hull, is_stable
from crystalformer_rl.intervals import wilson_interval
from crystalformer_rl.tables.column import table_of_rows
from crystalformer_rl.tables.discovery_columns import METRICS
from crystalformer_rl.tables.status import OK

_Row = dict[str, Any]

_NOT_CREDIBLE = {ATOMIC_NUMBERS[name] for names in ELEMENT_GROUPS.values() for name in names}
"""Elements whose compounds nobody would make: noble gases, and what has no stable isotope."""


def metrics(evaluated: pa.Table, stable_below: float = STABLE_BELOW) -> pa.Table:
    """The METRICS table of one policy's EVALUATED table: one row.

    Every fraction counts all rows in its denominator, failed ones too. Raises InputError for crystals
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
    figures |= _distributions(rows) | _diversity(rows) | _second_opinion(rows, stable_below) | _breakdowns(rows)
    return table_of_rows(METRICS, [figures])


def _counts(rows: list[_Row]) -> dict[str, int]:
    """How many rows each share counts; a null counts as no."""
    plain = (
        "valid",
        "low_dimensional",
        "charge_balanced",
        "converged",
        "stable_initial",
        "stable",
        "unique",
        "novel",
        "rediscovered",
        "sun",
        "sun_new_formula",
    )
    counts = {name: sum(bool(row[name]) for row in rows) for name in plain}
    counts["far_below_hull"] = sum((row["below_hull"] or 0.0) > FAR_BELOW for row in rows)
    counts["completed"] = sum(row["status"] == OK for row in rows)
    counts |= chemistry_counts(row["atomic_numbers"] or () for row in rows)
    for when in ("_initial", ""):
        distances = _known(rows, f"e_above_hull{when}")
        counts[f"on_hull{when}"] = int(np.sum(is_on_hull(distances)))
    counts["sun_initial"] = sum(bool(row["stable_initial"] and row["unique"] and row["novel"]) for row in rows)
    counts["sun_credible"] = sum(
        bool(row["sun_new_formula"] and row["charge_balanced"]) and not _NOT_CREDIBLE & set(row["atomic_numbers"])
        for row in rows
    )
    return counts | {name: sum(map(counted, rows)) for name, counted in PROTOCOLS.items()}


def _distributions(rows: list[_Row]) -> _Row:
    stable = [row for row in rows if row["stable"]]
    figures: _Row = {}
    for name in ("e_above_hull_initial", "e_above_hull"):
        values = _known(rows, name)
        figures[f"{name}_mean"] = float(values.mean()) if len(values) else None
        figures[f"{name}_median"] = float(np.median(values)) if len(values) else None
    for name in ("p_stable", "p_on_hull"):
        chances = _known(rows, name)
        figures[f"{name}_mean"] = float(chances.sum() / len(rows)) if len(chances) else None
    support = _known(rows, "hull_support")
    for name, quantile in (("q1", 0.25), ("median", 0.5), ("q3", 0.75)):
        figures[f"hull_support_{name}"] = float(np.quantile(support, quantile)) if len(support) else None
    for name in ("band_gap", "fom"):
        values = _known(stable, name)
        figures[f"stable_{name}_mean"] = float(values.mean()) if len(values) else None
    figures["evaluations"] = int(_known(rows, "evaluations").sum())
    return figures | _gap_and_dielectric(stable)


def _gap_and_dielectric(stable: list[_Row]) -> _Row:
    """What the predictions say of stable crystals, metals apart: a mean over all grows by fewer metals, too."""
    predicted = [row for row in stable if row["band_gap"] is not None]
    if not predicted:
        return {}
    insulators = [row for row in predicted if row["band_gap"] > 0]
    merits = _known(insulators, "fom")
    distinct = [(row["band_gap"], row["eps_electronic"]) for row in insulators if row["unique"] and row["eps_electronic"]]
    return {
        "insulators_among_stable": len(insulators) / len(predicted),
        "insulator_fom_mean": float(merits.mean()) if len(merits) else None,
        "pareto_front": len(pareto_front(distinct)),
        "pareto_hypervolume": hypervolume(distinct),
    }


def _diversity(rows: list[_Row]) -> _Row:
    atoms = [row["atomic_numbers"] for row in rows if row["atomic_numbers"]]
    return {
        "effective_templates": effective_number(row["template"] for row in rows if row["template"] is not None),
        "effective_formulas": effective_number(map(anonymous_formula, atoms)),
        "effective_elements": effective_elements(atoms),
    }


def _second_opinion(rows: list[_Row], stable_below: float) -> _Row:
    judged = [row for row in rows if row["judge_e_above_hull"] is not None]
    if not judged:
        return {}
    stable = [row for row in judged if row["stable"]]
    confirmed = sum(is_stable(row["judge_e_above_hull"], stable_below) for row in stable)
    return {"judged_count": len(judged), "judged_stable_count": len(stable), "confirmed_count": confirmed}


def _known(rows: list[_Row], name: str) -> np.ndarray:
    return np.array([row[name] for row in rows if row[name] is not None], float)


def _breakdowns(rows: list[_Row]) -> _Row:
    levels = Counter(row["known_level"] for row in rows if row["known_level"] is not None)
    failures: dict[str, Counter[str]] = {}
    for row in rows:
        if row["status"] != OK:
            failures.setdefault(row["failed_stage"], Counter())[row["status"]] += 1
    return {"known_levels": json.dumps(levels, sort_keys=True), "failures": json.dumps(failures, sort_keys=True)}
