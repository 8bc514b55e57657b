"""The convex hull of formation energies of a reference, and the distance of any crystal to it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

import numpy as np

from crystalformer_rl.crystal.elements import SYMBOLS, composition, reduced_composition, reduced_formula
from crystalformer_rl.hull.linear_program import cheapest_mixture
from crystalformer_rl.hull.stability import is_suspect
from crystalformer_rl.reference.energies import Entry, read_energies
from crystalformer_rl.reference.formation_energy import by_number, formation_energy
from crystalformer_rl.reference.identity import PotentialIdentity

_LEAST_AMOUNT = 1e-8  # an amount of a decomposition product below this is rounding
_CACHED_SYSTEMS = 4096


class NoReferenceEnergyError(ValueError):
    """An element has no elemental reference energy, so that no formation energy exists."""


@dataclass(frozen=True)
class HullDistance:
    """Where a crystal stands against the reference.

    e_above_hull: eV/atom, negative below the hull; decomposition: reference id →
    atom fraction of the competing phases, largest first, sum 1; support: reference
    compositions of at least two elements within the chemical system; suspect:
    see `hull.stability`.
    """

    e_above_hull: float
    decomposition: dict[str, float]
    support: int
    suspect: bool


@dataclass
class _System:
    """The lowest entry of each composition of one set of elements."""

    elements: tuple[int, ...]
    entries: dict[tuple[int, ...], Entry] = field(default_factory=dict)

    def add(self, entry: Entry, counts: tuple[int, ...]) -> None:
        held = self.entries.get(counts)
        # equal energies: the smaller id, so that the order of the rows does not matter
        if held is None or (entry.formation_energy, entry.id) < (held.formation_energy, held.id):
            self.entries[counts] = entry


@dataclass(frozen=True)
class _Competitors:
    """All phases that may compete within a set of k elements, the elements first: fractions (k, n), energies (n,)."""

    entries: list[Entry]
    fractions: np.ndarray
    energies: np.ndarray
    support: int


class Hull:
    """Convex hull of the formation energies of a reference.

    Entries are indexed by their set of elements, so that a query touches only the
    subsystems of its own elements; the linear program of each query is exact. Of
    several entries of one composition the lowest competes. The elemental reference
    phases compete at zero under the ids `elemental-Na`.
    """

    def __init__(
        self, entries: Iterable[Entry], elemental_energies: Mapping[str, float], identity: PotentialIdentity | None = None
    ) -> None:
        """`elemental_energies`: {symbol: eV/atom} of the potential whose `identity` is given."""
        self.identity = identity
        self.elemental_energies = by_number(elemental_energies)
        self.n_entries = 0
        self._compositions: dict[str, Mapping[int, int]] = {}
        self._systems: dict[tuple[int, ...], _System] = {}
        self._cache: dict[tuple[int, ...], _Competitors] = {}
        for z in self.elemental_energies:
            self._add(Entry(f"elemental-{SYMBOLS[z - 1]}", {z: 1}, 0.0))
        for entry in entries:
            self.n_entries += 1
            self._add(entry)

    @classmethod
    def from_reference(cls, path: str | Path) -> Hull:
        """The hull of a REFERENCE file: every row of status ok that has an energy competes.

        Raises InputError where the file lacks the potential's identity or the elemental energies, or where energy and
        formation energy of a row are on different scales.
        """
        found = read_energies(path)
        return cls(found.entries, found.elemental_energies, found.identity)

    def _add(self, entry: Entry) -> None:
        elements = tuple(sorted(entry.composition))
        divisor = math.gcd(*entry.composition.values())
        counts = tuple(entry.composition[z] // divisor for z in elements)
        self._systems.setdefault(elements, _System(elements)).add(entry, counts)
        self._compositions[entry.id] = entry.composition

    def missing_elements(self, atomic_numbers: Iterable[int]) -> list[str]:
        """Symbols of the elements that have no reference energy."""
        return [SYMBOLS[z - 1] for z in sorted({int(z) for z in atomic_numbers}) if z not in self.elemental_energies]

    def formula(self, entry_id: str) -> str:
        """Reduced formula of an entry that a decomposition names."""
        return reduced_formula([z for z, n in self._compositions[entry_id].items() for _ in range(n)])

    def formation_energy(self, atomic_numbers: Sequence[int] | np.ndarray, energy: float) -> float:
        """Energy (eV/atom) less the composition average of the elemental reference energies.

        Raises NoReferenceEnergyError where an element has none.
        """
        found = formation_energy(composition(atomic_numbers), energy, self.elemental_energies)
        if found is None:
            self._require_elements(atomic_numbers)
        assert found is not None
        return found

    def distance(self, atomic_numbers: Sequence[int] | np.ndarray, formation_energy: float) -> HullDistance:
        """Distance (eV/atom) of a crystal of the given formation energy (eV/atom) to the hull.

        An entry of the crystal's own composition competes like any other, so that a
        crystal better than the reference stands below zero. Raises
        NoReferenceEnergyError where an element has no reference energy.
        """
        self._require_elements(atomic_numbers)
        counts = reduced_composition(atomic_numbers)
        competitors = self._competitors(tuple(counts))
        atoms = np.array(list(counts.values()), float)
        basis, amounts = cheapest_mixture(competitors.fractions, competitors.energies, atoms / atoms.sum())
        e_above_hull = float(formation_energy) - float(competitors.energies[basis] @ amounts)
        products = {competitors.entries[j].id: float(x) for j, x in zip(basis, amounts, strict=True) if x > _LEAST_AMOUNT}
        decomposition = dict(sorted(products.items(), key=lambda item: (-item[1], item[0])))
        return HullDistance(e_above_hull, decomposition, competitors.support, is_suspect(e_above_hull))

    def _require_elements(self, atomic_numbers: Sequence[int] | np.ndarray) -> None:
        if missing := self.missing_elements(atomic_numbers):
            raise NoReferenceEnergyError(f"no elemental reference energy for {', '.join(missing)}")

    def _competitors(self, elements: tuple[int, ...]) -> _Competitors:
        """Phases of all subsystems of `elements`, kept for the next crystal of the same elements."""
        if elements not in self._cache:
            if len(self._cache) >= _CACHED_SYSTEMS:
                self._cache.clear()
            self._cache[elements] = self._gather(elements)
        return self._cache[elements]

    def _gather(self, elements: tuple[int, ...]) -> _Competitors:
        entries = [next(iter(self._systems[(z,)].entries.values())) for z in elements]
        support = 0
        for system in self._subsystems(elements):
            support += len(system.entries)
            # a compound above the tie-line of the elements is never on the hull
            entries += [entry for entry in system.entries.values() if entry.formation_energy < 0]
        column = {z: i for i, z in enumerate(elements)}
        fractions = np.zeros((len(elements), len(entries)))
        for j, entry in enumerate(entries):
            atoms = sum(entry.composition.values())
            for z, n in entry.composition.items():
                fractions[column[z], j] = n / atoms
        return _Competitors(entries, fractions, np.array([entry.formation_energy for entry in entries]), support)

    def _subsystems(self, elements: tuple[int, ...]) -> list[_System]:
        """The systems of two or more of the elements, smaller and lighter ones first."""
        if 2 ** len(elements) <= len(self._systems):
            subsets = (subset for size in range(2, len(elements) + 1) for subset in combinations(elements, size))
            return [self._systems[subset] for subset in subsets if subset in self._systems]
        inside = set(elements)
        found = [key for key in self._systems if len(key) > 1 and inside.issuperset(key)]
        return [self._systems[key] for key in sorted(found, key=lambda key: (len(key), key))]
