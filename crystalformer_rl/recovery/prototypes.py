"""The prototypes that are known, by stoichiometry, and the candidates that they make of a composition."""

from __future__ import annotations

import heapq
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice, permutations
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from crystalformer_rl.crystal.elements import SYMBOLS, reduced_formula
from crystalformer_rl.crystal.lattice import lattice_matrix
from crystalformer_rl.crystal.prototype import Prototype, elements_by_role
from crystalformer_rl.crystal.split import held_out
from crystalformer_rl.crystal.tokens import Sites, sites_from_table
from crystalformer_rl.crystal.wyckoff import centring_vectors, wyckoff_table
from crystalformer_rl.errors import InputError
from crystalformer_rl.recovery.likeness import likeness
from crystalformer_rl.recovery.volumes import atomic_volumes, ratio
from crystalformer_rl.tables.parquet import read_table
from crystalformer_rl.tables.role import Role

_MOST_WAYS = 5040
_COMMON = 0.5  # nats for each e-fold of compounds that a prototype has


@dataclass(frozen=True)
class Candidate:
    """A structure that a composition may have: sites, the donor and the exchange that made it, and its score in nats.

    least: the likeness of the unlikest elements exchanged; exchanged: how many are; family: compounds of the prototype.
    """

    sites: Sites
    donor: str
    exchange: str
    score: float
    least: float
    exchanged: int
    family: int


@dataclass(frozen=True)
class _Family:
    """The compounds of one prototype: atoms of each role in a formula unit, elements by role (n, k), and which compounds they are."""

    counts: tuple[int, ...]
    elements: np.ndarray
    rows: np.ndarray


class Prototypes:
    """Known crystals sorted by stoichiometry and prototype.

    ids, sites: of each crystal, in the standard description. most_atoms: in the primitive cell, of a donor.
    """

    def __init__(self, ids: Sequence[str], sites: Sequence[Sites], most_atoms: int = 20) -> None:
        self._ids, self._sites = list(ids), list(sites)
        members: dict[Prototype, list[tuple[int, tuple[int, ...]]]] = defaultdict(list)
        for row, own in enumerate(self._sites):
            found, orders = elements_by_role(own.space_group, own.wyckoff, own.elements)
            members[found].append((row, orders[0]))
        self.likeness = likeness([[elements for _, elements in family] for family in members.values()])
        compositions = [_composition(own) for own in self._sites]
        self._formulas = [_formula(counts) for counts in compositions]
        self._volumes = atomic_volumes(compositions, [_conventional_volume(own) for own in self._sites])
        self._members = frozenset(members)
        self._families: dict[tuple[int, ...], list[_Family]] = defaultdict(list)
        for found, family in members.items():
            rows = [(row, elements) for row, elements in family if _primitive_atoms(self._sites[row]) <= most_atoms]
            if rows:
                counts = _counts(found)
                self._families[tuple(sorted(counts))].append(
                    _Family(counts, np.array([elements for _, elements in rows]), np.array([row for row, _ in rows]))
                )

    @classmethod
    def from_reference(cls, path: str | Path, most_atoms: int = 20, more: Sequence[tuple[str, Sites]] = ()) -> Prototypes:
        """Those of a reference's pretraining entries, and `more`: (id, sites). Raises InputError where the file has none with tokens."""
        table = read_table(path)
        trained = pc.and_(pc.equal(table.column("role"), Role.PRETRAINING), pc.is_valid(table.column("wyckoff")))
        table = table.filter(trained)
        kept = [not held_out(formula) for formula in table.column("formula").to_pylist()]
        table = table.filter(pa.array(kept, pa.bool_()))
        if not table.num_rows:
            raise InputError(f"{path} has no pretraining entries with tokens, so no prototypes; build it with structures.")
        found = sites_from_table(table, str(path))
        pairs = [(name, own) for name, own in zip(table.column("id").to_pylist(), found, strict=True) if own is not None]
        pairs += more
        return cls([name for name, _ in pairs], [own for _, own in pairs], most_atoms)

    def __len__(self) -> int:
        return sum(len(families) for families in self._families.values())

    def has(self, space_group: int, wyckoff: Sequence[int], elements: Sequence[int]) -> bool:
        """Whether a known crystal has the prototype of these sites, given in the standard description."""
        found = elements_by_role(space_group, np.array(wyckoff), np.array(elements))[0]
        return found in self._members

    def candidates(self, composition: Mapping[int, int], most: int) -> list[Candidate]:
        """The likeliest structures of a reduced composition {atomic number: atoms}, best first, each prototype with its best donor.

        Donors of the composition's own formula are left out. The score is the likeness of the exchanged elements, and a little for prototypes
        that many compounds have.
        """
        found: list[tuple[float, int, tuple[int, ...], tuple[int, ...], int]] = []
        for donors, rows, ways, scores in self._scored(composition):
            donor, way = np.unravel_index(int(scores.argmax()), scores.shape)
            score = float(scores[donor, way]) + _COMMON * math.log(len(rows))
            found.append((score, int(rows[donor]), tuple(donors[donor].tolist()), tuple(ways[way].tolist()), len(rows)))
        found.sort(key=lambda item: (-item[0], item[1]))
        return [self._made(*item) for item in found[:most]]

    def exchanged(self, donors: Callable[[Sites], bool] = lambda _: True) -> Iterator[Candidate]:
        """Every exchange of elements in every donor that `donors` takes, the likeliest first; one at least is exchanged.

        One structure may come of several donors, and then comes again. The score is that of `candidates` less what elements that stay give, so that it
        does not grow with their number.
        """
        heap: list[tuple[float, int, tuple[int, ...]]] = []
        families: dict[int, tuple[tuple[int, ...], int]] = {}
        for family in (one for same in self._families.values() for one in same):
            for row, elements in zip(family.rows.tolist(), family.elements.tolist(), strict=True):
                if donors(self._sites[row]):
                    families[row] = tuple(elements), len(family.rows)
                    heap.append((-self._exchange_score(row, (0,) * len(elements), families), row, (0,) * len(elements)))
        heapq.heapify(heap)
        met = {(row, ranks) for _, row, ranks in heap}
        while heap:
            score, row, ranks = heapq.heappop(heap)
            old, size = families[row]
            new = tuple(int(self._likest[z, rank]) for z, rank in zip(old, ranks, strict=True))
            if new != old and len(set(new)) == len(new):
                yield self._made(-score, row, old, new, size)
            for role, rank in enumerate(ranks):
                further = (*ranks[:role], rank + 1, *ranks[role + 1 :])
                if rank + 1 < self._likest.shape[1] and (row, further) not in met:
                    met.add((row, further))
                    heapq.heappush(heap, (-self._exchange_score(row, further, families), row, further))

    @cached_property
    def _likest(self) -> np.ndarray:
        """(119, 118) elements by falling likeness to each element; row 0 says nothing."""
        found = self.likeness.copy()
        found[:, 0] = -np.inf
        return np.argsort(-found, axis=1, kind="stable")[:, :-1]

    def _exchange_score(self, row: int, ranks: tuple[int, ...], families: dict[int, tuple[tuple[int, ...], int]]) -> float:
        old, size = families[row]
        lost = sum(
            float(self.likeness[z, self._likest[z, rank]] - self.likeness[z, z]) for z, rank in zip(old, ranks, strict=True)
        )
        return lost + _COMMON * math.log(size)

    def likeness_by_group(self, composition: Mapping[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Space group (n,) of every donor of a reduced composition, and the likeness (n,) of its elements, exchanged in the best way, in nats.

        Donors of the composition's own formula are left out.
        """
        groups, scores = [], []
        for _, rows, _, found in self._scored(composition):
            groups += [self._sites[row].space_group for row in rows]
            scores += found.max(1).tolist()
        return np.array(groups, int), np.array(scores, float)

    def _scored(self, composition: Mapping[int, int]) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
        """Of each prototype of the stoichiometry: its donors' elements (d, k) and rows (d,), the ways (w, k) to place the composition's, likeness (d, w)."""
        formula = _formula(composition)
        for family in self._families.get(tuple(sorted(composition.values())), []):
            ways = np.array(list(_ways(composition, family.counts)))
            kept = np.array([self._formulas[row] != formula for row in family.rows])
            if len(ways) and kept.any():
                donors = family.elements[kept]
                yield donors, family.rows[kept], ways, self.likeness[donors[:, None], ways[None]].sum(-1)

    def _made(self, score: float, row: int, old: tuple[int, ...], new: tuple[int, ...], family: int) -> Candidate:
        own = self._sites[row]
        change = dict(zip(old, new, strict=True))
        counts = _composition(own)
        scale = ratio(self._volumes, {change[z]: n for z, n in counts.items()}, counts) ** (1 / 3)
        lattice = own.lattice_parameters * np.array([scale, scale, scale, 1, 1, 1])
        elements = np.array([change[int(z)] for z in own.elements])
        words = ", ".join(f"{SYMBOLS[a - 1]} → {SYMBOLS[b - 1]}" for a, b in change.items() if a != b)
        made = replace(own, elements=elements, lattice_parameters=lattice)
        least = float(min(self.likeness[a, b] for a, b in change.items()))
        return Candidate(made, self._ids[row], words, score, least, sum(a != b for a, b in change.items()), family)


def _ways(composition: Mapping[int, int], counts: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """The orders of the composition's elements that give each role its number of atoms."""
    fitting = (
        order for order in permutations(composition) if all(composition[z] == n for z, n in zip(order, counts, strict=True))
    )
    return islice(fitting, _MOST_WAYS)


def _counts(found: Prototype) -> tuple[int, ...]:
    group, form = found
    table = wyckoff_table()
    counts = [sum(table.multiplicity(group, letter) for letter in letters) for letters in form]
    divisor = math.gcd(*counts)
    return tuple(n // divisor for n in counts)


def _composition(sites: Sites) -> dict[int, int]:
    """{atomic number: atoms in the conventional cell}."""
    table = wyckoff_table()
    counts: dict[int, int] = defaultdict(int)
    for letter, z in zip(sites.wyckoff, sites.elements, strict=True):
        counts[int(z)] += table.multiplicity(sites.space_group, int(letter))
    return dict(counts)


def _primitive_atoms(sites: Sites) -> int:
    return sites.n_atoms // len(centring_vectors(sites.space_group))


def _formula(counts: Mapping[int, int]) -> str:
    divisor = math.gcd(*counts.values())
    return reduced_formula([z for z, n in counts.items() for _ in range(n // divisor)])


def _conventional_volume(sites: Sites) -> float:
    return float(abs(np.linalg.det(lattice_matrix(sites.lattice_parameters))))
