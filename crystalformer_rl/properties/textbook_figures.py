"""What the models say of textbook crystals, beside the calculation where it is known and what was measured."""

from __future__ import annotations

from typing import Any

import numpy as np

from crystalformer_rl.properties.examples import Examples
from crystalformer_rl.properties.models import PropertyModels
from crystalformer_rl.properties.prediction import Embedder, embed
from crystalformer_rl.properties.textbook import TEXTBOOK

_FIGURES = (
    "band_gap",
    "band_gap_std",
    "eps_electronic",
    "eps_electronic_std",
    "eps_total",
    "eps_total_std",
    "applicability",
)
_SAME = 0.25  # of the kernel's distance within the training data: the same structure, relaxed


def textbook_figures(models: PropertyModels, potential: Embedder, calculated: Examples) -> list[dict[str, Any]]:
    """Predictions for `TEXTBOOK`, with the labels of the crystal among `calculated` that has the formula and the structure.

    calculated: features as the models compute them, labels eps_electronic and eps_total.
    """
    crystals = [one.crystal for one in TEXTBOOK]
    embeddings, _ = embed(potential, crystals)
    rows = models.features(crystals, embeddings)
    said = models.predict(crystals, embeddings)
    spread = np.where(calculated.rows.std(0) > 1e-6, calculated.rows.std(0), np.inf)
    found = []
    for i, one in enumerate(TEXTBOOK):
        same = [k for k, formula in enumerate(calculated.formulas) if formula == one.crystal.formula]
        distances = [float(np.sqrt(np.mean(((calculated.rows[k] - rows[i]) / spread) ** 2))) for k in same]
        nearest = same[int(np.argmin(distances))] if distances and min(distances) < _SAME else None
        labels = {
            name: None if nearest is None or not np.isfinite(values[nearest]) else float(values[nearest])
            for name, values in calculated.labels.items()
        }
        found.append({
            "name": one.name,
            "predicted": {name: float(getattr(said, name)[i]) for name in _FIGURES},
            "calculated": labels,
            "measured": {"band_gap": one.band_gap, "eps_electronic": one.eps_electronic, "eps_total": one.eps_total},
            "in_training": bool(said.in_training[i]),
            "constants_in_training": bool(same) and not bool(calculated.withheld[same[0]]),
        })  # fmt: skip
    return found
