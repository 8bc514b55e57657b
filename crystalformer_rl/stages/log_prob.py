"""Log-probabilities of tokens under a policy."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa

from crystalformer_rl.crystal.tokens import sites_from_table
from crystalformer_rl.policy.token_log_probs import log_probs_of
from crystalformer_rl.policy.transformer import Policy
from crystalformer_rl.tables.column import make_table
from crystalformer_rl.tables.crystal_columns import ID, LOG_PROBS, STATUS
from crystalformer_rl.tables.provenance import with_record


def log_prob(
    tokens: pa.Table,
    policy: Policy,
    *,
    source: str = "the tokens",
    advance: Callable[[int], object] | None = None,
) -> pa.Table:
    """Log-probability (nats) of each crystal of a TOKENS table given its space group: four parts and their sum.

    Rows stay in order; one without tokens, or with more sites than the policy has room for, has a status. The arithmetic
    has the precision of the policy's weights. `source` names the table in errors. Raises InputError for tokens that do not
    fit together.
    """
    sites = sites_from_table(tokens, source)
    parts, statuses = log_probs_of(policy, sites, advance=advance)
    columns = {"id": tokens.column("id").to_pylist(), **parts, "status": statuses}
    return with_record(make_table((ID, *LOG_PROBS, STATUS), columns), {"stage": "log-prob"})
