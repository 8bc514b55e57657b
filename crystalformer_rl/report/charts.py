"""Small charts as inline SVG: no script, no font, colours from the page's style so that they follow light and dark."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import escape

WIDTH, HEIGHT = 380.0, 250.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 48.0, 12.0, 12.0, 44.0


@dataclass(frozen=True)
class Scale:
    """Maps values from `low` to `high` onto pixels from `start` to `stop`, linearly or by logarithm."""

    low: float
    high: float
    start: float
    stop: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high, value = (math.log(x) if self.log else x for x in (self.low, self.high, value))
        return self.start + (value - low) / (high - low) * (self.stop - self.start)

    def ticks(self) -> list[float]:
        """Round values within the scale, about five; 1, 2, 3, 5, 10 … on a logarithmic one."""
        if self.log:
            decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            return [m * 10.0**k for k in decades for m in (1, 2, 3, 5) if self.low <= m * 10.0**k <= self.high]
        rough = (self.high - self.low) / 5
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough * 0.999)
        first = math.ceil(self.low / step - 1e-9)
        return [i * step for i in range(first, math.floor(self.high / step + 1e-9) + 1)]


@dataclass
class Chart:
    """A plot with axes; `add` takes SVG elements, `render` gives the whole."""

    x: tuple[float, float]
    y: tuple[float, float]
    x_label: str
    y_label: str
    description: str
    log_y: bool = False
    elements: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.x_scale = Scale(*self.x, _LEFT, WIDTH - _RIGHT)
        self.y_scale = Scale(*self.y, HEIGHT - _BOTTOM, _TOP, self.log_y)

    def add(self, element: str) -> None:
        self.elements.append(element)

    def path(self, points: Sequence[tuple[float, float]], css: str, *, closed: bool = False) -> None:
        """A line through points given in data units."""
        moves = "L".join(f"{self.x_scale(x):.1f} {self.y_scale(y):.1f}" for x, y in points)
        self.add(f'<path class="{css}" d="M{moves}{"Z" if closed else ""}"/>')

    def vertical(self, x: float, css: str, label: str = "") -> None:
        """A line across the plot at `x`, with words at its top."""
        at = self.x_scale(x)
        self.add(f'<line class="{css}" x1="{at:.1f}" x2="{at:.1f}" y1="{_TOP}" y2="{HEIGHT - _BOTTOM}"/>')
        if label:
            self.add(f'<text class="note" x="{at + 4:.1f}" y="{_TOP + 9}">{escape(label)}</text>')

    def render(self) -> str:
        parts = [
            f'<svg class="chart" viewBox="0 0 {WIDTH:.0f} {HEIGHT:.0f}" role="img" aria-label="{escape(self.description)}">',
            *self._grid(),
            *self.elements,
            f'<text class="label" x="{(_LEFT + WIDTH - _RIGHT) / 2:.0f}" y="{HEIGHT - 6:.0f}">{escape(self.x_label)}</text>',
            f'<text class="label" transform="translate(12 {(HEIGHT - _BOTTOM + _TOP) / 2:.0f}) rotate(-90)">'
            f"{escape(self.y_label)}</text>",
            "</svg>",
        ]
        return "\n".join(parts)

    def _grid(self) -> list[str]:
        bottom, lines = HEIGHT - _BOTTOM, []
        for value in self.y_scale.ticks():
            at = self.y_scale(value)
            lines.append(f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
            lines.append(f'<text class="tick end" x="{_LEFT - 6}" y="{at + 4:.1f}">{tick(value)}</text>')
        for value in self.x_scale.ticks():
            at = self.x_scale(value)
            lines.append(f'<line class="axis" x1="{at:.1f}" x2="{at:.1f}" y1="{bottom}" y2="{bottom + 4}"/>')
            lines.append(f'<text class="tick" x="{at:.1f}" y="{bottom + 16}">{tick(value)}</text>')
        lines.append(f'<line class="axis" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{bottom}" y2="{bottom}"/>')
        return lines


def tick(value: float) -> str:
    """A tick's label: short, with a true minus sign."""
    return f"{round(value, 10):g}".replace("-", "−")


def histogram(
    series: Sequence[tuple[str, Sequence[float], int]],
    edges: Sequence[float],
    x_label: str,
    threshold: float,
    description: str,
) -> str:
    """Outlines of several distributions over common bins, in percent of each one's `total`.

    series: (css class, values, total). Values beyond the edges go into the end bins.
    """
    shares = [(css, _shares(values, edges, total)) for css, values, total in series]
    top = max([share for _, found in shares for share in found] + [1.0])
    chart = Chart((edges[0], edges[-1]), (0.0, top * 1.12), x_label, "% of sampled", description)
    chart.vertical(threshold, "threshold", "← stable")
    for css, found in shares:
        steps = [(edges[0], 0.0)]
        for low, high, share in zip(edges, edges[1:], found, strict=False):
            steps += [(low, share), (high, share)]
        chart.path([*steps, (edges[-1], 0.0)], f"area {css}")
    return chart.render()


def _shares(values: Sequence[float], edges: Sequence[float], total: int) -> list[float]:
    counts = [0] * (len(edges) - 1)
    for value in values:
        inside = next((i for i, high in enumerate(edges[1:]) if value < high), len(counts) - 1)
        counts[inside] += 1
    return [100 * count / max(total, 1) for count in counts]


def curve(
    values: Sequence[float | None],
    y_label: str,
    description: str,
    *,
    spread: Sequence[float | None] | None = None,
    borders: Sequence[float] = (),
    css: str = "series-1",
    zero: bool = False,
) -> str:
    """One quantity over policy updates 1, 2, …; `spread` is drawn as a band of plus and minus one.

    `borders`: positions between rounds. `zero`: the axis begins at zero.
    """
    points = [(float(i), value) for i, value in enumerate(values, start=1) if value is not None]
    band = _band(values, spread)
    heights = [y for _, y in points] + [y for _, low, high in band for y in (low, high)]
    low, high = (0.0 if zero else min(heights)), max(heights)
    margin = 0.08 * (high - low) or 0.1 * abs(high) or 1.0
    chart = Chart(
        (0.5, len(values) + 0.5), (low - (0.0 if zero else margin), high + margin), "policy update", y_label, description
    )
    for border in borders:
        chart.vertical(border, "border")
    if len(band) > 1:
        outline = [(x, top) for x, _, top in band] + [(x, bottom) for x, bottom, _ in reversed(band)]
        chart.path(outline, f"band {css}", closed=True)
    if len(points) > 1:
        chart.path(points, f"line {css}")
    for x, y in points:
        chart.add(f'<circle class="dot {css}" cx="{chart.x_scale(x):.1f}" cy="{chart.y_scale(y):.1f}" r="2.5"/>')
    return chart.render()


def _band(values: Sequence[float | None], spread: Sequence[float | None] | None) -> list[tuple[float, float, float]]:
    pairs = zip(values, spread or [], strict=False)
    return [(float(i), y - s, y + s) for i, (y, s) in enumerate(pairs, start=1) if y is not None and s is not None]


@dataclass(frozen=True)
class Point:
    """A point of a scatter plot with one standard deviation each way, its kind (css class) and its words."""

    x: float
    y: float
    x_std: float
    y_std: float
    kind: str
    words: str


_MARKS: dict[str, Callable[[float, float], str]] = {
    "new": lambda x, y: f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4"/>',
    "rediscovered": lambda x, y: f'<path d="M{x:.1f} {y - 5:.1f}l5 5l-5 5l-5 -5Z"/>',
    "retrieved": lambda x, y: f'<rect x="{x - 3.5:.1f}" y="{y - 3.5:.1f}" width="7" height="7"/>',
}


def mark(kind: str) -> str:
    """The mark of a kind of point, for a legend."""
    return f'<svg class="key mark {kind}" viewBox="0 0 12 12" aria-hidden="true">{_MARKS[kind](6, 6)}</svg>'


def scatter(points: Sequence[Point], x_label: str, y_label: str, description: str) -> str:
    """Points with error bars, the vertical axis logarithmic; the rarer kinds are drawn last, on top."""
    right = max(p.x for p in points) * 1.05 or 1.0
    low, high = min(p.y for p in points) / 1.15, max(p.y for p in points) * 1.15
    chart = Chart((0.0, right), (low, high), x_label, y_label, description, log_y=True)
    frequency = Counter(p.kind for p in points)
    for p in sorted(points, key=lambda p: (-frequency[p.kind], p.kind)):
        x, y = chart.x_scale(p.x), chart.y_scale(p.y)
        left, end = (chart.x_scale(min(max(v, 0.0), right)) for v in (p.x - p.x_std, p.x + p.x_std))
        up, down = (chart.y_scale(min(max(v, low), high)) for v in (p.y + p.y_std, p.y - p.y_std))
        chart.add(
            f'<g class="mark {p.kind}"><title>{escape(p.words)}</title>'
            f'<path class="bar" d="M{left:.1f} {y:.1f}H{end:.1f}M{x:.1f} {up:.1f}V{down:.1f}"/>{_MARKS[p.kind](x, y)}</g>'
        )
    return chart.render()
