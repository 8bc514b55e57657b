"""Computed entries made on the spot, by pymatgen itself: structures of known oxide types, and what a file of them holds."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from pymatgen.core import Lattice, Structure
from pymatgen.entries.computed_entries import ComputedEntry, ComputedStructureEntry

from crystalformer_rl.crystal.structure import Crystal

THIRDS = [1 / 3, 2 / 3]


@cache
def structures() -> dict[str, Structure]:
    """Oxides, a peroxide, a superoxide, an ozonide (made up), halides, a phosphate, a sulfide and a sulfate (made up)."""
    spacegroup = Structure.from_spacegroup
    tetrahedron = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) * 1.48 / 3**0.5
    return {
        "Li2O": spacegroup("Fm-3m", Lattice.cubic(4.62), ["Li", "O"], [[0.25] * 3, [0] * 3]),
        "Li2O2": spacegroup(
            "P6_3/mmc", Lattice.hexagonal(3.16, 7.69), ["Li", "Li", "O"], [[0, 0, 0], [*THIRDS, 0.75], [*THIRDS, 0.149]]
        ),
        "KO2": spacegroup("I4/mmm", Lattice.tetragonal(4.03, 6.7), ["K", "O"], [[0, 0, 0], [0, 0, 0.4045]]),
        "KO3": Structure(
            Lattice.orthorhombic(4.2, 4.6, 5.0),
            ["K", "O", "O", "O"],
            [[0, 0, 0], [2.1, 2.3, 2.5], [2.1, 3.3, 3.33], [2.1, 1.3, 3.33]],
            coords_are_cartesian=True,
        ),
        "Fe2O3": spacegroup("R-3c", Lattice.hexagonal(5.03, 13.75), ["Fe", "O"], [[0, 0, 0.355], [0.306, 0, 0.25]]),
        "NaCl": spacegroup("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0] * 3, [0.5] * 3]),
        "LiFePO4": spacegroup(
            "Pnma",
            Lattice.orthorhombic(10.33, 6.01, 4.69),
            ["Li", "Fe", "P", "O", "O", "O"],
            [[0, 0, 0], [0.2822, 0.25, 0.9747], [0.0948, 0.25, 0.4182],
             [0.0967, 0.25, 0.7428], [0.4571, 0.25, 0.2060], [0.1655, 0.0465, 0.2848]],
        ),
        "MoS2": spacegroup("P6_3/mmc", Lattice.hexagonal(3.16, 12.3), ["Mo", "S"], [[*THIRDS, 0.25], [*THIRDS, 0.621]]),
        "MgSO4": Structure(
            Lattice.cubic(5.0),
            ["Mg", "S", "O", "O", "O", "O"],
            [[2.5] * 3, [0] * 3, *tetrahedron],
            coords_are_cartesian=True,
        ),
        "Na": spacegroup("Im-3m", Lattice.cubic(4.2), ["Na"], [[0] * 3]),
        "FeF3": spacegroup("Pm-3m", Lattice.cubic(3.95), ["Fe", "F"], [[0] * 3, [0.5, 0, 0]]),
    }  # fmt: skip


HUBBARDS = {"Fe2O3": {"Fe": 5.3}, "LiFePO4": {"Fe": 5.3}, "FeF3": {"Fe": 5.3}}
"""What the Materials Project's input set uses for those of `structures` that get a Hubbard U."""


def parameters(name: str) -> dict[str, Any]:
    """As the Materials Project writes them, run type and Hubbard U."""
    hubbards = HUBBARDS.get(name, {})
    return {"run_type": "GGA+U" if hubbards else "GGA", "is_hubbard": bool(hubbards), "hubbards": hubbards}


def structure_entry(name: str, energy: float = -5.0, **more: Any) -> ComputedStructureEntry:
    """An entry of a structure of `structures`; energy in eV/atom."""
    structure = structures()[name]
    return ComputedStructureEntry(
        structure, energy * len(structure), **({"parameters": parameters(name), "entry_id": f"mp-{name}"} | more)
    )


def composition_entry(formula: str, energy: float, **more: Any) -> ComputedEntry:
    """An entry without a structure; energy in eV/atom."""
    entry = ComputedEntry(formula, 0.0, **({"parameters": {"run_type": "GGA"}, "entry_id": f"c-{formula}"} | more))
    return ComputedEntry.from_dict(entry.as_dict() | {"energy": energy * entry.composition.num_atoms})


def crystal_of(structure: Structure) -> Crystal:
    """Ours of pymatgen's."""
    return Crystal(np.array(structure.atomic_numbers), structure.frac_coords, structure.lattice.matrix)
