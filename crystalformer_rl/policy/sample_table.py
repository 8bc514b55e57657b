"""Sampled crystals as columns of tables: in their conventional cell, with their tokens and a status."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from crystalformer_rl.crystal.structure import crystal_columns
from crystalformer_rl.crystal.tokens import Sites, decode, token_columns
from crystalformer_rl.policy.batch import TokenBatch
from crystalformer_rl.policy.sampler import sites_of
from crystalformer_rl.tables.crystal_columns import SITE_FRAC_COORDS


def sampled_columns(tokens: TokenBatch) -> dict[str, Any]:
    """Columns of crystals and tokens of a batch, and `status`."""
    decoded = sites_of(tokens)
    return {**sites_columns([sites for sites, _ in decoded]), "status": [status for _, status in decoded]}


def sites_columns(sites: Sequence[Sites | None]) -> dict[str, Any]:
    """Columns of crystals and tokens; None gives nulls."""
    crystals = [None if s is None else decode(s) for s in sites]
    return {**crystal_columns(crystals), **token_columns(sites, coords_name=SITE_FRAC_COORDS.name)}
