"""Whether events come as often as their probabilities say, as a picture of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from crystalformer_rl.intervals import wilson_interval
from crystalformer_rl.plotting.style import COLOURS, FAINT, GREY, standalone, svg_file

Tenths = Sequence[tuple[int, float, float]]
"""Of each tenth of the range: crystals, their mean probability, the share that is true."""


def reliability_diagram(panels: Mapping[str, Mapping[str, Tenths]]) -> str:
    """An SVG file's text: a panel for each title, a line for each name in it, with 95 % intervals (Wilson) of the shares."""
    with standalone(3.6 * len(panels), 3.7) as figure:
        for axes, (title, lines) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
            axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=(0, (3, 3)))
            for colour, marker, (name, tenths) in zip(COLOURS, "os^", lines.items(), strict=False):
                known = [(n, mean, share) for n, mean, share in tenths if n]
                means, shares = [mean for _, mean, _ in known], [share for _, _, share in known]
                ends = [wilson_interval(round(share * n), n) for n, _, share in known]
                axes.vlines(means, [low for low, _ in ends], [high for _, high in ends], color=colour, linewidth=1.2)
                axes.plot(means, shares, color=colour, marker=marker, markersize=4, linewidth=1.4, label=name)
            axes.set(title=title, xlabel="probability", ylabel="share that DFT confirms", xlim=(0, 1), ylim=(0, 1))
            axes.grid(True, color=FAINT, linewidth=0.7)
            axes.legend(frameon=False, loc="upper left")
        return svg_file(figure, "reliability")
