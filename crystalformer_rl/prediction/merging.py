"""Candidates of one composition that are one structure."""

from __future__ import annotations

from collections.abc import Sequence

from crystalformer_rl.crystal.prototype import Kind, kind
from crystalformer_rl.crystal.structure import Crystal
from crystalformer_rl.crystal.tokens import Sites, primitive
from crystalformer_rl.crystal.wyckoff import point_group_order
from crystalformer_rl.discovery.matching import MatchError, reduced_structure, same_either_way

TIED = 0.001
"""eV/atom; what a relaxation leaves unsettled."""


def merged(sites: Sequence[Sites | None]) -> list[int | None]:
    """For each candidate the place of the first one that is the same structure, its own where it is that one; None for None.

    Only candidates of one kind (space group, and each element's Wyckoff letters) are compared. Of the others StructureMatcher's
    tolerances would take many for one that relax to different structures.
    """
    firsts: dict[Kind, list[tuple[int, object]]] = {}
    found: list[int | None] = []
    for place, own in enumerate(sites):
        if own is None:
            found.append(None)
            continue
        others = firsts.setdefault(kind(own.space_group, own.wyckoff, own.elements), [])
        try:
            form = reduced_structure(primitive(own))
            same = next((first for first, other in others if same_either_way(form, other)), None)  # type: ignore[arg-type]
        except MatchError:  # what cannot be compared stands for itself
            found.append(place)
            continue
        if same is None:
            others.append((place, form))
        found.append(place if same is None else same)
    return found


def merged_at_rest(
    crystals: Sequence[Crystal], energies: Sequence[float], space_groups: Sequence[int], same_energy: float
) -> list[int]:
    """The same of relaxed crystals of whatever kind: those that match and whose energies (eV/atom) differ by less than `same_energy`.

    Of those within `TIED` of the lowest the one of most symmetry operations stands for them: rock salt that was found in a subgroup is
    rock salt, but tetragonal BaTiO3, which lies a few meV/atom below the cubic one, stays tetragonal.
    """
    groups: list[tuple[object, list[int]]] = []
    for place, crystal in enumerate(crystals):
        near = [group for group in groups if abs(energies[group[1][0]] - energies[place]) < same_energy]
        try:
            form = reduced_structure(crystal)
            same = next((group for group in near if same_either_way(form, group[0])), None)  # type: ignore[arg-type]
        except MatchError:
            form, same = None, None
        if same is None:
            groups.append((form, [place]))
        else:
            same[1].append(place)
    found = list(range(len(crystals)))
    for _, members in groups:
        lowest = min(energies[place] for place in members)
        tied = [place for place in members if energies[place] - lowest < TIED]
        first = max(tied, key=lambda place: (point_group_order(space_groups[place]), -place))
        for place in members:
            found[place] = first
    return found
