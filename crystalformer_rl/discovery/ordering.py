"""Whether two crystals of one formula are orderings of one disordered parent: the same once similar elements share their sites.

Elements are similar where they could replace each other in a solid solution by the rule of Hume-Rothery as MatterGen widened it
(C. Zeni et al., Nature 639, 624 (2025)): atomic radii (Slater's) within 30 % of their mean, Pauling electronegativities within 1.0.
The rule is wide: zinc and sulfur pass it.
"""

from __future__ import annotations

from functools import cache
from itertools import combinations
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from crystalformer_rl.crystal.elements import electronegativity_rank
from crystalformer_rl.crystal.structure import Crystal
from crystalformer_rl.discovery.matching import reduced_structure, same_either_way

if TYPE_CHECKING:
    from pymatgen.core import Structure

RADIUS_WITHIN = 0.3
ELECTRONEGATIVITY_WITHIN = 1.0


@cache
def similar(a: int, b: int) -> bool:
    """Whether the elements of atomic numbers `a` and `b` could share a site; never where a value is unknown (noble gases)."""
    from pymatgen.core import Element

    chi = abs(electronegativity_rank(a)[0] - electronegativity_rank(b)[0])
    one, other = Element.from_Z(a).atomic_radius, Element.from_Z(b).atomic_radius
    if one is None or other is None or not chi <= ELECTRONEGATIVITY_WITHIN:
        return False
    return bool(abs(one - other) <= RADIUS_WITHIN * (one + other) / 2)


@cache
def shared_sites(elements: frozenset[int]) -> dict[int, int]:
    """Each element that shares its sites with others of the crystal, and the lightest of those, which stands for all.

    Similarity is not transitive: elements share sites where a chain of similar ones joins them.
    """
    stands_for = {z: z for z in elements}
    for a, b in combinations(sorted(elements), 2):
        if similar(a, b):
            low, high = sorted((stands_for[a], stands_for[b]))
            stands_for = {z: low if first == high else first for z, first in stands_for.items()}
    counts = [*stands_for.values()]
    return {z: first for z, first in stands_for.items() if counts.count(first) > 1}


def disordered_parent(crystal: Crystal) -> Crystal | None:
    """The crystal with one name for all elements that share sites; None where none do.

    One name serves as well as fractional occupations: crystals are compared with those of their own formula alone.
    """
    atoms = [int(z) for z in crystal.atomic_numbers]
    merge = shared_sites(frozenset(atoms))
    if not merge:
        return None
    numbers = np.array([merge.get(z, z) for z in atoms])
    return Crystal(numbers, crystal.frac_coords, crystal.lattice)


class Forms(NamedTuple):
    """A crystal reduced, and its disordered parent reduced, where it has one."""

    structure: Structure
    parent: Structure | None

    @classmethod
    def of(cls, crystal: Crystal) -> Forms:
        """Raises MatchError for a crystal that no matcher can handle."""
        parent = disordered_parent(crystal)
        return cls(reduced_structure(crystal), None if parent is None else reduced_structure(parent))


def same_parent(a: Forms, b: Forms) -> bool:
    """Whether two crystals of one composition are one structure, or orderings of one disordered parent. Raises MatchError."""
    if same_either_way(a.structure, b.structure):
        return True
    return a.parent is not None and b.parent is not None and same_either_way(a.parent, b.parent)
