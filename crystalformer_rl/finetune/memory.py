"""What fine-tuning remembers of the crystals it sampled: which kinds there were, and the best for replay."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Int

from crystalformer_rl.policy.batch import TokenBatch


def repeats(seen: Int[np.ndarray, " n"], kinds: Int[np.ndarray, " b"]) -> Int[np.ndarray, " b"]:
    """How many earlier crystals, in `seen` or before it in the batch, are of each crystal's kind; 0 for no crystal."""
    counts = Counter(seen.tolist())
    found = np.zeros(len(kinds), int)
    for i, number in enumerate(kinds.tolist()):
        if number:
            found[i] = counts[number]
            counts[number] += 1
    return found


def remembered(seen: Int[np.ndarray, " n"], kinds: Int[np.ndarray, " b"], most: int) -> Int[np.ndarray, " m"]:
    """The kinds of the last `most` crystals."""
    return np.concatenate([seen, kinds])[-most:]


class Best(NamedTuple):
    """The K best crystals so far, each kind once, best first: tokens as numpy arrays, value (K,), kinds (K,)."""

    tokens: TokenBatch
    value: Float[np.ndarray, " k"]
    kinds: Int[np.ndarray, " k"]

    @staticmethod
    def empty(places: int) -> Best:
        return Best(TokenBatch.of_none(places), np.zeros(0), np.zeros(0, np.int64))

    def chosen(self, rows: np.ndarray | slice) -> Best:
        """Those of the rows, in their order."""
        return Best(jax.tree.map(lambda leaf: leaf[rows], self.tokens), self.value[rows], self.kinds[rows])


def best_of(
    best: Best, tokens: TokenBatch, value: Float[np.ndarray, " b"], kinds: Int[np.ndarray, " b"], good: np.ndarray, size: int
) -> Best:
    """`best` with the crystals of a batch taken in where they are `good` (B,) bool, cut to `size`."""
    rows = np.flatnonzero(good & (kinds != 0))
    joined = Best(
        jax.tree.map(lambda old, new: np.concatenate([old, np.asarray(new)[rows]]), best.tokens, tokens),
        np.concatenate([best.value, value[rows]]),
        np.concatenate([best.kinds, kinds[rows]]),
    )
    order = np.argsort(-joined.value, kind="stable")
    _, first = np.unique(joined.kinds[order], return_index=True)
    return joined.chosen(order[np.sort(first)][:size])
