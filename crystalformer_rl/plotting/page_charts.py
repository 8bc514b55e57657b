"""The charts of the report's page, as SVG elements that follow its light and dark colours."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from crystalformer_rl.plotting.style import PAGE, on_page, svg_element


def histogram(
    series: Sequence[tuple[str, Sequence[float], int]],
    edges: Sequence[float],
    x_label: str,
    threshold: float,
    description: str,
) -> str:
    """Outlines of several distributions over common bins, in percent of each one's `total`.

    series: (colour of `style.PAGE`, values, total). Values beyond the edges go into the end bins.
    """
    with on_page() as (figure, axes):
        top = 1.0
        for number, (colour, values, total) in enumerate(series):
            found = shares(values, edges, total)
            top = max(top, *found)
            axes.stairs(found, edges, fill=True, color=PAGE[colour], alpha=0.16, linewidth=0)
            dashes = (0, (5, 2)) if number == 0 and len(series) > 1 else "-"
            axes.stairs(found, edges, color=PAGE[colour], linewidth=1.8, linestyle=dashes)
        axes.axvline(threshold, color=PAGE["text"], linestyle=(0, (4, 3)), linewidth=1)
        axes.annotate("← stable", (threshold, 0.96), xytext=(4, 0), xycoords=("data", "axes fraction"),
                      textcoords="offset points", color=PAGE["muted"], va="top")  # fmt: skip
        axes.set(xlim=(edges[0], edges[-1]), ylim=(0, 1.12 * top), xlabel=x_label, ylabel="% of sampled")
        return svg_element(figure, description)


def shares(values: Sequence[float], edges: Sequence[float], total: int) -> list[float]:
    """Percent of `total` in each bin; values beyond the edges are in the end bins."""
    inside = np.clip(np.searchsorted(edges, np.asarray(values, float), side="right") - 1, 0, len(edges) - 2)
    return (100 * np.bincount(inside, minlength=len(edges) - 1) / max(total, 1)).tolist()


def curve(
    values: Sequence[float | None],
    y_label: str,
    description: str,
    *,
    spread: Sequence[float | None] | None = None,
    borders: Sequence[float] = (),
    colour: str = "c1",
    zero: bool = False,
) -> str:
    """One quantity over policy updates 1, 2, …; `spread` is drawn as a band of plus and minus one.

    borders: positions between rounds. zero: the axis begins at zero.
    """
    x, y = np.arange(1, len(values) + 1), np.array([np.nan if v is None else v for v in values], float)
    half = np.array([np.nan if s is None else s for s in spread or [None] * len(values)], float)
    with on_page() as (figure, axes):
        for border in borders:
            axes.axvline(border, color=PAGE["rule"], linestyle=(0, (2, 3)), linewidth=1)
        if np.isfinite(half).sum() > 1:
            axes.fill_between(x, y - half, y + half, color=PAGE[colour], alpha=0.15, linewidth=0)
        axes.plot(x, y, color=PAGE[colour], linewidth=1.8, marker="o", markersize=5, markeredgewidth=0)
        heights = np.concatenate([y, (y - half)[np.isfinite(half)], (y + half)[np.isfinite(half)]])
        low, high = float(np.nanmin(heights)), float(np.nanmax(heights))
        low = 0.0 if zero else low
        margin = 0.08 * (high - low) or 0.1 * abs(high) or 1.0
        axes.set(xlim=(0.5, len(values) + 0.5), ylim=(low if zero else low - margin, high + margin))
        axes.set(xlabel="policy update", ylabel=y_label)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        return svg_element(figure, description)


@dataclass(frozen=True)
class Point:
    """A point of a scatter plot with one standard deviation each way, its kind (a colour of `style.PAGE`) and its words."""

    x: float
    y: float
    x_std: float
    y_std: float
    kind: str
    words: str


_MARKERS = {"new": "o", "known_formula": "^", "rediscovered": "D", "retrieved": "s"}
_HOLLOW = ("known_formula", "retrieved")


def scatter(points: Sequence[Point], x_label: str, y_label: str, description: str) -> str:
    """Points with error bars, the vertical axis logarithmic; the rarer kinds are drawn last, on top, and all have words."""
    right = max(p.x for p in points) * 1.05 or 1.0
    low, high = min(p.y for p in points) / 1.15, max(p.y for p in points) * 1.15
    frequency = Counter(p.kind for p in points)
    titles = {}
    with on_page(460, 300) as (figure, axes):
        axes.set_yscale("log")
        for k, p in enumerate(sorted(points, key=lambda p: (-frequency[p.kind], p.kind))):
            titles[f"point-{k}"] = p.words
            axes.plot([max(p.x - p.x_std, 0.0), min(p.x + p.x_std, right)], [p.y, p.y], color=PAGE[p.kind], alpha=0.35, lw=1)
            axes.plot([p.x, p.x], [max(p.y - p.y_std, low), min(p.y + p.y_std, high)], color=PAGE[p.kind], alpha=0.35, lw=1)
            hollow = p.kind in _HOLLOW
            axes.plot(
                [p.x], [p.y], marker=_MARKERS[p.kind], markersize=6, color=PAGE[p.kind], gid=f"point-{k}", linestyle="none",
                markerfacecolor="none" if hollow else PAGE[p.kind], markeredgewidth=1.2 if hollow else 0, alpha=0.85,
            )  # fmt: skip
        axes.set(xlim=(0, right), ylim=(low, high), xlabel=x_label, ylabel=y_label)
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.tick_params(which="minor", size=0)
        return svg_element(figure, description, titles)


_KEYS = {
    "new": '<circle cx="6" cy="6" r="4"/>',
    "known_formula": '<path d="M6 1.5l4.5 8h-9Z"/>',
    "rediscovered": '<path d="M6 1l5 5l-5 5l-5 -5Z"/>',
    "retrieved": '<rect x="2.5" y="2.5" width="7" height="7"/>',
}


def mark(kind: str) -> str:
    """The mark of a kind of point, for a legend in the page's text."""
    return f'<svg class="key mark {kind}" viewBox="0 0 12 12" aria-hidden="true">{_KEYS[kind]}</svg>'
