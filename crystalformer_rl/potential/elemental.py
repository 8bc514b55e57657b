"""Energies of the elements in a potential: the zero from which a reference's formation energies count.

The lowest of what there is: the reference's own crystals of an element, and the element relaxed in structures that elements
of its kind have. A potential may have holes where atoms are packed as it was never shown; so nothing else is tried, each
structure starts in the minimum that is met first when it is squeezed together, and must not shrink far from there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from ase.data import covalent_radii

from crystalformer_rl.crystal.distances import shortest_distance
from crystalformer_rl.crystal.elements import symbol
from crystalformer_rl.crystal.structure import Crystal
from crystalformer_rl.crystal.tokens import Sites, decode, primitive
from crystalformer_rl.potential.protocol import Evaluation, Potential
from crystalformer_rl.potential.relax_settings import RelaxSettings
from crystalformer_rl.potential.relaxation import relax

_NEAREST, _NEAREST_NOBLE = 1.3, 2.2
"""Nearest distances from which squeezing starts, in units of twice the covalent radius."""

_SQUEEZE, _SQUEEZES = 0.955, 15
"""Factor from one distance to the next, and how many are tried."""

_MOST_SHRINKING = 0.88
"""The nearest distance after relaxation, at least, as a fraction of that before."""

_SETTINGS = RelaxSettings(fmax=0.02, smax=0.2, max_evaluations=60)

# Space group, axes as multiples of a (a, b, c, α, β, γ), and sites: Wyckoff letter, x, y, z.
_STRUCTURES: dict[str, tuple[int, tuple[float, ...], tuple[tuple[int, float, float, float], ...]]] = {
    "fcc": (225, (1, 1, 1, 90, 90, 90), ((1, 0, 0, 0),)),
    "bcc": (229, (1, 1, 1, 90, 90, 90), ((1, 0, 0, 0),)),
    "hcp": (194, (1, 1, 1.633, 90, 90, 120), ((3, 1 / 3, 2 / 3, 1 / 4),)),
    "dhcp (α-La)": (194, (1, 1, 3.266, 90, 90, 120), ((1, 0, 0, 0), (3, 1 / 3, 2 / 3, 1 / 4))),
    "diamond": (227, (1, 1, 1, 90, 90, 90), ((1, 1 / 8, 1 / 8, 1 / 8),)),
    "graphite": (194, (1, 1, 2.73, 90, 90, 120), ((2, 0, 0, 1 / 4), (3, 1 / 3, 2 / 3, 1 / 4))),
    "β-Sn": (141, (1, 1, 0.546, 90, 90, 90), ((1, 0, 3 / 4, 1 / 8),)),
    "body-centred tetragonal (In)": (139, (1, 1, 1.52, 90, 90, 90), ((1, 0, 0, 0),)),
    "α-As": (166, (1, 1, 2.805, 90, 90, 120), ((3, 0, 0, 0.227),)),
    "γ-Se": (152, (1, 1, 1.135, 90, 90, 120), ((1, 0.225, 0, 1 / 3),)),
    "α-U": (63, (1, 2.056, 1.737, 90, 90, 90), ((3, 0, 0.102, 1 / 4),)),
    "α-Ga": (64, (1, 1.695, 1.001, 90, 90, 90), ((6, 0, 0.155, 0.081),)),
    "Cl2": (64, (1, 0.718, 1.325, 90, 90, 90), ((6, 0, 0.117, 0.1),)),
    "hexagonal molecules (H2)": (194, (1, 1, 1.63, 90, 90, 120), ((6, 1 / 3, 2 / 3, 0.19),)),
    "α-B": (166, (1, 1, 2.562, 90, 90, 120), ((8, 0.119, -0.119, 0.892), (8, 0.197, -0.197, 0.024))),
}

_MOLECULES, _NOBLE = ("Cl2", "hexagonal molecules (H2)"), ("fcc", "hcp")
_OF_NONMETALS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(["H", "N", "O", "F", "Cl", "Br", "I", "At"], _MOLECULES),
    **dict.fromkeys(["He", "Ne", "Ar", "Kr", "Xe", "Rn"], _NOBLE),
    **dict.fromkeys(["S", "Se", "Te"], ("γ-Se",)),
    **dict.fromkeys(["P", "As", "Sb"], ("α-As",)),
    **dict.fromkeys(["Si", "Ge"], ("diamond", "β-Sn")),
    "C": ("graphite", "diamond"),
    "B": ("α-B",),
}
_OF_METALS = ("fcc", "bcc", "hcp", "dhcp (α-La)", "body-centred tetragonal (In)", "α-As", "diamond", "β-Sn", "α-U", "α-Ga")


@dataclass(frozen=True)
class Elemental:
    """The energy of an element, eV/atom, and what it was taken from: an entry's id or a structure's name."""

    energy: float
    source: str


def elemental_energies(
    potential: Potential, elements: Iterable[int], entries: Sequence[tuple[str, Sequence[int], float]]
) -> dict[int, Elemental]:
    """{atomic number: Elemental} of the elements that the potential can evaluate.

    entries: (id, atomic numbers, energy in eV/atom) of the reference in this very potential.
    """
    found: dict[int, Elemental] = {}

    def offer(z: int, candidate: Elemental | None) -> None:
        held = found.get(z)
        if candidate and (held is None or (candidate.energy, candidate.source) < (held.energy, held.source)):
            found[z] = candidate

    for name, numbers, energy in entries:
        if len(set(numbers)) == 1:
            offer(int(numbers[0]), Elemental(energy, name))
    for z in sorted(set(elements)):
        offer(z, lowest_structure(potential, z))
    return dict(sorted(found.items()))


def lowest_structure(potential: Potential, z: int) -> Elemental | None:
    """The element in structures of its kind, relaxed with the space group kept: the lowest; None where none has a minimum."""
    names = _OF_NONMETALS.get(symbol(z), _OF_METALS)
    starts = {name: _first_minimum(potential, name, z) for name in names}
    tried = {name: sites for name, sites in starts.items() if sites is not None}
    results = relax(potential, tried.values(), _SETTINGS)
    sound = [
        (float(result.energy), name)
        for (name, start), result in zip(tried.items(), results, strict=True)
        if result.energy is not None and result.crystal is not None and _near(start, result.crystal)
    ]
    if not sound:
        return None
    energy, name = min(sound)
    return Elemental(round(energy, 6), f"{name}, relaxed")


def _near(start: Sites, end: Crystal) -> bool:
    return shortest_distance(end) > _MOST_SHRINKING * shortest_distance(decode(start))


def _first_minimum(potential: Potential, name: str, z: int) -> Sites | None:
    """The structure at the first minimum of its energy when it is squeezed; None where there is none."""
    nearest = _NEAREST_NOBLE if _OF_NONMETALS.get(symbol(z)) is _NOBLE else _NEAREST
    widest = nearest * 2 * covalent_radii[z]
    starts = [_scaled(name, z, widest * _SQUEEZE**k) for k in range(_SQUEEZES)]
    outcomes = potential.evaluate([primitive(sites) for sites in starts], forces=False)
    energies = [o.energy if isinstance(o, Evaluation) else np.inf for o in outcomes]
    for k in range(1, len(starts) - 1):
        if np.isfinite(energies[k]) and energies[k] < energies[k - 1] and energies[k] <= energies[k + 1]:
            return starts[k]
    return None


def _scaled(name: str, z: int, nearest: float) -> Sites:
    """The structure made of element `z` with the nearest two atoms at this distance, Å."""
    group, axes, places = _STRUCTURES[name]
    letters, coords = np.array([p[0] for p in places]), np.array([p[1:] for p in places], float) % 1.0
    unit = np.array(axes, float) * np.where(np.arange(6) < 3, 10.0, 1.0)
    sites = Sites(group, letters, np.full(len(places), z), coords, unit)
    scale = np.where(np.arange(6) < 3, nearest / shortest_distance(decode(sites)), 1.0)
    return Sites(group, letters, np.full(len(places), z), coords, unit * scale)


def recorded(energies: Mapping[int, Elemental]) -> dict[str, dict[str, float] | dict[str, str]]:
    """What a reference's provenance says of them: energies by symbol, and what each was taken from."""
    return {
        "elemental_energies": {symbol(z): round(found.energy, 6) for z, found in energies.items()},
        "elemental_energies_from": {symbol(z): found.source for z, found in energies.items()},
    }
