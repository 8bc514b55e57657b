"""The optimum of fine-tuning, written down for each crystal: how much likelier than under the base policy it should become.

p_base exp(r/τ)/Z keeps every kind of crystal that the base policy makes and thins out the bad ones. Its logarithm less the base
policy's is r/τ − ln Z, with a Z for each space group, which the policy does not choose (S. Venkatraman et al., "Amortizing intractable inference in
diffusion models", arXiv 2405.20971, call learning towards it relative trajectory balance). With a Z for each family of
compounds within a space group the shares of oxides, halides, chalcogenides and intermetallics stay as they are: what
competes are compounds of one family.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from crystalformer_rl.finetune.archive import FAMILIES, Archive

Keep = Literal["chemistry", "space_group"]

_CLIP = 2.0
"""Largest logarithm of an importance weight: a bound on the variance of Z."""
_GROUP_PRIOR, _CELL_PRIOR, _TEMPLATE_PRIOR = 2.0, 1.0, 2.0
"""Crystals that the mean over all counts for beside those of a space group, of a family in it, and of a Wyckoff template."""

_GAIN, _WATCHED = 6.0, 3
"""How strongly families that lost crystals are called back, and the batches in which they are counted."""


def targets(archive: Archive, worth: Float[np.ndarray, " n"], tau: float, keep: Keep, fresh: int) -> Float[np.ndarray, " n"]:
    """(N,) log-ratio to the base policy that each crystal's choices should have, nats: worth/τ less a constant of where it belongs.

    At the optimum the constant is ln E_base[exp(worth/τ)]. A policy on the way has come a part s of it (its slope on the worth, among the
    last `fresh` crystals); with ln E_base[exp(s · worth/τ)] no place gains or loses crystals on the way either.
    Expectations are over crystals drawn from policies on the way, weighted back to the base policy.
    """
    weights = np.exp(-np.clip(archive.drift, -_CLIP, _CLIP))
    places = [(archive.group, _GROUP_PRIOR)]
    if keep == "chemistry":
        # Families last, so that theirs is the constant that holds exactly.
        places += [(archive.template, _TEMPLATE_PRIOR), (archive.cell, _CELL_PRIOR)]
    value = worth / tau
    for cells, prior in places:
        value = value - _mean(value, weights, cells, prior)
    part = _part(value[-fresh:], archive.drift[-fresh:])
    constant, left = np.zeros(len(value)), part * value
    for cells, prior in places:
        step = np.log(_mean(np.exp(left - left.max()), weights, cells, prior)) + left.max()
        constant, left = constant + step, left - step
    if keep == "space_group":
        return value - constant
    return value - constant + _GAIN * _lost(archive.family, weights, _WATCHED * fresh)


def _lost(family: Int[np.ndarray, " n"], weights: Float[np.ndarray, " n"], recent: int) -> Float[np.ndarray, " n"]:
    """Logarithm of the share of each crystal's family under the base policy over that among the last crystals drawn."""
    before = np.bincount(family, weights, FAMILIES) + 1.0
    now = np.bincount(family[-recent:], minlength=FAMILIES) + 1.0
    ratio: np.ndarray = np.log(before / before.sum()) - np.log(now / now.sum())
    return ratio[family]


def _part(value: Float[np.ndarray, " n"], drift: Float[np.ndarray, " n"]) -> float:
    """How far a policy has come: the slope of its log-ratio on the one aimed at, from 0 to 1."""
    spread = value.var()
    if spread < 1e-12:
        return 0.0
    return float(np.clip(np.mean((value - value.mean()) * (drift - drift.mean())) / spread, 0, 1))


def _mean(
    value: Float[np.ndarray, " n"], weights: Float[np.ndarray, " n"], cells: Int[np.ndarray, " n"], prior: float
) -> Float[np.ndarray, " n"]:
    """Weighted mean of the values in each crystal's cell; cells with few crystals lean on the mean over all."""
    _, number = np.unique(cells, return_inverse=True)
    total, seen = np.bincount(number, weights * value), np.bincount(number, weights)
    return ((total + prior * total.sum() / seen.sum()) / (seen + prior))[number]
