"""Hold a potential to the laws of physics, before a run trusts it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from crystalformer_rl.crystal.elements import ATOMIC_NUMBERS
from crystalformer_rl.crystal.structure import Crystal
from crystalformer_rl.crystal.tokens import Sites, primitive
from crystalformer_rl.errors import InputError
from crystalformer_rl.potential.contract import measure_laws
from crystalformer_rl.potential.free import rattled
from crystalformer_rl.potential.protocol import Potential

_MOST = 4
"""Crystals that the laws are measured on."""

# Space group, lattice parameters (Å, degrees), and sites: Wyckoff letter, element, x, y, z. Small cells of common elements.
_TEXTBOOK: tuple[tuple[int, tuple[float, ...], tuple[tuple[int, str, float, float, float], ...]], ...] = (
    (225, (4.21, 4.21, 4.21, 90, 90, 90), ((1, "Mg", 0, 0, 0), (2, "O", 0.5, 0.5, 0.5))),
    (227, (5.43, 5.43, 5.43, 90, 90, 90), ((1, "Si", 0.125, 0.125, 0.125),)),
    (225, (4.05, 4.05, 4.05, 90, 90, 90), ((1, "Al", 0, 0, 0),)),
    (221, (3.91, 3.91, 3.91, 90, 90, 90), ((1, "Sr", 0, 0, 0), (2, "Ti", 0.5, 0.5, 0.5), (3, "O", 0, 0.5, 0.5))),
    (136, (4.59, 4.59, 2.96, 90, 90, 90), ((1, "Ti", 0, 0, 0), (6, "O", 0.305, 0.305, 0))),
    (225, (5.64, 5.64, 5.64, 90, 90, 90), ((1, "Na", 0, 0, 0), (2, "Cl", 0.5, 0.5, 0.5))),
    (216, (5.65, 5.65, 5.65, 90, 90, 90), ((1, "Ga", 0, 0, 0), (3, "As", 0.25, 0.25, 0.25))),
    (225, (3.61, 3.61, 3.61, 90, 90, 90), ((1, "Cu", 0, 0, 0),)),
)


def check_potential(potential: Potential) -> dict[str, Any]:
    """Measure how well `potential` keeps the laws on textbook crystals whose atoms and cell are moved a little.

    The energy of a supercell is that of its cells; forces and stress are the derivatives of the energy; neither rotation
    nor the order of atoms nor the batch changes anything. Returns the potential's identity and the largest deviation from
    each law (eV/atom, eV/Å, eV/Å³). Raises InputError where a law is broken, or no crystal can be evaluated.
    """
    moved = [rattled(crystal) for crystal in textbook_crystals()]
    sound = [c for c, o in zip(moved, potential.evaluate(moved), strict=True) if not isinstance(o, str)]
    if not sound:
        raise InputError(
            f"the potential {potential.identity.name} can evaluate none of the crystals that it is checked on, which are of "
            "Mg, O, Si, Al, Sr, Ti, Na, Cl, Ga, As and Cu; use another."
        )
    try:
        deviations = measure_laws(potential, sound[:_MOST])
    except ValueError as error:  # a changed crystal that the potential refuses, such as a supercell that is too large
        raise InputError(f"the potential {potential.identity.name} cannot be checked: {error}; use another.") from error
    if broken := deviations.broken():
        found = ", ".join(f"{law} by {value:.2g}" for law, value in broken.items())
        raise InputError(
            f"the potential {potential.identity.name} breaks laws that every potential must keep ({found}; eV/atom, eV/Å or "
            "eV/Å³); relaxation and hull would be wrong with it: use another, or mend it."
        )
    return {"potential": potential.identity.as_record(), "crystals": min(len(sound), _MOST), "laws": asdict(deviations)}


def textbook_crystals() -> list[Crystal]:
    """Primitive cells of MgO, Si, Al, SrTiO3, TiO2, NaCl, GaAs and Cu near their measured lattice constants."""
    crystals = []
    for group, lattice, sites in _TEXTBOOK:
        letters = np.array([site[0] for site in sites])
        elements = np.array([ATOMIC_NUMBERS[site[1]] for site in sites])
        coords = np.array([site[2:] for site in sites], float)
        crystals.append(primitive(Sites(group, letters, elements, coords, np.array(lattice, float))))
    return crystals
