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

    `novel`: no pretraining structure of the reference matches. `unique`: no earlier row
    matches, so that of several equal crystals the first counts. A row that comes with
    another status than ok keeps it, and has nulls.
    """
    structures, statuses = crystals_from_table(crystals)
    earlier = Distinct()
    rows = []
    for name, crystal, status in zip(crystals.column("id").to_pylist(), structures, statuses, strict=True):
        if status != OK or crystal is None:
            rows.append({"id": name, "status": status})
        else:
            rows.append({"id": name} | _verdict(name, crystal, known, earlier))
        if advance is not None:
            advance(1)
    return table_of_rows(NOVELTY, rows)


def _verdict(name: str, crystal: Crystal, known: Known, earlier: Distinct) -> dict[str, Any]:
    key = composition_key(crystal.atomic_numbers)
    try:
        structure = reduced_structure(crystal)
        match = known.find(structure, key)
        duplicate_of = earlier.add(name, key, structure)
    except MatchError:
        return {"status": Status.MATCH_FAILED}
    role = None if match is None else match.role
    needs_prototype = match is None and key not in known.rows_of
    return {
        "novel": role != PRETRAINING,
        "rediscovered": role == HELD_OUT,
        "match_id": None if match is None else match.id,
        "match_role": role,
        "known_level": known.level(key, match is not None, crystal_prototype(crystal) if needs_prototype else None),
        "unique": duplicate_of is None,
        "duplicate_of": duplicate_of,
        "status": OK,
    }


def crystal_prototype(crystal: Crystal) -> Prototype | None:
    """The prototype of a crystal at the tolerance of the tokens (0.01 Å); None where no symmetry is found."""
    try:
        sites = symmetrize(crystal)
    except EncodeError:
        return None
    return prototype(sites.space_group, sites.wyckoff, sites.elements)


class Distinct:
    """Crystals in the order they came, to tell repeats from first occurrences."""

    def __init__(self) -> None:
        self._buckets: dict[Composition, list[tuple[str, Structure]]] = {}

    def add(self, name: str, key: Composition, structure: Structure) -> str | None:
        """Keep a crystal (reduced) under its name; the name of the first kept one that matches it, if any."""
        bucket = self._buckets.setdefault(key, [])
        first = next((other for other, kept in bucket if same_structure(structure, kept)), None)
        bucket.append((name, structure))
        return first
