"""A crystal that somebody proposes, and whence it comes."""

from __future__ import annotations

from dataclasses import dataclass

from crystalformer_rl.crystal.tokens import Sites


@dataclass(frozen=True)
class Proposal:
    """id: unique among those of one source; donor, exchange: of a substitution, the known crystal and what takes whose place in it;
    likeness: how readily, nats.
    """

    id: str
    sites: Sites
    donor: str | None = None
    exchange: str | None = None
    likeness: float | None = None
