"""The convex hull of formation energies of a reference, and the distance of any crystal to it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from crystalformer_rl.crystal.elements import SYMBOLS, composition, reduced_composition, reduced_formula
from crystalformer_rl.hull.linear_program import cheapest_mixture
from crystalformer_rl.reference.bias import Bias
from crystalformer_rl.reference.competing import Entry, Phase, competing
from crystalformer_rl.reference.energies import ReferenceEnergies, read_energies
from crystalformer_rl.reference.formation_energy import by_number, formation_energy
from crystalformer_rl.reference.identity import PotentialIdentity
from crystalformer_rl.reference.phases import Phases

_LEAST_AMOUNT = 1e-8  # an amount of a decomposition product below this is rounding
_CACHED_SYSTEMS = 4096


class NoReferenceEnergyError(ValueError):
    """An element has no elemental reference energy, so that no formation energy exists."""


@dataclass(frozen=True)
class HullDistance:
    """Where a crystal stands against the reference.

    e_above_hull: eV/atom, negative below the hull; decomposition: reference id → atom fraction of the competing phases, largest
    first, sum 1; energy_from: reference id → where the phase's energy comes from; support: reference compositions of at least
    two elements within the chemical system; std: standard deviation of the distance against density-functional theory, eV/atom,
    NaN where the potential's bias is not known.
    """

    e_above_hull: float
    decomposition: dict[str, float]
    energy_from: dict[str, str]
    support: int
    std: float


@dataclass(frozen=True)
class _Competitors:
    """All phases that may compete within a set of k elements, the elements first: fractions (k, n), energies (n,)."""

    entries: list[Entry]
    fractions: np.ndarray
    energies: np.ndarray
    support: int


class Hull:
    """Convex hull of the formation energies of a reference.

    Phases are indexed by their chemical system, so that a query touches only the subsystems of its own elements; which energy
    of a composition competes is decided there (`reference.competing`); the linear program of each query is exact. An element's
    corner of the hull may lie above zero, where the potential puts the element's own ground state there.
    """

    def __init__(
        self,
        phases: Phases,
        elemental_energies: Mapping[str, float],
        identity: PotentialIdentity | None = None,
        bias: Bias | None = None,
    ) -> None:
        """`elemental_energies`: {symbol: eV/atom} from which formation energies count; `identity`: of the potential whose
        energies they are; `bias`: of that potential, by which DFT energies compete.
        """
        self.identity = identity
        self.bias = bias
        self.elemental_energies = by_number(elemental_energies)
        self.phases = phases
        self._formulas: dict[str, str] = {}
        self._entries: dict[tuple[int, ...], list[Entry]] = {}
        self._cache: dict[tuple[int, ...], _Competitors] = {}

    @classmethod
    def of(cls, energies: ReferenceEnergies) -> Hull:
        """The hull of a reference that was read."""
        return cls(energies.phases, energies.elemental_energies, energies.identity, energies.bias)

    @classmethod
    def of_phases(
        cls,
        phases: Iterable[Phase],
        elemental_energies: Mapping[str, float],
        identity: PotentialIdentity | None = None,
        bias: Bias | None = None,
    ) -> Hull:
        """The hull of phases that were not read from a file."""
        return cls(Phases.of_rows(phases, by_number(elemental_energies)), elemental_energies, identity, bias)

    @classmethod
    def from_reference(cls, path: str | Path) -> Hull:
        """The hull of a REFERENCE file. Raises InputError as `reference.energies.read_energies` does."""
        return cls.of(read_energies(path))

    @property
    def n_entries(self) -> int:
        """Phases of the reference."""
        return len(self.phases)

    def missing_elements(self, atomic_numbers: Iterable[int]) -> list[str]:
        """Symbols of the elements that have no reference energy."""
        return [SYMBOLS[z - 1] for z in sorted({int(z) for z in atomic_numbers}) if z not in self.elemental_energies]

    def formula(self, entry_id: str) -> str:
        """Reduced formula of a phase. Raises KeyError for an unknown one."""
        if entry_id not in self._formulas:
            self._formulas[entry_id] = _formula(self.phases.composition(entry_id))
        return self._formulas[entry_id]

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
        pairs = [(competitors.entries[j], float(x)) for j, x in zip(basis, amounts, strict=True) if x > _LEAST_AMOUNT]
        pairs.sort(key=lambda pair: (-pair[1], pair[0].id))
        for entry, _ in pairs:
            if entry.id not in self._formulas:
                self._formulas[entry.id] = _formula(entry.composition)
        return HullDistance(
            e_above_hull,
            {entry.id: amount for entry, amount in pairs},
            {entry.id: str(entry.energy_from) for entry, _ in pairs},
            competitors.support,
            math.nan if self.bias is None else self.bias.std(counts, e_above_hull),
        )

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
        entries = self.inside(elements)
        column = {z: i for i, z in enumerate(elements)}
        fractions = np.zeros((len(elements), len(entries)))
        for j, entry in enumerate(entries):
            atoms = sum(entry.composition.values())
            for z, n in entry.composition.items():
                fractions[column[z], j] = n / atoms
        energies = np.array([entry.formation_energy for entry in entries])
        # a compound above the tie-line of the elements is never on the hull
        below = energies < energies[: len(elements)] @ fractions
        below[: len(elements)] = True
        kept = [entry for entry, low in zip(entries, below.tolist(), strict=True) if low]
        return _Competitors(kept, fractions[:, below], energies[below], len(entries) - len(elements))

    def inside(self, elements: Iterable[int]) -> list[Entry]:
        """What competes among these elements, one entry a composition, the elements themselves first."""
        elements = tuple(sorted(set(elements)))
        return [
            entry for subset in (*((z,) for z in elements), *self._subsystems(elements)) for entry in self.entries(subset)
        ]

    def entries(self, elements: tuple[int, ...]) -> list[Entry]:
        """What competes of exactly these elements (rising atomic numbers), one entry a composition."""
        if elements not in self._entries:
            by_counts: dict[tuple[int, ...], list[Phase]] = {}
            for phase in self.phases.of(elements):
                by_counts.setdefault(_reduced(phase.composition, elements), []).append(phase)
            if len(elements) == 1:
                by_counts.setdefault((1,), [])
            chosen = (
                competing(dict(zip(elements, counts, strict=True)), phases, self.bias)
                for counts, phases in by_counts.items()
            )
            self._entries[elements] = [entry for entry in chosen if entry is not None]
        return self._entries[elements]

    def _subsystems(self, elements: tuple[int, ...]) -> list[tuple[int, ...]]:
        """The systems of two or more of the elements, smaller and lighter ones first."""
        if 2 ** len(elements) <= self.phases.n_systems:
            subsets = (subset for size in range(2, len(elements) + 1) for subset in combinations(elements, size))
            return [subset for subset in subsets if self.phases.has(subset)]
        inside = set(elements)
        found = [key for key in self.phases.systems if len(key) > 1 and inside.issuperset(key)]
        return sorted(found, key=lambda key: (len(key), key))


def _reduced(counts: Mapping[int, int], elements: tuple[int, ...]) -> tuple[int, ...]:
    divisor = math.gcd(*counts.values())
    return tuple(counts[z] // divisor for z in elements)


def _formula(counts: Mapping[int, int]) -> str:
    return reduced_formula([z for z, n in counts.items() for _ in range(n)])
