"""Which entries of a reference occupy the same Wyckoff positions as a crystal, and which of them would give it by exchanging elements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from crystalformer_rl.crystal.elements import composition
from crystalformer_rl.crystal.prototype import Prototype, Template, elements_by_role, every_order, one_hand, template
from crystalformer_rl.crystal.tokens import Sites
from crystalformer_rl.crystal.wyckoff import wyckoff_table
from crystalformer_rl.discovery.exchange import Exchange, exchange, nearest_donors

COLUMNS = ("space_group", "wyckoff", "elements")


_MOST = 8
"""Donors that are looked at, of those with the fewest exchanges."""


class Donor(NamedTuple):
    """An entry by its row, the crystal's element for each of its, and the same in words with its likelihood."""

    row: int
    elements: dict[int, int]
    exchange: Exchange


@dataclass
class _Alike:
    """What entries of one space group and number of sites are: rows by template, and rows with their elements by prototype."""

    templates: dict[Template, int] = field(default_factory=dict)
    rows: dict[Prototype, list[int]] = field(default_factory=dict)
    donors: dict[Prototype, list[tuple[int, ...]]] = field(default_factory=dict)


class KnownPrototypes:
    """The prototypes of a reference's entries, sorted when a crystal of their space group and number of sites asks."""

    def __init__(self, table: pa.Table) -> None:
        """table: a REFERENCE with the columns `COLUMNS`, null where an entry has no tokens."""
        self._table = table.select(COLUMNS)
        self._rows: dict[tuple[int, int], list[int]] = {}
        sites = pc.list_value_length(table.column("wyckoff")).to_pylist()
        for row, (group, n) in enumerate(zip(table.column("space_group").to_pylist(), sites, strict=True)):
            if group is not None and n:
                self._rows.setdefault((one_hand(group), n), []).append(row)
        self._sorted: dict[tuple[int, int], _Alike] = {}

    def donors(self, sites: Sites) -> list[Donor]:
        """Entries of the crystal's prototype from which few exchanges of near elements lead to it, those first whose ions are seen most often in each other's place."""
        found, orders = elements_by_role(sites.space_group, sites.wyckoff, sites.elements)
        alike = self._alike(sites)
        if found not in alike.rows:
            return []
        donors, ways = np.array(alike.donors[found]), np.array(every_order(found, orders))
        counts = composition(np.repeat(sites.elements, _multiplicities(sites)))
        nearest = []
        for donor, way in nearest_donors(donors, ways, _MOST):
            old, new = donors[donor].tolist(), ways[way].tolist()
            made = exchange(old, new, [counts[z] for z in new])
            nearest.append(Donor(alike.rows[found][donor], dict(zip(old, new, strict=True)), made))
        return sorted(nearest, key=lambda donor: -donor.exchange.weight)

    def same_positions(self, sites: Sites) -> int | None:
        """The first entry that occupies the same Wyckoff positions, whatever elements share them."""
        return self._alike(sites).templates.get(template(sites.space_group, sites.wyckoff))

    def _alike(self, sites: Sites) -> _Alike:
        key = one_hand(sites.space_group), len(sites)
        if key not in self._sorted:
            self._sorted[key] = self._sort(key[0], self._rows.get(key, []))
        return self._sorted[key]

    def _sort(self, group: int, rows: Sequence[int]) -> _Alike:
        alike = _Alike()
        for row, token in zip(rows, self._table.take(pa.array(rows, pa.int64())).to_pylist(), strict=True):
            alike.templates.setdefault(template(group, token["wyckoff"]), row)
            found, orders = elements_by_role(group, token["wyckoff"], token["elements"])
            alike.rows.setdefault(found, []).append(row)
            alike.donors.setdefault(found, []).append(orders[0])
        return alike


def _multiplicities(sites: Sites) -> list[int]:
    table = wyckoff_table()
    return [table.multiplicity(sites.space_group, int(letter)) for letter in sites.wyckoff]
