"""Turn a published checkpoint into a policy of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from crystalformer_rl.policy.published import load_published
from crystalformer_rl.policy.space_group_weights import space_group_weights
from crystalformer_rl.policy.transformer import Policy


def convert(checkpoint: str | Path, space_groups_from: str | Path | None = None) -> tuple[Policy, dict[str, Any]]:
    """The policy of a published `.pkl`, and what its card says of space groups.

    Only arrays are taken from the file; a pickle that names anything else is refused with InputError. space_groups_from: a
    table of tokens as often as whose space groups the policy shall sample.
    """
    policy = load_published(checkpoint)
    if space_groups_from is None:
        return policy, {}
    weights = space_group_weights({}, str(checkpoint), table=space_groups_from)
    return policy, {"space_group_counts": [int(n) for n in weights]}
