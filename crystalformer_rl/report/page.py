"""The HTML page: one file, no script or style from elsewhere, readable without a network."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from crystalformer_rl import __version__
from crystalformer_rl.discovery.known_structures import LEVELS
from crystalformer_rl.discovery.verdicts import VERDICTS
from crystalformer_rl.formatting import percent, signed
from crystalformer_rl.hull.stability import hull_may_be_incomplete
from crystalformer_rl.plotting.page_charts import Point, curve, histogram, mark, scatter
from crystalformer_rl.reference.identity import PotentialIdentity
from crystalformer_rl.report.goal_lines import goal_lines
from crystalformer_rl.report.results import Results, Row, from_json
from crystalformer_rl.report.words import best, caveats, change, discoveries, threshold
from crystalformer_rl.tables.discovery_columns import METRICS
from crystalformer_rl.tables.status import STATUSES

RANKED = 50
"""Rows of the candidates' table on the page; the Parquet file has all."""

_EDGES = [round(-0.3 + 0.05 * i, 2) for i in range(27)]
"""eV/atom; bins of the histograms, of which 0.1 is a border."""

_SHARES = (
    ("valid", "Valid"),
    ("charge_balanced", "Charge-balanced"),
    ("oxide", "Oxides"),
    ("halide", "Halides"),
    ("chalcogenide", "Chalcogenides (S, Se, Te)"),
    ("intermetallic", "Intermetallics"),
    ("completed", "Passed all stages"),
    ("converged", "Relaxation converged"),
    ("stable_initial", "Stable as sampled"),
    ("stable", "Stable after relaxation"),
    ("on_hull_initial", "On or below the hull as sampled"),
    ("on_hull", "On or below the hull after relaxation"),
    ("far_below_hull", "More than 0.1 eV/atom below the hull"),
    ("unique", "Unique"),
    ("novel", "Novel"),
    ("rediscovered", "Rediscovered (held out)"),
    ("sun_initial", "S.U.N. as sampled"),
    ("sun", "S.U.N. after relaxation"),
    ("sun_new_formula", "S.U.N. with a formula that is not known"),
    ("sun_credible", "The same, charge-balanced, no noble gas, nothing without a stable isotope"),
)
_PROTOCOLS = (
    ("crystalformer_rl_sun", "CrystalFormer-RL, S.U.N."),
    ("mattergen_sun", "MatterGen, S.U.N."),
    ("lemat_sun", "LeMat-GenBench, S.U.N."),
    ("lemat_msun", "LeMat-GenBench, metastable"),
    ("chemeleon2_sun", "Chemeleon2, S.U.N."),
    ("chemeleon2_msun", "Chemeleon2, metastable"),
)
_FIGURES = (
    ("e_above_hull_initial_median", "Median energy above hull as sampled", "eV/atom", 3),
    ("e_above_hull_median", "Median energy above hull after relaxation", "eV/atom", 3),
    ("e_above_hull_mean", "Mean energy above hull after relaxation", "eV/atom", 3),
    ("hull_support_q1", "Hull support, lower quartile", "", 0),
    ("hull_support_median", "Hull support, median", "", 0),
    ("hull_support_q3", "Hull support, upper quartile", "", 0),
    ("stable_band_gap_mean", "Mean predicted gap of stable crystals", "eV", 2),
    ("stable_fom_mean", "Mean predicted figure of merit of stable crystals", "eV", 2),
    ("insulators_among_stable", "Of the stable crystals, share with a predicted gap", "", 3),
    ("insulator_fom_mean", "Mean predicted figure of merit of these", "eV", 2),
    ("pareto_hypervolume", "Area of gap and dielectric constant that some stable crystal beats", "eV", 1),
    ("effective_templates", "Effective number of Wyckoff templates", "", 0),
    ("effective_formulas", "Effective number of anonymous formulas", "", 0),
    ("effective_elements", "Effective number of elements", "", 0),
    ("evaluations", "Evaluations of the potential in relaxation", "", 0),
)


def render(results: Results) -> str:
    """The whole page as text. The same results give the same text."""
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["formula"] = _formula
    environment.filters["percent"] = percent
    environment.filters["signed"] = signed
    parts: dict[str, Any] = {
        "version": __version__,
        "policies": results.policies,
        "metrics": results.metrics,
        "discoveries": discoveries(results),
        "best": best(results),
        "threshold": threshold(results),
        "caveats": caveats(results),
        "tiles": _tiles(results),
        "histograms": [Markup(svg) for svg in _histograms(results)],
        "beyond": _beyond(results),
        "curves": [Markup(svg) for svg in _curves(results.updates)],
        "goal": goal_lines(results.updates),
        "updates": results.updates,
        "scatter": _scatter(results),
        "marks": {kind: Markup(mark(kind)) for kind in VERDICTS},
        "candidates": [_candidate(row) for row in results.candidates[:RANKED]],
        "n_candidates": len(results.candidates),
        "rule": results.provenance.get("candidates.parquet", {}).get("parameters", {}).get("rule"),
        "shares": _share_rows(results, _SHARES),
        "protocols": _share_rows(results, _PROTOCOLS),
        "figures": _figure_rows(results),
        "levels": _level_rows(results),
        "failures": _failure_rows(results),
        "provenance": _provenance_rows(results.provenance),
        "versions": _versions(results.provenance),
        "potentials": _potentials(results.provenance),
    }
    return environment.get_template("template.html").render(parts)


def _formula(text: str) -> Any:
    """A formula with its numbers set low."""
    from markupsafe import Markup, escape

    return Markup(re.sub(r"(?<=[A-Za-z])(\d+)", r"<sub>\1</sub>", str(escape(text))))


def _tiles(results: Results) -> list[Row]:
    """The key figures: a share for each policy, and the change between two."""
    tiles = []
    for name, label in (
        ("stable_initial", "Stable as sampled"),
        ("stable", "Stable after relaxation"),
        ("sun", "Stable, unique and novel"),
    ):
        rows = [results.metrics[policy] for policy in results.policies]
        values = [(row["policy"], percent(row[f"{name}_fraction"]), row[f"{name}_count"], row["n"]) for row in rows]
        tiles.append({"label": label, "values": values, "change": _change(rows, name)})
    return tiles


def _change(rows: list[Row], name: str) -> str:
    return change(rows[0], rows[1], name) if len(rows) == 2 else ""


def _known(rows: Iterable[Row], name: str) -> list[float]:
    return [row[name] for row in rows if row[name] is not None]


def _histograms(results: Results) -> list[str]:
    if not results.crystals:
        return []
    charts = []
    for name, when in (("e_above_hull_initial", "as sampled"), ("e_above_hull", "after relaxation")):
        series, words = [], []
        for i, policy in enumerate(results.policies, start=1):
            rows = results.crystals.get(policy, [])
            series.append((f"c{i}", _known(rows, name), len(rows)))
            words.append(f"{policy}: {_quartiles(_known(rows, name))}")
        threshold = results.metrics[results.policies[0]]["stability_threshold"]
        description = f"Histogram of energy above hull {when}. {'; '.join(words)}."
        charts.append(histogram(series, _EDGES, f"energy above hull {when}, eV/atom", threshold, description))
    return charts


def _quartiles(values: list[float]) -> str:
    if not values:
        return "no values"
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
    return f"quartiles {signed(low)}, {signed(middle)}, {signed(high)} eV/atom"


def _beyond(results: Results) -> str:
    """What the histograms do not show: crystals without a figure, and beyond the axis."""
    words = []
    for policy, rows in results.crystals.items():
        values = _known(rows, "e_above_hull")
        outside = sum(not _EDGES[0] <= value < _EDGES[-1] for value in values)
        words.append(
            f"{policy}: {len(rows) - len(values)} of {len(rows)} without a figure, {outside} beyond the axis, in end bins"
        )
    return "; ".join(words)


def _curves(updates: list[Row]) -> list[str]:
    if not updates:
        return []
    rounds = [row["round"] for row in updates]
    borders = [i + 0.5 for i in range(1, len(rounds)) if rounds[i] != rounds[i - 1]]

    def column(name: str, factor: float = 1.0) -> list[float | None]:
        return [None if row.get(name) is None else factor * row[name] for row in updates]

    panels: tuple[tuple[str, str, float, Row], ...] = (
        ("reward_mean", "mean reward ± std", 1.0, {"spread": column("reward_std")}),
        ("kl", "KL from the base policy, nat", 1.0, {"colour": "c2", "spread": column("kl_standard_error")}),
        ("stable_fraction", "stable, % of sampled", 100.0, {"colour": "c3", "zero": True}),
        ("sun_fraction", "stable, unique and new kinds, % of sampled", 100.0, {"colour": "c3", "zero": True}),
        ("effective_templates", "effective number of Wyckoff templates", 1.0, {"colour": "c2", "zero": True}),
        ("failed_fraction", "failed, % of sampled", 100.0, {"colour": "c3", "zero": True}),
    )
    charts = []
    for name, label, factor, more in panels:
        values = column(name, factor)
        found = [value for value in values if value is not None]
        if found:
            description = f"{label} over {len(values)} policy updates: from {signed(found[0])} to {signed(found[-1])}."
            charts.append(curve(values, label, description, borders=borders, **more))
    return charts


def _scatter(results: Results) -> Any:
    """Gap against dielectric constant of the distinct stable crystals that are predicted to have a gap."""
    from markupsafe import Markup

    points = [
        _point(row) for row in results.candidates if row["stable"] and (row["band_gap"] or 0) > 0 and row["eps_electronic"]
    ]
    if not points:
        return ""
    description = (
        f"Electronic dielectric constant against band gap of {len(points)} distinct stable crystals with a predicted gap, "
        "with one standard deviation."
    )
    return Markup(scatter(points, "predicted band gap, eV", "electronic dielectric constant", description))


def _point(row: Row) -> Point:
    words = f"#{row['rank']} {row['formula']}: gap {row['band_gap']:.2f} eV, ε {row['eps_electronic']:.2f}, {row['verdict']}"
    spread = row["band_gap_std"] or 0.0, row["eps_electronic_std"] or 0.0
    return Point(row["band_gap"], row["eps_electronic"], *spread, row["verdict"], words)


def _candidate(row: Row) -> Row:
    """A candidate as the table shows it."""
    from crystalformer_rl.discovery.cif import space_group_symbol

    name = f"{row['rank']:02d}_{row['formula']}_{row['space_group']}.cif"
    chance = row["p_stable"] if row["p_stable_judged"] is None else row["p_stable_judged"]
    return row | {
        "symbol": space_group_symbol(row["space_group"]).replace(" ", "") if row["space_group"] else "",
        "cif_name": name,
        "cif_link": "data:chemical/x-cif;base64," + base64.b64encode((row["cif"] or "").encode()).decode(),
        "known": _what_is_known(row),
        "incomplete": hull_may_be_incomplete(row["e_above_hull"], row["hull_support"]),
        "chance": chance,
        "chance_words": "–" if chance is None else percent(chance, 0),
    }


def _what_is_known(row: Row) -> str:
    """What the reference knows of a candidate, with an entry that shows it."""
    if row["match_id"]:
        return str(row["match_id"])
    if row["known_level"] == "none":
        return "nothing known"
    if row["known_exchange"]:
        likelihood = row["known_exchange_likelihood"]
        how_likely = "" if likelihood is None else f" (probability {likelihood:.2g})"
        return f"{row['known_partner']} with {row['known_exchange']}{how_likely}"
    return f"{row['known_level'].replace('_', ' ')} known: {row['known_partner']}"


def _share_rows(results: Results, shares: Iterable[tuple[str, str]]) -> list[Row]:
    meanings = {column.name: column.meaning for column in METRICS}
    rows = [results.metrics[policy] for policy in results.policies]
    return [
        {
            "label": label,
            "meaning": meanings[f"{name}_count"].rsplit(":", 1)[0],
            "cells": [
                (row[f"{name}_count"], row[f"{name}_fraction"], row[f"{name}_low"], row[f"{name}_high"]) for row in rows
            ],
            "change": _change(rows, name),
        }
        for name, label in shares
    ]


def _figure_rows(results: Results) -> list[Row]:
    rows = []
    for name, label, unit, digits in _FIGURES:
        values = [results.metrics[policy][name] for policy in results.policies]
        cells = ["–" if value is None else f"{signed(value, digits)} {unit}".strip() for value in values]
        rows.append({"label": label, "cells": cells})
    return rows


def _level_rows(results: Results) -> list[Row]:
    found = [from_json(results.metrics[policy]["known_levels"]) for policy in results.policies]
    return [
        {"label": level.replace("_", " "), "meaning": meaning, "cells": [counts.get(level, 0) for counts in found]}
        for level, meaning in LEVELS.items()
    ]


def _failure_rows(results: Results) -> list[Row]:
    found = [from_json(results.metrics[policy]["failures"]) for policy in results.policies]
    kinds = {(stage, status) for failures in found for stage, counts in failures.items() for status in counts}
    order = {stage: i for i, stage in enumerate(("sample", "relax", "hull", "novelty"))}
    return [
        {
            "stage": stage,
            "status": status,
            "meaning": STATUSES.get(status, ""),
            "cells": [failures.get(stage, {}).get(status, 0) for failures in found],
        }
        for stage, status in sorted(kinds, key=lambda kind: (order.get(kind[0], len(order)), kind[1]))
    ]


def _provenance_rows(records: dict[str, Row]) -> list[Row]:
    return [
        {
            "path": path,
            "stage": record.get("stage", ""),
            "parameters": ", ".join(f"{key} = {value}" for key, value in sorted(record.get("parameters", {}).items()))
            or "–",
            "inputs": ", ".join(f"{name} ({digest[:8]})" for name, digest in sorted(record.get("inputs", {}).items()))
            or "–",
        }
        for path, record in records.items()
    ]


def _versions(records: dict[str, Row]) -> list[tuple[str, str]]:
    """Packages with all versions that any table names: one, unless stages ran in different environments."""
    found: dict[str, set[str]] = {}
    for record in records.values():
        for package, version in record.get("versions", {}).items():
            found.setdefault(package, set()).add(version)
    return [(package, ", ".join(sorted(versions))) for package, versions in sorted(found.items())]


def _potentials(records: dict[str, Row]) -> list[str]:
    """The potentials' identities that the tables name: one, unless energies of several were mixed."""
    identities = (PotentialIdentity.from_record(record.get("potential")) for record in records.values())
    return sorted({str(identity) for identity in identities if identity is not None})
