"""What a crystal is likely to be worth, from what the base policy makes of it: a judge that costs no evaluation.

One potential evaluation says whether one crystal turned out well; the critic says how often crystals like it do. Learning from its
expectation instead of the single outcome takes most of the noise out, and crystals that nobody scored can be learned from
too. Kernel ridge regression by random Fourier features (A. Rahimi and B. Recht, NIPS 2007) of the policy's state at the end
of the sequence, which has a closed form: nothing to tune, and the same result wherever it is computed.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float

_FEATURES = 2000
_SCALE = 0.05
"""Of the random frequencies; states are normalized to a size of about 1 in each direction."""
_LINEAR, _WAVES = 0.1, 10.0
"""Weights of the linear and of the nonlinear part: prior standard deviations, in the scale where the noise's variance is `_RIDGE`."""
_RIDGE = 3.0
LEAST = 8
"""Scored crystals below which nothing is predicted."""


def expected_worth(
    state: Float[np.ndarray, "n d"], known: Bool[np.ndarray, "n 2"], worth: Float[np.ndarray, " n"]
) -> Float[np.ndarray, " n"] | None:
    """(N,) expected worth of each crystal, from those whose `worth` is not NaN; None where these are too few.

    Within the range of what was scored. `known`: the policy was trained on one of its kind, of its formula.
    """
    scored = np.isfinite(worth)
    if scored.sum() < LEAST:
        return None
    features = _features(state, known)
    seen, values = features[scored], worth[scored].astype(np.float64)
    mean = values.mean()
    gram = (seen.T @ seen).astype(np.float64)
    gram[np.diag_indices_from(gram)] += _RIDGE
    weights = np.linalg.solve(gram, seen.T.astype(np.float64) @ (values - mean))
    return np.clip(features @ weights + mean, values.min(), values.max())


def _features(state: np.ndarray, known: np.ndarray) -> Float[np.ndarray, "n f"]:
    """Waves, the state itself, and the latter once more for known kinds and for known formulas."""
    h = np.asarray(state, np.float32)
    frequencies, phases = _waves(h.shape[1])
    waves = np.cos(h @ frequencies + phases) * np.float32(_WAVES * (2 / _FEATURES) ** 0.5)
    linear = np.concatenate([h, np.ones((len(h), 1), np.float32)], 1) * np.float32(_LINEAR)
    flags = np.asarray(known, np.float32)
    return np.concatenate([waves, linear, *(flag[:, None] * linear for flag in flags.T), flags], 1)


@lru_cache
def _waves(size: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    frequencies = random.normal(size=(size, _FEATURES)) * _SCALE * (128 / size) ** 0.5
    return frequencies.astype(np.float32), random.uniform(0, 2 * np.pi, _FEATURES).astype(np.float32)
