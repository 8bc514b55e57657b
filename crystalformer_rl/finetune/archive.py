"""Every crystal that fine-tuning drew lately, scored or not: what is learned from is not thrown away after one step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Bool, Float, Int

from crystalformer_rl.crystal.coverage import CHEMISTRIES, chemistries
from crystalformer_rl.crystal.tokens import Sites
from crystalformer_rl.finetune.rollout import Part, Rollout, log_probs, parts_of
from crystalformer_rl.policy.batch import TokenBatch, make_batch
from crystalformer_rl.policy.constraints import Behaviour
from crystalformer_rl.policy.likelihood import closing_state
from crystalformer_rl.policy.transformer import Policy

FAMILIES = len(CHEMISTRIES) + 2
"""Families of compounds: the first of `CHEMISTRIES` that holds, elements and what is none of them, and no crystal."""


class Archive(NamedTuple):
    """N crystals, oldest first.

    tokens: numpy arrays; base: (N, 3) log-probabilities of letters, elements and densities under the base policy, nats;
    drift: (N,) how much likelier what is learned of it was when it was drawn than under the base policy, nats; state: (N, d) what the base policy makes of it, float16; family: (N,) see `FAMILIES`; known: (N, 2) the policy was trained on one of its kind, of its formula; led: (N,) its coordinates and lattice are those after a step
    of relaxation (`Archive.led_to`); worth: (N,) NaN where it was not scored.
    """

    tokens: TokenBatch
    base: Float[np.ndarray, "n 3"]
    drift: Float[np.ndarray, " n"]
    state: Float[np.ndarray, "n d"]
    family: Int[np.ndarray, " n"]
    known: Bool[np.ndarray, "n 2"]
    led: Bool[np.ndarray, " n"]
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
        real = np.float32
        none = np.zeros(0, real)
        state = np.zeros((0, state_size), np.float16)
        return Archive(
            TokenBatch.of_none(places), np.zeros((0, 3), real), none, state, np.zeros(0, np.int32), np.zeros((0, 2), bool),
            np.zeros(0, bool), none,
        )  # fmt: skip

    def led_to(self, ahead: Sequence[Sites | None], base: Policy, behaviour: Behaviour) -> Archive:
        """The same with the first crystals after one more step of relaxation, where that is known.

        They are as good to learn choices from as the crystals drawn, and show besides where atoms come to rest.
        """
        rows = np.array([i for i, sites in enumerate(ahead) if sites is not None], int)
        if not len(rows):
            return self
        places = self.tokens.w.shape[1]
        stepped = make_batch([sites for sites in ahead if sites is not None], places)
        parts = parts_of(stepped, np.arange(len(rows)))
        tokens, before, led = jax.tree.map(np.copy, self.tokens), self.base.copy(), self.led.copy()
        for old, new in zip(tokens, stepped, strict=True):
            old[rows] = new
        before[rows], led[rows] = log_probs(base, parts, len(rows), behaviour), True
        return self._replace(tokens=tokens, base=before, led=led)

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
    as_drawn = np.zeros(size, bool)
    return Archive(tokens, base_log_prob.astype(real), drift.astype(real), state, families, known, as_drawn, unscored)


def _family(sites: Any) -> int:
    if sites is None:
        return FAMILIES - 1
    held = chemistries(sites.elements.tolist())
    return next((i for i, name in enumerate(CHEMISTRIES) if name in held), FAMILIES - 2)
