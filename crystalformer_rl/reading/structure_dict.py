"""Crystals of dictionaries in which others keep structures: pymatgen's, JARVIS's, OPTIMADE's, our own columns."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from crystalformer_rl.crystal.elements import ATOMIC_NUMBERS, composition
from crystalformer_rl.crystal.lattice import lattice_matrix
from crystalformer_rl.crystal.structure import Crystal
from crystalformer_rl.reading.cif_species import HYDROGEN, stated_formula
from crystalformer_rl.reading.found import NotRead
from crystalformer_rl.tables.status import Status

_FULL = 2e-3


def is_structure(item: Any) -> bool:
    """Whether a value is a dictionary of one of these layouts."""
    return isinstance(item, Mapping) and any(set(keys) <= item.keys() for keys, _ in _LAYOUTS)


def crystal_of(item: Mapping[str, Any]) -> Crystal:
    """The crystal of a dictionary of one of these layouts. Raises NotRead, naming the site where one is at fault."""
    layout = next(read for keys, read in _LAYOUTS if set(keys) <= item.keys())
    try:
        crystal = layout(item)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
        reason = str(error).strip().split("\n", 1)[0] or type(error).__name__
        raise NotRead(Status.UNREADABLE, f"a structure that is not whole ({type(error).__name__}: {reason})") from error
    if len(crystal.atomic_numbers) != len(crystal.frac_coords):
        words = f"{len(crystal.atomic_numbers)} atoms and {len(crystal.frac_coords)} positions"
        raise NotRead(Status.BAD_COORDINATES, words)
    if crystal.lattice.shape != (3, 3):
        raise NotRead(Status.BAD_LATTICE, "the lattice is not three vectors of three numbers")
    return crystal


def check_formula(crystal: Crystal, item: Mapping[str, Any]) -> None:
    """Raises NotRead where a formula that stands beside a structure is of another composition. One that is not understood says nothing."""
    for key in _FORMULAS:
        text = item.get(key)
        formula = stated_formula(text) if isinstance(text, str) else None
        if formula is not None and len(crystal) and formula.denies(composition(crystal.atomic_numbers)):
            raise NotRead(Status.FORMULA_MISMATCH, f"{key} is {text}, the structure is {crystal.formula}")


_FORMULAS = ("formula", "formula_pretty", "pretty_formula", "reduced_formula", "chemical_formula_reduced")


def atomic_number(species: Any) -> int | None:
    """Of `Fe`, `Fe3+` or `Fe2+,spin=5`; deuterium and tritium are hydrogen; None for what is no element."""
    match = re.fullmatch(r"([A-Z][a-z]?)(?:[+-]?\d*\.?\d*[+-]?)(?:,.*)?", species) if isinstance(species, str) else None
    return ATOMIC_NUMBERS.get(HYDROGEN.get(match[1], match[1])) if match else None


def one_element(species: Sequence[tuple[str, float]], site: str) -> int:
    """The atomic number of a site, given (symbol, occupancy) of each species on it; isotopes and charges of one element are one.

    Raises NotRead for a site that is partly occupied or shared, and for what is no element.
    """
    numbers = {atomic_number(name) for name, _ in species}
    words = ", ".join(f"{name} {occupancy:g}" for name, occupancy in species) or "nothing"
    if len(numbers) == 1 and None in numbers:
        raise NotRead(Status.UNKNOWN_ELEMENT, f"{site} is '{species[0][0]}', which is no element")
    if len(numbers) != 1 or abs(sum(occupancy for _, occupancy in species) - 1) > _FULL:
        raise NotRead(Status.DISORDERED, f"{site} is occupied by {words}")
    return next(z for z in numbers if z is not None)


def _of_pymatgen(item: Mapping[str, Any]) -> Crystal:
    lattice = item["lattice"]
    check_periodic(lattice.get("pbc"))
    if "matrix" in lattice:
        matrix = np.array(lattice["matrix"], float)
    else:
        matrix = lattice_matrix(np.array([lattice[k] for k in ("a", "b", "c", "alpha", "beta", "gamma")], float))
    sites = item["sites"]
    numbers = [
        one_element([(s["element"], float(s.get("occu", 1))) for s in site["species"]], _called(site, k))
        for k, site in enumerate(sites)
    ]
    if sites and "abc" not in sites[0]:
        return Crystal(np.array(numbers, int), _fractional([site["xyz"] for site in sites], matrix), matrix)
    return Crystal(np.array(numbers, int), np.array([site["abc"] for site in sites], float).reshape(-1, 3), matrix)


def check_periodic(pbc: Any) -> None:
    """Raises NotRead where directions of periodicity are given and one is not; None says nothing and passes."""
    if pbc is not None and not all(bool(direction) for direction in pbc):
        words = " ".join("T" if direction else "F" for direction in pbc)
        raise NotRead(
            Status.NOT_PERIODIC,
            f"periodic in {sum(map(bool, pbc))} of three directions (pbc {words}), so no bulk crystal; set pbc to T T T if it repeats in all",
        )


def _called(site: Mapping[str, Any], k: int) -> str:
    return f"site {k + 1}" if not site.get("label") else f"site {k + 1} ({site['label']})"


def _of_jarvis(item: Mapping[str, Any]) -> Crystal:
    lattice, coords = np.array(item["lattice_mat"], float), np.array(item["coords"], float).reshape(-1, 3)
    cartesian = item.get("cartesian", False) in (True, "true", "True", 1)
    numbers = [one_element([(str(name), 1.0)], f"site {k + 1}") for k, name in enumerate(item["elements"])]
    return Crystal(np.array(numbers, int), _fractional(coords, lattice) if cartesian else coords, lattice)


def _of_optimade(item: Mapping[str, Any]) -> Crystal:
    dimensions = item.get("dimension_types")
    check_periodic(None if dimensions is None else list(dimensions))
    features = set(item.get("structure_features") or [])
    if features & {"implicit_atoms", "site_attachments"}:
        raise NotRead(Status.FORMULA_MISMATCH, f"atoms without positions of their own ({', '.join(sorted(features))})")
    if features & {"disorder", "assemblies"} or item.get("assemblies"):
        raise NotRead(Status.DISORDERED, f"sites with alternatives ({', '.join(sorted(features)) or 'assemblies'})")
    species = {}
    for kind in item.get("species") or []:
        if any(n for n in kind.get("nattached") or ([1] if kind.get("attached") else [])):
            raise NotRead(Status.FORMULA_MISMATCH, f"atoms attached to {kind['name']} have no positions")
        species[kind["name"]] = list(zip(kind["chemical_symbols"], kind.get("concentration") or [1.0], strict=True))
    sites = item["species_at_sites"]
    if item.get("nsites") is not None and int(item["nsites"]) != len(sites):
        raise NotRead(Status.BAD_COORDINATES, f"nsites is {item['nsites']}, and {len(sites)} sites are listed")
    numbers = [one_element(species.get(name, [(str(name), 1.0)]), f"site {k + 1} ({name})") for k, name in enumerate(sites)]
    lattice = np.array([list(vector) for vector in item["lattice_vectors"]], float)
    positions = [list(point) for point in item["cartesian_site_positions"]]
    return Crystal(np.array(numbers, int), _fractional(positions, lattice), lattice)


def _of_columns(item: Mapping[str, Any]) -> Crystal:
    coords = np.concatenate([np.ravel(np.asarray(part, float)) for part in item["frac_coords"]]).reshape(-1, 3)
    lattice = np.concatenate([np.ravel(np.asarray(part, float)) for part in item["lattice"]]).reshape(3, 3)
    numbers = np.array([int(z) for z in item["atomic_numbers"]], int)
    return Crystal(numbers, coords, lattice)


def _fractional(positions: Any, lattice: np.ndarray) -> np.ndarray:
    if lattice.shape != (3, 3) or not np.isfinite(lattice).all() or abs(np.linalg.det(lattice)) < 1e-9:
        raise NotRead(Status.BAD_LATTICE, "the lattice vectors enclose no volume")
    return np.array(positions, float).reshape(-1, 3) @ np.linalg.inv(lattice)


_LAYOUTS = (
    (("lattice", "sites"), _of_pymatgen),
    (("lattice_mat", "coords", "elements"), _of_jarvis),
    (("lattice_vectors", "cartesian_site_positions", "species_at_sites"), _of_optimade),
    (("atomic_numbers", "frac_coords", "lattice"), _of_columns),
)
"""The keys that tell a layout, and how it is read."""
