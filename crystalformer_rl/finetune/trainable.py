"""Which weights fine-tuning moves.

A thousand scored crystals say little about a million weights: what they do not say moves the weights at
random, and the policy forgets what it had learned. Few weights with wide effect gain more from few crystals.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import jax

from crystalformer_rl.policy.checkpoint import leaf_name
from crystalformer_rl.policy.transformer import Policy

Trainable = Literal["all", "norms_and_biases", "last_norm"]

_MOVES: dict[str, Callable[[str], bool]] = {
    "all": lambda name: True,
    "norms_and_biases": lambda name: name.endswith((".b", ".scale", ".offset")),
    "last_norm": lambda name: name.startswith("final_norm.") or name == "head.b",
}


def moved(gradient: Policy, trainable: Trainable) -> Policy:
    """The gradient with zeros where weights stay as they are.

    `norms_and_biases`: biases, and scales and offsets of the layer norms, of all layers; `last_norm`: those of
    the last norm, which sharpen or flatten every choice, and the biases of the output.
    """
    moves = _MOVES[trainable]
    return jax.tree_util.tree_map_with_path(lambda path, leaf: leaf if moves(leaf_name(path)) else leaf * 0, gradient)
