"""The crystals that the policy was trained on, as they are: what screening would score."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.compute as pc

from crystalformer_rl.crystal.tokens import Sites, sites_from_table
from crystalformer_rl.proposals.proposal import Proposal
from crystalformer_rl.tables.parquet import read_table
from crystalformer_rl.tables.role import Role


def screened(reference: str | Path, meets: Callable[[Sites], bool], seed: int) -> list[Proposal]:
    """The pretraining entries of a reference that meet what a run asks, in an order drawn by `seed`: none comes first for being known to be good."""
    table = read_table(reference)
    table = table.filter(pc.and_(pc.equal(table.column("role"), Role.PRETRAINING), pc.is_valid(table.column("wyckoff"))))
    found = zip(table.column("id").to_pylist(), sites_from_table(table, str(reference)), strict=True)
    kept = [Proposal(name, sites) for name, sites in found if sites is not None and meets(sites)]
    return [kept[k] for k in np.random.default_rng(seed).permutation(len(kept))]
