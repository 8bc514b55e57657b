"""Whether a crystal meets those constraints that no mask of the sampler holds."""

from __future__ import annotations

from crystalformer_rl.crystal.elements import atomic_number
from crystalformer_rl.crystal.tokens import Sites
from crystalformer_rl.crystal.wyckoff import wyckoff_table
from crystalformer_rl.discovery.charge import charge_balanced
from crystalformer_rl.policy.accepted import Accepts
from crystalformer_rl.policy.constraint_settings import ConstraintSettings


def accepts(constraints: ConstraintSettings) -> Accepts | None:
    """The test of a crystal for `require`, `min_elements` and `charge_balanced`; None where they ask for nothing."""
    if not constraints.tested:
        return None
    required = {atomic_number(name) for name in constraints.require}
    balanced: dict[tuple[int, ...], bool] = {}

    def accepted(sites: Sites) -> bool:
        held = set(sites.elements.tolist())
        if not required <= held or len(held) < constraints.min_elements:
            return False
        if not constraints.charge_balanced:
            return True
        counts = wyckoff_table().multiplicities[sites.space_group, sites.wyckoff].tolist()
        atoms = tuple(sorted(z for z, n in zip(sites.elements.tolist(), counts, strict=True) for _ in range(n)))
        if atoms not in balanced:
            balanced[atoms] = charge_balanced(atoms)
        return balanced[atoms]

    return accepted
