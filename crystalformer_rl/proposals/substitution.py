"""Known crystals with their elements exchanged, charge balanced, the likeliest first: what a chemist would try."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice

from crystalformer_rl.crystal.prototype import kind
from crystalformer_rl.crystal.tokens import Sites
from crystalformer_rl.proposals.proposal import Proposal
from crystalformer_rl.recovery.prototypes import Prototypes


def substituted(
    prototypes: Prototypes,
    n: int,
    donors: Callable[[Sites], bool],
    meets: Callable[[Sites], bool],
    advance: Callable[[int], object] | None = None,
) -> list[Proposal]:
    """The `n` likeliest exchanges of elements, or all that there are, each kind once by its likeliest donor.

    donors: which known crystals may give their sites; meets: what a proposed crystal must be, charge balance among it. Nobody looks whether a
    crystal that comes out is known: some are.
    """
    found = []
    for proposal in islice(_each_kind_once(prototypes, donors, meets), n):
        found.append(proposal)
        if advance is not None:
            advance(1)
    return found


def _each_kind_once(
    prototypes: Prototypes, donors: Callable[[Sites], bool], meets: Callable[[Sites], bool]
) -> Iterator[Proposal]:
    seen = set()
    for candidate in prototypes.exchanged(donors):
        sites = candidate.sites
        if not meets(sites):
            continue
        this = kind(sites.space_group, sites.wyckoff, sites.elements)
        if this not in seen:
            seen.add(this)
            yield Proposal(f"x{len(seen) - 1}", sites, candidate.donor, candidate.exchange, candidate.score)
