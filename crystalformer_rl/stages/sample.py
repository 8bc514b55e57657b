"""Sample crystals from a policy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import pyarrow as pa

from crystalformer_rl.policy.accepted import Accepts, sample_accepted
from crystalformer_rl.policy.request import Request
from crystalformer_rl.policy.sample_table import sites_columns
from crystalformer_rl.policy.transformer import Policy
from crystalformer_rl.tables.column import make_table
from crystalformer_rl.tables.crystal_columns import SAMPLES
from crystalformer_rl.tables.provenance import with_record


class Sampled(NamedTuple):
    """table: the SAMPLES table; unable: space groups asked for that cannot hold what is asked, and were left out."""

    table: pa.Table
    unable: int


def sample(
    policy: Policy,
    n: int,
    space_group_weights: Sequence[float],
    *,
    seed: int = 0,
    offset: int = 0,
    request: Request | None = None,
    accepts: Accepts | None = None,
    batch_size: int = 64,
    advance: Callable[[int], object] | None = None,
) -> Sampled:
    """`n` crystals, numbers `offset` and on of the endless sequence that `seed` begins: crystal i depends on both alone.

    space_group_weights: (230,). request: temperature and what the crystals must be; its constraints mask what cannot be,
    inside the likelihood; accepts: what they must meet besides (`scoring.wanted`), each being drawn again until it does. Log-probabilities are in nats. A sequence that decodes to no crystal keeps its row, with a
    status. Raises InputError for a request that no space group can hold.
    """
    behaviour, weights = (request or Request()).plan(list(space_group_weights), policy.shape.n_max)
    numbers = range(offset, offset + n)
    samples, decoded = sample_accepted(
        policy, seed, numbers, weights, behaviour, accepts, batch_size=batch_size, advance=advance
    )
    columns = {
        "id": [f"s{seed}-{i}" for i in numbers],
        **sites_columns([sites for sites, _ in decoded]),
        "status": [status for _, status in decoded],
        "log_prob": samples.log_prob.astype(float).tolist(),
        "behaviour_log_prob": samples.behaviour_log_prob.astype(float).tolist(),
    }
    unable = sum(w > 0 for w in space_group_weights) - sum(w > 0 for w in weights)
    return Sampled(with_record(make_table(SAMPLES, columns), {"stage": "sample"}), unable)
