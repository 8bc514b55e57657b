"""The learning curve of a pretraining run as a picture of its own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.ticker import MaxNLocator

from crystalformer_rl.plotting.style import COLOURS, FAINT, GREY, standalone, svg_file


def learning_curve(
    epochs: Sequence[int], training_nll: Sequence[float], held_out_nll: Sequence[float], seconds: Sequence[float]
) -> str:
    """An SVG file's text: negative log-likelihoods (nats a crystal) by epoch, the best held-out one marked."""
    held_out = np.asarray(held_out_nll, float)
    with standalone(7.2, 4.2) as figure:
        axes = figure.subplots()
        axes.plot(epochs, training_nll, color=GREY, linewidth=1.8, label="training, with dropout")
        if np.isfinite(held_out).any():
            best = int(np.nanargmin(held_out))
            words = f"held out, best {held_out[best]:.2f} at epoch {epochs[best]}"
            axes.plot(epochs, held_out, color=COLOURS[0], linewidth=1.8, label=words)
            axes.axvline(epochs[best], color=COLOURS[0], linestyle=(0, (3, 3)), linewidth=1)
        axes.set(xlabel=f"epoch ({seconds[-1] / 60:.0f} minutes in all)", ylabel="negative log-likelihood, nats a crystal")
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        axes.yaxis.grid(True, color=FAINT, linewidth=0.7)
        axes.legend(frameon=False)
        return svg_file(figure, "learning curve")
