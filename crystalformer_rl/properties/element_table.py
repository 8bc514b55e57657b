"""Numbers that characterize the elements, gathered once at training time and kept with the models.

The source is the periodic table of pymatgen; prediction reads the table from the
models' file, so that it needs no chemistry library and never meets other values.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

N_ELEMENTS = 94

PROPERTIES = (
    "electronegativity",
    "mendeleev_number",
    "group",
    "row",
    "mass",
    "radius",
    "ionic_radius",
    "van_der_waals_radius",
    "molar_volume",
    "melting_point",
    "ionization_energy",
    "electron_affinity",
    "s_electrons",
    "p_electrons",
    "d_electrons",
    "f_electrons",
    "p_holes",
    "d_holes",
    "s_level",
    "highest_level",
)
"""Columns of the table: Pauling scale; numbers; u; Å; cm³/mol; K; eV; counts of valence electrons and of
holes in an open p or d shell; orbital energies of the free atom in the local-density approximation, Hartree."""

MOST_STATES = 9


def element_table() -> np.ndarray:
    """(N_ELEMENTS, len(PROPERTIES)) float; a value that is not known is the mean of the elements of the same row and block."""
    from pymatgen.core import Element

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        elements = [Element.from_Z(z) for z in range(1, N_ELEMENTS + 1)]
        table = np.array([[_number(_property(element, name)) for name in PROPERTIES] for element in elements])
    kinds = np.array([(element.row, "spdf".index(element.block)) for element in elements])
    for column in table.T:
        known = np.isfinite(column)
        for i in np.flatnonzero(~known):
            alike = known & (kinds[:, 1] == kinds[i, 1]) & (abs(kinds[:, 0] - kinds[i, 0]) <= 1)
            column[i] = column[alike if alike.any() else known].mean()
    return table


def oxidation_states() -> np.ndarray:
    """(N_ELEMENTS, MOST_STATES) float: the common oxidation states of each element, NaN beyond their number; 0 where none."""
    from pymatgen.core import Element

    states = np.full((N_ELEMENTS, MOST_STATES), np.nan)
    for z in range(1, N_ELEMENTS + 1):
        common = sorted(Element.from_Z(z).common_oxidation_states) or [0]
        states[z - 1, : len(common)] = common[:MOST_STATES]
    return states


def _property(element: Any, name: str) -> Any:
    direct = {
        "electronegativity": "X",
        "mendeleev_number": "mendeleev_no",
        "group": "group",
        "row": "row",
        "mass": "atomic_mass",
        "radius": "atomic_radius",
        "ionic_radius": "average_ionic_radius",
        "van_der_waals_radius": "van_der_waals_radius",
        "molar_volume": "molar_volume",
        "melting_point": "melting_point",
        "ionization_energy": "ionization_energy",
        "electron_affinity": "electron_affinity",
    }
    if name in direct:
        value = getattr(element, direct[name])
        # an average ionic radius of zero says that no ion is known
        return None if name == "ionic_radius" and value == 0 else value
    if name.endswith("_level"):
        return _level(element.data.get("Atomic orbitals"), name)
    electrons = _valence_electrons(element)
    if name.endswith("_electrons"):
        return electrons[name[0]]
    capacity = {"p": 6, "d": 10}[name[0]]
    return capacity - electrons[name[0]] if electrons[name[0]] else 0


def _valence_electrons(element: Any) -> dict[str, int]:
    """Electrons outside the noble-gas core and outside closed d and f shells of lower shells than the valence p."""
    noble = max((z for z in (0, 2, 10, 18, 36, 54, 86) if z < element.Z), default=0)
    outside = element.Z - noble
    counts = dict.fromkeys("spdf", 0)
    for _, shell, number in reversed(_by_energy(element.full_electronic_structure)):
        if outside <= 0:
            break
        taken = min(number, outside)
        counts[shell] += taken
        outside -= taken
    if counts["p"]:
        counts["d"] = counts["f"] = 0
    elif counts["d"] and counts["f"] == 14:
        counts["f"] = 0
    return counts


def _by_energy(shells: list[tuple[int, str, int]]) -> list[tuple[int, str, int]]:
    return sorted(shells, key=lambda shell: (shell[0] + "spdf".index(shell[1]), shell[0]))


def _level(orbitals: dict[str, float] | None, name: str) -> float | None:
    """Energy of the outermost s orbital or of the highest occupied orbital."""
    if not orbitals:
        return None
    if name == "highest_level":
        return max(orbitals.values())
    shells = sorted(orbital for orbital in orbitals if orbital[1] == name[0])
    return orbitals[shells[-1]] if shells else None


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")
