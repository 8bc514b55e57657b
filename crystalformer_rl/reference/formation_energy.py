"""Formation energy: what a compound gains over its elements. The one place where it is computed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from crystalformer_rl.crystal.elements import ATOMIC_NUMBERS, SYMBOLS

LARGEST_FORMATION_ENERGY = 5.0
"""eV/atom, of either sign; no compound forms with as much. An energy beyond it is on another scale, or of a whole cell."""


def is_plausible(formation_energy: float) -> bool:
    """Whether a formation energy, eV/atom, can be that of a compound."""
    return abs(formation_energy) <= LARGEST_FORMATION_ENERGY


def formation_energy(counts: Mapping[int, int], energy: float, elemental: Mapping[int, float]) -> float | None:
    """`energy` less the composition's mean of the elemental energies, all eV/atom; None where an element has none.

    counts: {atomic number: atoms}; elemental: {atomic number: eV/atom}.
    """
    if not counts.keys() <= elemental.keys():
        return None
    return float(energy) - sum(n * elemental[z] for z, n in counts.items()) / sum(counts.values())


def by_number(energies: Mapping[str, float]) -> dict[int, float]:
    """{symbol: eV/atom} as {atomic number: eV/atom}."""
    return {ATOMIC_NUMBERS[symbol]: float(energy) for symbol, energy in energies.items()}


def lowest_elemental_energies(entries: Iterable[tuple[Mapping[int, int] | None, float | None]]) -> dict[str, float]:
    """{symbol: eV/atom} of the lowest elemental entry of each element, from (composition, energy in eV/atom) pairs."""
    lowest: dict[str, float] = {}
    for counts, energy in entries:
        if counts is not None and energy is not None and len(counts) == 1:
            symbol = SYMBOLS[next(iter(counts)) - 1]
            lowest[symbol] = min(energy, lowest.get(symbol, energy))
    return lowest
