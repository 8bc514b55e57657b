"""Candidates of one composition that are one structure."""

from __future__ import annotations

from collections.abc import Sequence

from crystalformer_rl.crystal.prototype import Kind, kind
from crystalformer_rl.crystal.structure import Crystal
from crystalformer_rl.crystal.tokens import Sites, primitive
from crystalformer_rl.discovery.matching import MatchError, reduced_structure, same_either_way


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


def merged_at_rest(crystals: Sequence[Crystal], energies: Sequence[float], same_energy: float) -> list[int]:
    """The same of relaxed crystals of whatever kind: those that match and whose energies (eV/atom) differ by less than `same_energy`."""
    firsts: list[tuple[int, object]] = []
    found: list[int] = []
    for place, crystal in enumerate(crystals):
        near = [(first, other) for first, other in firsts if abs(energies[first] - energies[place]) < same_energy]
        try:
            form = reduced_structure(crystal)
            same = next((first for first, other in near if same_either_way(form, other)), None)  # type: ignore[arg-type]
        except MatchError:
            found.append(place)
            continue
        if same is None:
            firsts.append((place, form))
        found.append(place if same is None else same)
    return found
