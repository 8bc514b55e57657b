"""Crystals to score that no policy drew: the known ones, or the likeliest exchanges of their elements."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pyarrow as pa

from crystalformer_rl.crystal.tokens import Sites
from crystalformer_rl.discovery.charge import metals_alone
from crystalformer_rl.errors import InputError
from crystalformer_rl.policy.constraint_settings import ConstraintSettings
from crystalformer_rl.policy.sample_table import sites_columns
from crystalformer_rl.proposals.screening import screened
from crystalformer_rl.proposals.substitution import substituted
from crystalformer_rl.recovery.prototypes import Prototypes
from crystalformer_rl.scoring.wanted import meets
from crystalformer_rl.tables.column import make_table
from crystalformer_rl.tables.crystal_columns import PROPOSALS
from crystalformer_rl.tables.provenance import with_record
from crystalformer_rl.tables.status import OK

Source = Literal["screening", "substitution"]


def propose(
    source: Source,
    reference: str | Path,
    n: int,
    constraints: ConstraintSettings | None = None,
    *,
    ionic: bool = False,
    seed: int = 0,
    advance: Callable[[int], object] | None = None,
) -> pa.Table:
    """The PROPOSALS table: at most `n` crystals that meet the constraints, in the order in which they are to be scored.

    screening: the pretraining entries of the reference, in an order drawn by `seed`; substitution: charge-balanced exchanges of elements
    in those of the space groups asked for, the likeliest first; ionic: without those of metals alone, whose charges always balance. Raises InputError where there is none.
    """
    wanted = constraints or ConstraintSettings()
    if source == "screening":
        found = screened(reference, meets(wanted), seed)[:n]
    else:
        balanced = wanted.model_copy(update={"charge_balanced": True})
        groups = set(wanted.space_groups)

        def gives(sites: Sites) -> bool:
            return not groups or sites.space_group in groups

        met = meets(balanced)

        def taken(sites: Sites) -> bool:
            return met(sites) and not (ionic and metals_alone(sites.elements.tolist()))

        found = substituted(Prototypes.from_reference(reference), n, gives, taken, advance)
    if not found:
        raise InputError(f"{reference} gives no crystal that meets the constraints by {source}; ask for less.")
    columns = {
        "id": [one.id for one in found],
        **sites_columns([one.sites for one in found]),
        "donor": [one.donor for one in found],
        "exchange": [one.exchange for one in found],
        "likeness": [one.likeness for one in found],
        "status": [OK] * len(found),
    }
    return with_record(make_table(PROPOSALS, columns), {"stage": "propose"})
