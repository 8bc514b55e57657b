"""The curves of all arms against the evaluations spent, as an SVG file's text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from matplotlib.ticker import MaxNLocator

from crystalformer_rl.intervals import Estimate, mean
from crystalformer_rl.plotting.style import COLOURS, FAINT, GREY, standalone, svg_file

_DASHES = ("-", (0, (5, 2)), (0, (1, 1.5)))
_PANELS = (
    ("stable_fraction", "Stable as scored", "% of sampled", 100.0),
    ("sun_fraction", "Stable, unique and new (S.U.N.)", "% of sampled", 100.0),
    ("sun_found", "S.U.N. found so far", "different kinds", 1.0),
)
_SMALLEST_GAP = 0.062
"""Between the middles of two labels, as a share of the panel's height."""


def arm_curves(curves: pa.Table, base: Mapping[str, Estimate]) -> str:
    """Three panels: stable fraction, S.U.N., S.U.N. found so far; one colour an arm, bands over seeds, the base policy as a grey line."""
    arms = _by_arm(curves)
    with standalone(12.6, 3.9) as figure:
        for axes, (name, title, label, factor) in zip(figure.subplots(1, 3), _PANELS, strict=True):
            _panel(axes, arms, name, factor, base.get(name))
            axes.set_title(title, loc="left", fontsize=10.5, fontweight="bold")
            axes.set_ylabel(label)
            axes.set_xlabel("evaluations of the potential")
        return svg_file(figure, "comparison")


def _by_arm(curves: pa.Table) -> dict[str, list[list[dict[str, Any]]]]:
    """Rows of each arm's seeds."""
    arms: dict[str, dict[Any, list[dict[str, Any]]]] = {}
    for row in curves.to_pylist():
        arms.setdefault(row["arm"], {}).setdefault(row["seed"], []).append(row)
    return {arm: list(seeds.values()) for arm, seeds in arms.items()}


def _panel(
    axes: Any, arms: Mapping[str, list[list[dict[str, Any]]]], name: str, factor: float, base: Estimate | None
) -> None:
    labels = []
    end = max((row["evaluations"] for seeds in arms.values() for rows in seeds for row in rows), default=0)
    if base is not None:
        axes.axhline(factor * base.value, color=GREY, linewidth=1.4, zorder=1)
        if base.low is not None and base.high is not None:
            axes.axhspan(factor * base.low, factor * base.high, color=GREY, alpha=0.18, linewidth=0, zorder=0)
        labels.append((factor * base.value, "base", GREY))
    for number, (arm, seeds) in enumerate(arms.items()):
        colour = COLOURS[number % len(COLOURS)]
        spent, middle, low, high = _over_seeds(seeds, name)
        dashes = _DASHES[number // len(COLOURS) % len(_DASHES)]
        axes.plot(spent, factor * middle, color=colour, linewidth=1.7, linestyle=dashes, zorder=3, solid_capstyle="round")
        if low is not None and high is not None:
            axes.fill_between(spent, factor * low, factor * high, color=colour, alpha=0.2, linewidth=0, zorder=2)
        level = _level(middle)
        if level is not None:
            labels.append((factor * level, arm, colour))
    axes.set_xlim(0, end or 1)
    axes.xaxis.set_major_formatter(_thousands)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.grid(True, color=FAINT, linewidth=0.7)
    _heights(axes, labels, factor == 100.0)
    _label(axes, labels)


def _level(middle: np.ndarray) -> float | None:
    """Where a curve's label sits: at the last few updates, so that noise does not order the names; None without any."""
    known = middle[np.isfinite(middle)]
    return float(known[-max(1, len(middle) // 10) :].mean()) if len(known) else None


def _heights(axes: Any, labels: Sequence[tuple[float, str, str]], fractions: bool) -> None:
    """The range that the lines need, and as much of the bands as half as much again shows: two seeds have wide ones."""
    shown = [y for line in axes.get_lines() for y in np.asarray(line.get_ydata(), float) if np.isfinite(y)]
    shown += [level for level, _, _ in labels]
    if not shown:
        axes.set_ylim(0, 1)
        return
    low, high = min(shown), max(shown)
    wanted_low, wanted_high = axes.dataLim.y0, axes.dataLim.y1
    room = 0.25 * (high - low) or 0.1 * abs(high) or 1.0
    bottom, top = max(wanted_low, low - room), min(wanted_high, high + room)
    margin = 0.06 * (top - bottom) or room
    axes.set_ylim(0.0 if fractions else bottom - margin, top + margin)


def _thousands(value: float, _: int) -> str:
    return f"{value:,.0f}"


def _over_seeds(
    seeds: Sequence[Sequence[dict[str, Any]]], name: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray | None]:
    """Mean evaluations and figure by update, over the seeds that have them all, with t intervals for two and more."""
    length = min(len(rows) for rows in seeds)
    spent = np.mean([[row["evaluations"] for row in rows[:length]] for rows in seeds], axis=0)
    values = np.array([[np.nan if row[name] is None else row[name] for row in rows[:length]] for rows in seeds], float)
    if len(seeds) < 2:
        return spent, values[0], None, None
    found = [mean(column) for column in values.T]
    low, high = (np.array([getattr(estimate, end) for estimate in found], float) for end in ("low", "high"))
    if name.endswith("fraction"):
        low, high = np.clip(low, 0, 1), np.clip(high, 0, 1)
    return spent, values.mean(0), low, high


def _label(axes: Any, labels: Sequence[tuple[float, str, str]]) -> None:
    """Names right of the panel at the ends of their curves, pushed apart where they would overlap."""
    bottom, top = axes.get_ylim()
    wanted = sorted(((level - bottom) / (top - bottom), name, colour) for level, name, colour in labels)
    places = spread([height for height, _, _ in wanted], _SMALLEST_GAP)
    for (height, name, colour), place in zip(wanted, places, strict=True):
        axes.annotate(
            name,
            xy=(1.0, height),
            xytext=(1.045, place),
            xycoords="axes fraction",
            textcoords="axes fraction",
            color=colour if colour != GREY else "#6a6a6a",
            va="center",
            fontsize=9,
            fontweight="bold",
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.8, "shrinkA": 1, "shrinkB": 0},
        )


def spread(heights: Sequence[float], gap: float) -> list[float]:
    """Rising heights moved as little as needed to lie at least `gap` apart, neighbours that collide around their middle."""
    blocks: list[list[float]] = []  # [sum of what each would like the block's first height to be, members]
    for height in heights:
        blocks.append([height, 1])
        while len(blocks) > 1 and _first(blocks[-2]) + gap * blocks[-2][1] > _first(blocks[-1]):
            later = blocks.pop()
            blocks[-1] = [blocks[-1][0] + later[0] - gap * blocks[-1][1] * later[1], blocks[-1][1] + later[1]]
    return [_first(block) + gap * k for block in blocks for k in range(int(block[1]))]


def _first(block: Sequence[float]) -> float:
    return block[0] / block[1]
