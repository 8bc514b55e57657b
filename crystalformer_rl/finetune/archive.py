"""Every crystal that fine-tuning drew lately, scored or not: what is learned from is not thrown away after one step."""

from __future__ import annotations

from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Bool, Float, Int

from crystalformer_rl.crystal.coverage import CHEMISTRIES, chemistries
from crystalformer_rl.finetune.rollout import Part, Rollout
from crystalformer_rl.policy.batch import TokenBatch
from crystalformer_rl.policy.likelihood import closing_state
from crystalformer_rl.policy.transformer import Policy

FAMILIES = len(CHEMISTRIES) + 2
"""Families of compounds: the first of `CHEMISTRIES` that holds, elements and what is none of them, and no crystal."""


class Archive(NamedTuple):
    """N crystals, oldest first.

    tokens: numpy arrays; base: (N, 3) log-probabilities of letters, elements and densities under the base policy, nats;
    drift: (N,) how much likelier what is learned of it was when it was drawn than under the base policy, nats; state: (N, d) what the base policy makes of it, float16; family: (N,) see `FAMILIES`; known: (N, 2) the policy was trained on one of its kind, of its formula; worth: (N,) NaN where it was not scored.
    """

    tokens: TokenBatch
    base: Float[np.ndarray, "n 3"]
    drift: Float[np.ndarray, " n"]
    state: Float[np.ndarray, "n d"]
    family: Int[np.ndarray, " n"]
    known: Bool[np.ndarray, "n 2"]
    worth: Float[np.ndarray, " n"]

    @property
    def group(self) -> Int[np.ndarray, " n"]:
        """(N,) space groups."""
        return np.asarray(self.tokens.g)

    @property
    def cell(self) -> Int[np.ndarray, " n"]:
        """(N,) a number for each pair of space group and family."""
        return self.group * FAMILIES + self.family

    @property
    def template(self) -> Int[np.ndarray, " n"]:
        """(N,) a number for each space group with its Wyckoff letters."""
        letters = np.column_stack([self.group, np.asarray(self.tokens.w)]).astype(np.uint8)
        rows = np.ascontiguousarray(letters).view(f"V{letters.shape[1]}").ravel()
        return np.unique(rows, return_inverse=True)[1]

    @staticmethod
    def empty(places: int, state_size: int) -> Archive:
        whole, real = np.int32, np.float32
        tokens: list[Any] = [
            np.zeros(shape, kind)
            for shape, kind in (
                ((0,), whole),
                ((0, places), whole),
                ((0, places), whole),
                ((0, places, 3), real),
                ((0, 6), real),
            )
        ]
        none = np.zeros(0, real)
        state = np.zeros((0, state_size), np.float16)
        return Archive(
            TokenBatch(*tokens), np.zeros((0, 3), real), none, state, np.zeros(0, whole), np.zeros((0, 2), bool), none
        )

    def joined(self, other: Archive) -> Archive:
        """These, then those."""
        return jax.tree.map(lambda a, b: np.concatenate([np.asarray(a), np.asarray(b)]), self, other)

    def last(self, most: int) -> Archive:
        """The newest `most`."""
        return jax.tree.map(lambda leaf: leaf[max(0, len(leaf) - most) :], self)


_state = eqx.filter_jit(closing_state)


def entries(
    base: Policy, rollout: Rollout, parts: list[Part], drift: np.ndarray, base_log_prob: np.ndarray, known: np.ndarray
) -> Archive:
    """The archive's rows of a batch that was just drawn, not scored yet; `parts` of all its crystals."""
    size = len(rollout.sites)
    state = np.zeros((size, base.shape.model_size), np.float16)
    for part in parts:
        state[part.rows] = np.asarray(_state(base, part.tokens), np.float16)
    families = np.array([_family(sites) for sites in rollout.sites], np.int32)
    tokens = jax.tree.map(np.asarray, rollout.samples.tokens)
    real = np.float32
    unscored = np.full(size, np.nan, real)
    return Archive(tokens, base_log_prob.astype(real), drift.astype(real), state, families, known, unscored)


def _family(sites: Any) -> int:
    if sites is None:
        return FAMILIES - 1
    held = chemistries(sites.elements.tolist())
    return next((i for i, name in enumerate(CHEMISTRIES) if name in held), FAMILIES - 2)
