"""The learning curve of a pretraining run as a picture of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence

from crystalformer_rl.report.charts import HEIGHT, WIDTH, Chart

_STYLE = """<style>
svg { background: #fff; font: 11px sans-serif; fill: #333 }
path { fill: none; stroke-width: 1.8 } .training { stroke: #999 } .held-out { stroke: #1668b0 }
line.grid { stroke: #e4e4e4 } line.axis { stroke: #888 } line.best { stroke: #1668b0; stroke-dasharray: 3 3 }
text { stroke: none } text.label, text.tick { text-anchor: middle } text.end { text-anchor: end }
</style>"""


def learning_curve(
    epochs: Sequence[int], training_nll: Sequence[float], held_out_nll: Sequence[float], seconds: Sequence[float]
) -> str:
    """An SVG file's text: negative log-likelihoods (nats a crystal) by epoch, the best held-out one marked."""
    known = [(e, v) for e, v in zip(epochs, held_out_nll, strict=True) if math.isfinite(v)]
    values = [*training_nll, *(v for _, v in known)]
    margin = 0.05 * (max(values) - min(values)) + 0.1
    last = max(epochs[-1], 2)
    chart = Chart(
        (1, last),
        (min(values) - margin, max(values) + margin),
        f"epoch ({seconds[-1] / 60:.0f} minutes in all)",
        "negative log-likelihood, nats a crystal",
        "Learning curve: negative log-likelihood of training and held-out crystals by epoch",
    )
    chart.path(list(zip(epochs, training_nll, strict=True)), "training")
    if known:
        chart.path(known, "held-out")
        best, least = min(known, key=lambda point: point[1])
        chart.vertical(best, "best")
        chart.add(f'<text x="{WIDTH - 200:.0f}" y="40" fill="#1668b0">held out, best {least:.2f}</text>')
    chart.add(f'<text x="{WIDTH - 200:.0f}" y="26" fill="#777">training, with dropout</text>')
    drawing = chart.render()
    opening = f'<svg xmlns="http://www.w3.org/2000/svg" width="{2 * WIDTH:.0f}" height="{2 * HEIGHT:.0f}" '
    head, rest = drawing.split(">", 1)
    return f"{opening}{head.removeprefix('<svg ')}>{_STYLE}{rest}\n"
