"""One style for all pictures, and their text as SVG: for a file of its own, or within a page whose colours it follows."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# M. Okabe and K. Ito's colours, told apart by all kinds of sight; yellow is too pale for a line on white.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#5b4a9c", "#7a5c3e")
GREY, TEXT, FAINT = "#8a8a8a", "#333333", "#e6e6e6"

PAGE = {
    "text": "#010101",
    "muted": "#020202",
    "rule": "#030303",
    "card": "#040404",
    **{f"c{k}": f"#0{k}0{k}10" for k in range(1, 5)},
    "new": "#050520",
    "rediscovered": "#060620",
    "retrieved": "#070720",
    "known_formula": "#080820",
}
"""Colours that stand for a page's own, by the names of its CSS variables; nothing else is drawn in them."""

_STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": TEXT,
    "axes.labelcolor": TEXT,
    "axes.edgecolor": GREY,
    "xtick.color": TEXT,
    "ytick.color": TEXT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "path.simplify": False,
}
_ON_PAGE: Any = {
    "svg.fonttype": "none",
    "font.size": 12,
    "text.color": PAGE["text"],
    "axes.labelcolor": PAGE["text"],
    "axes.edgecolor": PAGE["muted"],
    "xtick.color": PAGE["muted"],
    "ytick.color": PAGE["muted"],
    "axes.spines.left": False,
    "ytick.major.size": 0,
}


@contextmanager
def standalone(width: float, height: float) -> Iterator[Figure]:
    """A figure, inches, for a file of its own on white."""
    with mpl.rc_context({**_STYLE, "svg.fonttype": "path"}):
        yield Figure(figsize=(width, height), layout="constrained", facecolor="white")


@contextmanager
def on_page(width: float = 380.0, height: float = 250.0) -> Iterator[tuple[Figure, Axes]]:
    """A figure with one pair of axes, CSS pixels, to stand in an HTML page; draw in the colours of `PAGE`."""
    with mpl.rc_context({**_STYLE, **_ON_PAGE}):
        figure = Figure(figsize=(width / 72, height / 72), layout="constrained", facecolor="none")
        axes = figure.subplots()
        axes.set_facecolor("none")
        axes.yaxis.grid(True, color=PAGE["rule"], linewidth=0.8)
        yield figure, axes


def svg_file(figure: Figure, salt: str) -> str:
    """The figure as the text of an SVG file; `salt` keeps its ids the same from run to run."""
    text = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": salt}):
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return text.getvalue()


def svg_element(figure: Figure, description: str, titles: dict[str, str] | None = None) -> str:
    """The figure as an SVG element for a page: its colours and font are the page's, its size that of its place.

    description: read to those who do not see it. titles: words that appear over the artists of these ids (`gid`).
    """
    text = svg_file(figure, description)
    body = text[text.index("<svg") :]
    box = re.search(r'viewBox="([^"]*)"', body)
    inner = body[body.index(">") + 1 : body.rindex("</svg>")]
    inner = re.sub(r"<metadata>.*?</metadata>\s*", "", inner, flags=re.DOTALL)
    for name, words in (titles or {}).items():
        inner = inner.replace(f'<g id="{name}">', f"<g><title>{escape(words)}</title>", 1)
    # Charts of one page must not share names; those that are referred to are digests of what they hold.
    inner = re.sub(r'<g id="[^"]*"/>\s*', "", inner)
    inner = re.sub(r'<g id="[^"]*">', "<g>", inner).replace("xlink:href", "href")
    for name, colour in PAGE.items():
        inner = inner.replace(colour, f"var(--{name})")
    inner = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font: \1 system-ui, sans-serif", inner)
    inner = re.sub(r"\n\s*", "\n", inner)
    assert box is not None  # matplotlib writes one
    return f'<svg class="chart" viewBox="{box[1]}" role="img" aria-label="{escape(description)}">{inner}</svg>'
