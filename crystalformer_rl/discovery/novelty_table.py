"""Which crystals are new, which the policy had seen, and which repeat an earlier one.

Structures are compared by StructureMatcher with pymatgen's defaults, inside buckets
of reduced composition: crystals of different composition never match, so the verdicts
are those of all pairs.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pyarrow as pa

from crystalformer_rl.crystal.encode import EncodeError, space_group, symmetrize
from crystalformer_rl.crystal.structure import Crystal, crystals_from_table
from crystalformer_rl.crystal.tokens import Sites
from crystalformer_rl.discovery.distinct import Distinct
from crystalformer_rl.discovery.known_structures import Known
from crystalformer_rl.discovery.matching import MatchError, composition_key, same_either_way
from crystalformer_rl.discovery.ordering import Forms, same_parent
from crystalformer_rl.tables.column import table_of_rows
from crystalformer_rl.tables.discovery_columns import NOVELTY
from crystalformer_rl.tables.role import TRAINED, Role
from crystalformer_rl.tables.status import OK, Status

TOLERANCES = (0.01, 0.1)
"""Å; at which symmetry is looked for. The first is that of the tokens, the second forgives what relaxation leaves."""


def novelty_table(crystals: pa.Table, known: Known, advance: Callable[[int], object] | None = None) -> pa.Table:
    """The NOVELTY table of a table of crystals, row by row.

    `novel`: no structure of the reference matches that the policy was trained on. `unique`: of the crystals of one structure (connected
    components of all matches) the one with the smallest id, numbers in it by their value; `unique_parent`: the same where
    orderings of one disordered parent are one. A row that comes with another status than ok keeps it, and has nulls.
    """
    structures, statuses = crystals_from_table(crystals)
    uniqueness = _Uniqueness()
    rows: list[dict[str, Any]] = []
    ids = crystals.column("id").to_pylist()
    for place, (name, crystal, status) in enumerate(zip(ids, structures, statuses, strict=True)):
        verdict: dict[str, Any] = {"status": status}
        if status == OK and crystal is not None:
            try:
                forms = Forms.of(crystal)
                verdict = _verdict(crystal, known, forms)
                uniqueness.add(place, crystal, forms)
            except MatchError:
                verdict = {"status": Status.MATCH_FAILED}
        rows.append({"id": name} | verdict)
        if advance is not None:
            advance(1)
    uniqueness.write(rows, ids)
    return table_of_rows(NOVELTY, rows)


class _Uniqueness:
    """Rows by structure, and by disordered parent."""

    def __init__(self) -> None:
        self._structures: Distinct[int, Any] = Distinct(same_either_way)
        self._parents: Distinct[int, Forms] = Distinct(same_parent)

    def add(self, place: int, crystal: Crystal, forms: Forms) -> None:
        key = composition_key(crystal.atomic_numbers)
        self._structures.add(place, key, forms.structure)
        self._parents.add(place, key, forms)

    def write(self, rows: list[dict[str, Any]], ids: list[Any]) -> None:
        """Say in `rows` which of each group stands for it."""
        for column, groups in (("unique", self._structures.groups()), ("unique_parent", self._parents.groups())):
            for group in groups:
                first = min(group, key=lambda place: (_in_order(str(ids[place])), place))
                for place in group:
                    if rows[place]["status"] == OK:
                        rows[place][column] = place == first
                    if column == "unique":
                        rows[place]["duplicate_of"] = None if place == first else ids[first]


def _in_order(name: str) -> list[tuple[int, str]]:
    """Sorts names as people do: `base-9` before `base-10`."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.findall(r"\d+|\D+", name)]


def _verdict(crystal: Crystal, known: Known, forms: Forms) -> dict[str, Any]:
    match = known.find(forms.structure, composition_key(crystal.atomic_numbers))
    role = None if match is None else match.role
    knowledge = known.knowledge(crystal, forms, match, symmetries)
    exchange = knowledge.exchange
    return {
        "novel": role not in TRAINED,
        "rediscovered": role == Role.HELD_OUT,
        "match_id": None if match is None else match.id,
        "match_role": role,
        "known_level": knowledge.level,
        "known_partner": knowledge.partner,
        "known_exchange": None if exchange is None else exchange.words,
        "known_exchange_likelihood": None if exchange is None else exchange.likelihood,
        "known_exchange_matches": knowledge.matches,
        "space_group_001": space_group(crystal, TOLERANCES[0]),
        "space_group_01": space_group(crystal, TOLERANCES[1]),
        "status": OK,
    }


def symmetries(crystal: Crystal) -> list[Sites]:
    """The crystal as sites at each of `TOLERANCES` that finds a symmetry, each once."""
    found: list[Sites] = []
    for tolerance in TOLERANCES:
        try:
            sites = symmetrize(crystal, tolerance)
        except EncodeError:
            continue
        if all(sites.fingerprint() != other.fingerprint() for other in found):
            found.append(sites)
    return found
