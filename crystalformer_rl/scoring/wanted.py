"""Whether a crystal is what a run asks of every crystal: in what no mask of the sampler holds, or altogether."""

from __future__ import annotations

from collections.abc import Callable

from crystalformer_rl.crystal.elements import atomic_number, parse_formula, reduced_composition
from crystalformer_rl.crystal.prototype import template
from crystalformer_rl.crystal.tokens import Sites
from crystalformer_rl.crystal.wyckoff import centring_vectors, wyckoff_table
from crystalformer_rl.discovery.charge import charge_balanced
from crystalformer_rl.policy.accepted import Accepts
from crystalformer_rl.policy.constraint_settings import ConstraintSettings
from crystalformer_rl.policy.request import parse_wyckoff


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
        atoms = _atoms(sites)
        if atoms not in balanced:
            balanced[atoms] = charge_balanced(atoms)
        return balanced[atoms]

    return accepted


def meets(constraints: ConstraintSettings) -> Callable[[Sites], bool]:
    """The test of a crystal that nobody drew under the constraints for all of them."""
    rest = accepts(constraints)
    only, forbidden = ({atomic_number(name) for name in names} for names in (constraints.elements, constraints.forbid))
    asked = None
    if constraints.formula is not None:
        asked = reduced_composition(z for z, n in parse_formula(constraints.formula).items() for _ in range(n))
    letters = None
    if constraints.wyckoff:
        # Another origin may write the same positions with other letters.
        letters = template(constraints.space_groups[0], parse_wyckoff(constraints.space_groups[0], constraints.wyckoff))

    def met(sites: Sites) -> bool:
        held = set(sites.elements.tolist())
        if constraints.space_groups and sites.space_group not in constraints.space_groups:
            return False
        if held & forbidden or (only and not held <= only):
            return False
        if letters is not None and template(sites.space_group, sites.wyckoff.tolist()) != letters:
            return False
        if asked is not None and reduced_composition(_atoms(sites)) != asked:
            return False
        cells = len(centring_vectors(sites.space_group))
        if constraints.max_atoms is not None and sites.n_atoms > constraints.max_atoms * cells:
            return False
        return rest is None or rest(sites)

    return met


def _atoms(sites: Sites) -> tuple[int, ...]:
    """Atomic numbers of the atoms in the conventional cell, sorted."""
    counts = wyckoff_table().multiplicities[sites.space_group, sites.wyckoff].tolist()
    return tuple(sorted(z for z, n in zip(sites.elements.tolist(), counts, strict=True) for _ in range(n)))
