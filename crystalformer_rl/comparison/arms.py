"""The figures of every policy in one table, and of every arm over its seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa

from crystalformer_rl.comparison.gain_kept import gain_kept, kept
from crystalformer_rl.comparison.payoff import payoffs
from crystalformer_rl.comparison.policy_run import BASE, Row, Run
from crystalformer_rl.hull.stability import is_stable
from crystalformer_rl.intervals import Estimate, fraction, mean, over_seeds, ratio
from crystalformer_rl.tables.column import table_of_rows
from crystalformer_rl.tables.comparison_columns import ARMS, COVERAGE, INSULATORS, JUDGED, KEPT, SHARES


def arms_table(runs: Sequence[Run]) -> pa.Table:
    """The ARMS table: a row a policy, the base policy first."""
    rows: list[Row] = []
    for run, (found, wanted) in zip(runs, payoffs(runs), strict=True):
        row = _figures(run) | {"sun_found": found, "break_even": wanted}
        base = rows[0] if rows else row
        rows.append(row | _against(row, base) | _kept_fields(kept(run, runs[0], row["stability_threshold"])))
    return table_of_rows(ARMS, rows)


def _figures(run: Run) -> Row:
    """What one policy's own crystals and updates say."""
    threshold, n = run.metrics["stability_threshold"], len(run.crystals)
    row: Row = {"policy": run.policy, "arm": run.arm, "seed": run.seed, "n": n, "stability_threshold": threshold}
    row |= {"evaluations": run.evaluations, "updates": len(run.updates)}
    row |= {name: run.metrics[name] for name in (*COVERAGE, *INSULATORS)}
    for name, count in (_counts(run.crystals) | _judged_counts(run, threshold)).items():
        found = fraction(count, n)
        row |= {f"{name}_count": count, f"{name}_fraction": found.value}
        row |= {f"{name}_low": found.low, f"{name}_high": found.high}
    merits = [crystal["fom"] for crystal in run.crystals if crystal["stable"] and crystal["fom"] is not None]
    row["stable_fom_count"] = len(merits)
    if merits:
        found = mean(merits)
        row |= {"stable_fom_mean": found.value, "stable_fom_low": found.low, "stable_fom_high": found.high}
    if run.updates:
        last = run.updates[-1]
        row |= {"kl": last["kl"], "entropy": last["entropy"], "reward_mean": _last_rewards(run)}
    return row


def _last_rewards(run: Run) -> float | None:
    tenth = max(1, round(len(run.updates) / 10))
    numbers = {update["update"] for update in run.updates[-tenth:]}
    rewards = [row["reward"] for row in run.rollouts if row["update"] in numbers and row["reward"] is not None]
    return float(np.mean(rewards)) if rewards else None


def _counts(crystals: Sequence[Row]) -> dict[str, int]:
    """How many crystals each share counts; a null counts as no."""
    counts = {name: sum(bool(row[name]) for row in crystals) for name in ("stable_initial", "stable", "unique", "novel")}
    counts["sun_initial"] = sum(bool(row["stable_initial"] and row["unique"] and row["novel"]) for row in crystals)
    for name in ("sun", "sun_new_formula"):
        counts[name] = sum(bool(row[name]) for row in crystals)
    return counts


def _judged_counts(run: Run, threshold: float) -> dict[str, int]:
    if run.judged is None:
        return {}
    counts = dict.fromkeys(JUDGED, 0)
    for crystal, row in zip(run.crystals, run.judged, strict=True):
        new = bool(crystal["unique"] and crystal["novel"])
        for suffix in ("_initial", ""):
            above = row[f"judge_e_above_hull{suffix}"]
            stable = above is not None and is_stable(above, threshold)
            counts[f"judged_stable{suffix}"] += stable
            counts[f"judged_sun{suffix}"] += stable and new
    return counts


def _against(row: Row, base: Row) -> Row:
    """Ratios to the base policy."""
    found: Row = {}
    names = [*(name for name in (*SHARES, *JUDGED) if f"{name}_count" in row and f"{name}_count" in base)]
    for name in names:
        found |= _ratio_fields(name, ratio(_of(row, name, "fraction"), _of(base, name, "fraction")))
    if row.get("stable_fom_mean") is not None and base.get("stable_fom_mean") is not None:
        found |= _ratio_fields("stable_fom", ratio(_of(row, "stable_fom", "mean"), _of(base, "stable_fom", "mean")))
    return found


def _kept_fields(found: Mapping[str, Estimate]) -> Row:
    fields: Row = {}
    for name, share in found.items():
        fields |= {
            f"{name}_gain_kept": share.value,
            f"{name}_gain_kept_low": share.low,
            f"{name}_gain_kept_high": share.high,
        }
    return fields


def _of(row: Row, name: str, what: str) -> Estimate:
    return Estimate(row[f"{name}_{what}"], row[f"{name}_low"], row[f"{name}_high"])


def _ratio_fields(name: str, found: Estimate | None) -> Row:
    if found is None:
        return {}
    return {f"{name}_ratio": found.value, f"{name}_ratio_low": found.low, f"{name}_ratio_high": found.high}


@dataclass(frozen=True)
class Arm:
    """An arm over its seeds.

    shares, judged: fraction by name of the share; ratios: the same as multiples of the base policy's, judged ones under
    `judged_…`; kept: share of a gain that the judge sees too; fom, fom_ratio: mean figure of merit of the stable crystals;
    coverage, insulators: means over seeds of what says how far crystals are spread, and of what their gaps and dielectric constants are; sun_found, break_even: see `comparison.payoff`, the latter a
    number a seed.
    Intervals are Wilson's for one seed, Student's t over several.
    """

    name: str
    seeds: list[int]
    n: int
    evaluations: int
    shares: dict[str, Estimate]
    ratios: dict[str, Estimate] = field(default_factory=dict)
    kept: dict[str, Estimate] = field(default_factory=dict)
    reward: Estimate | None = None
    kl: Estimate | None = None
    fom: Estimate | None = None
    fom_ratio: Estimate | None = None
    coverage: dict[str, float] = field(default_factory=dict)
    insulators: dict[str, float] = field(default_factory=dict)
    sun_found: Estimate | None = None
    break_even: list[float | None] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """The same as plain values."""
        return asdict(self)

    def sentence(self) -> str:
        """The main figures in words."""
        stable, sun = self.shares["stable_initial"], self.shares["sun"]
        words = f"{self.name}: stable as sampled {100 * stable.value:.1f} %"
        if "stable_initial" in self.ratios and self.name != BASE:
            words += f" ({self.ratios['stable_initial'].value:.2f} times the base policy's)"
        words += f", S.U.N. {100 * sun.value:.1f} %"
        if "sun" in self.ratios and self.name != BASE:
            words += f" ({self.ratios['sun'].value:.2f} times)"
        if "stable_initial" in self.kept and (self.ratios["stable_initial"].low or 0.0) > 1:
            words += f"; the judge sees {100 * self.kept['stable_initial'].value:.0f} % of the gain in stable crystals"
        return words + "."


def summaries(arms: pa.Table) -> dict[str, Arm]:
    """Each arm over its seeds, from the ARMS table, the base policy first."""
    groups: dict[str, list[Row]] = {}
    for row in arms.to_pylist():
        groups.setdefault(row["arm"], []).append(row)
    base = _summary(BASE, groups[BASE])
    found = {BASE: base}
    for name, rows in groups.items():
        if name != BASE:
            found[name] = _compared(_summary(name, rows), base, rows)
    return found


def _summary(name: str, rows: Sequence[Row]) -> Arm:
    shares = {
        share: over_seeds([row[f"{share}_count"] for row in rows], [row["n"] for row in rows])
        for share in (*SHARES, *JUDGED)
        if all(row[f"{share}_count"] is not None for row in rows)
    }
    fom = None
    if all(row["stable_fom_mean"] is not None for row in rows):
        fom = _of(rows[0], "stable_fom", "mean") if len(rows) == 1 else mean([row["stable_fom_mean"] for row in rows])
    return Arm(
        name=name,
        seeds=[row["seed"] for row in rows if row["seed"] is not None],
        n=sum(row["n"] for row in rows),
        evaluations=round(float(np.mean([row["evaluations"] for row in rows]))),
        shares=shares,
        reward=_mean_of(rows, "reward_mean"),
        kl=_mean_of(rows, "kl"),
        fom=fom,
        coverage={name: found.value for name in COVERAGE if (found := _mean_of(rows, name))},
        insulators={name: found.value for name in INSULATORS if (found := _mean_of(rows, name))},
        sun_found=_mean_of(rows, "sun_found"),
        break_even=[row["break_even"] for row in rows],
    )


def _mean_of(rows: Sequence[Row], name: str) -> Estimate | None:
    values = [row[name] for row in rows if row[name] is not None]
    return mean(values) if values else None


def _compared(arm: Arm, base: Arm, rows: Sequence[Row]) -> Arm:
    ratios = {
        name: found
        for name in arm.shares.keys() & base.shares.keys()
        if (found := ratio(arm.shares[name], base.shares[name])) is not None
    }
    shares = {name: _kept_of(name, ratios, rows) for name in KEPT}
    return replace(
        arm,
        ratios=ratios,
        kept={name: share for name, share in shares.items() if share is not None},
        fom_ratio=ratio(arm.fom, base.fom) if arm.fom and base.fom else None,
    )


def _kept_of(name: str, ratios: Mapping[str, Estimate], rows: Sequence[Row]) -> Estimate | None:
    """The share of a gain that is kept: of one seed with the bootstrap's interval, of several with Student's t over them."""
    values = [row[f"{name}_gain_kept"] for row in rows]
    if len(rows) == 1:
        low, high = rows[0][f"{name}_gain_kept_low"], rows[0][f"{name}_gain_kept_high"]
        return None if values[0] is None else Estimate(values[0], low, high)
    if name not in ratios or f"judged_{name}" not in ratios:
        return None
    value = gain_kept(ratios[name].value, ratios[f"judged_{name}"].value)
    if value is None or None in values:
        return None if value is None else Estimate(value)
    found = mean(values)
    return Estimate(value, found.low, found.high)
