"""Which crystals are new, which the policy had seen, and which repeat an earlier one.

Structures are compared by StructureMatcher with pymatgen's defaults, inside buckets
of reduced composition: crystals of different composition never match, so the verdicts
are those of all pairs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from crystalformer_rl.crystal.encode import EncodeError, symmetrize
from crystalformer_rl.crystal.prototype import Prototype, prototype
from crystalformer_rl.crystal.structure import Crystal, crystals_from_table
from crystalformer_rl.discovery.known_structures import HELD_OUT, PRETRAINING, Known
from crystalformer_rl.discovery.matching import Composition, MatchError, composition_key, reduced_structure, same_structure
from crystalformer_rl.tables.column import table_of_rows
from crystalformer_rl.tables.discovery_columns import NOVELTY
from crystalformer_rl.tables.status import OK, Status

if TYPE_CHECKING:
    from pymatgen.core import Structure


def novelty_table(crystals: pa.Table, known: Known, advance: Callable[[int], object] | None = None) -> pa.Table:
    """The NOVELTY table of a table of crystals, row by row.

    `novel`: no pretraining structure of the reference matches. `unique`: of the crystals of one structure (connected
    components of all matches) the one with the smallest id, shorter ids before longer ones. A row that comes with
    another status than ok keeps it, and has nulls.
    """
    structures, statuses = crystals_from_table(crystals)
    distinct = Distinct()
    rows: list[dict[str, Any]] = []
    ids = crystals.column("id").to_pylist()
    for place, (name, crystal, status) in enumerate(zip(ids, structures, statuses, strict=True)):
        if status != OK or crystal is None:
            rows.append({"id": name, "status": status})
        else:
            rows.append({"id": name} | _verdict(str(place), crystal, known, distinct))
        if advance is not None:
            advance(1)
    for group in distinct.groups():
        first, *others = sorted(map(int, group), key=lambda place: (len(str(ids[place])), str(ids[place]), place))
        rows[first] |= {"unique": True, "duplicate_of": None}
        for place in others:
            rows[place] |= {"unique": False, "duplicate_of": ids[first]}
    return table_of_rows(NOVELTY, rows)


def _verdict(name: str, crystal: Crystal, known: Known, distinct: Distinct) -> dict[str, Any]:
    key = composition_key(crystal.atomic_numbers)
    try:
        structure = reduced_structure(crystal)
        match = known.find(structure, key)
        distinct.add(name, key, structure)
    except MatchError:
        return {"status": Status.MATCH_FAILED}
    role = None if match is None else match.role
    level, partner = known.level(key, match, lambda: crystal_prototype(crystal))
    return {
        "novel": role != PRETRAINING,
        "rediscovered": role == HELD_OUT,
        "match_id": None if match is None else match.id,
        "match_role": role,
        "known_level": level,
        "known_partner": partner,
        "status": OK,
    }


def crystal_prototype(crystal: Crystal) -> Prototype | None:
    """The prototype of a crystal at the tolerance of the tokens (0.01 Å); None where no symmetry is found."""
    try:
        sites = symmetrize(crystal)
    except EncodeError:
        return None
    return prototype(sites.space_group, sites.wyckoff, sites.elements)


def _match(a: Structure, b: Structure) -> bool:
    """Whether two structures match in either order: at its tolerances the matcher may find one and not the other."""
    return same_structure(a, b) or same_structure(b, a)


class Distinct:
    """Crystals sorted into groups of one structure.

    Matching is not transitive: a may match b and b match c where a does not match c. Groups are the connected components of all
    matches, so that they do not depend on the order in which the crystals came.
    """

    def __init__(self) -> None:
        self._buckets: dict[Composition, list[list[tuple[str, Structure]]]] = {}

    def add(self, name: str, key: Composition, structure: Structure) -> str | None:
        """Keep a crystal (reduced) under its name; the name of the first one of its group so far, None where it begins one."""
        others, joined = [], []
        for group in self._buckets.get(key, []):
            if any(_match(structure, kept) for _, kept in group):
                joined += group
            else:
                others.append(group)
        self._buckets[key] = [*others, [*joined, (name, structure)]]
        return joined[0][0] if joined else None

    def groups(self) -> list[list[str]]:
        """Names of the crystals of each structure."""
        return [[name for name, _ in group] for groups in self._buckets.values() for group in groups]
