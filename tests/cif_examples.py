"""CIFs of crystals whose right reading is known: written in any setting of any space group, expanded by spglib's operations."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache

import gemmi
import numpy as np
import spglib
from pymatgen.core import Lattice

from crystalformer_rl.crystal.lattice import lattice_matrix, lattice_parameters
from crystalformer_rl.crystal.structure import Crystal
from crystalformer_rl.reading.cif_crystals import crystals_of_cif

ELEMENTS = ("Na", "Cl", "Ti", "O", "Sr", "Fe", "S", "Co")
N_SETTINGS = 530
SYMMETRIES = ("operations", "hall", "symbol", "symbol_without_suffix", "number", "none")


@cache
def operations(hall: int) -> tuple[np.ndarray, np.ndarray]:
    """Rotations and translations of one of spglib's 530 settings."""
    found = spglib.get_symmetry_from_database(hall)
    return found["rotations"].astype(float), found["translations"]


@cache
def names(hall: int) -> tuple[int, str, str, str]:
    """Number of the space group, Hall symbol, Hermann-Mauguin symbol of the setting, and its suffix (1, 2, H, R or nothing)."""
    kind = spglib.get_spacegroup_type(hall)
    own = set(_keys(*operations(hall)))
    for setting in gemmi.spacegroup_table():
        if setting.number != kind.number:
            continue
        listed = list(setting.operations())
        rotations = np.array([op.rot for op in listed], float) / 24
        if set(_keys(rotations, np.array([op.tran for op in listed], float) / 24)) == own:
            return kind.number, kind.hall_symbol, setting.hm, setting.ext.strip("\0")
    return kind.number, kind.hall_symbol, "", ""


def _keys(rotations: np.ndarray, translations: np.ndarray) -> list[tuple[int, ...]]:
    whole = np.rint(translations * 24).astype(int) % 24
    return [(*r.astype(int).ravel().tolist(), *t.tolist()) for r, t in zip(np.rint(rotations), whole, strict=True)]


@dataclass(frozen=True)
class Example:
    """A crystal by its asymmetric unit: cell (3, 3), points (n, 3), elements, in setting `hall`; and all of its atoms."""

    hall: int
    lattice: np.ndarray
    points: np.ndarray
    elements: list[str]
    crystal: Crystal

    @property
    def multiplicities(self) -> list[int]:
        return [len(orbit(self.hall, point)) for point in self.points]


def orbit(hall: int, point: np.ndarray) -> np.ndarray:
    """All images of a point, each once."""
    rotations, translations = operations(hall)
    images = (rotations @ point + translations) % 1.0
    kept: list[np.ndarray] = []
    for image in images:
        delta = np.array(kept) - image if kept else np.full((1, 3), 0.5)
        if not (np.abs(delta - np.rint(delta)) < 1e-6).all(1).any():
            kept.append(image)
    return np.array(kept)


def example(hall: int, n_sites: int, special: bool, seed: int) -> Example | None:
    """A random crystal of a setting; None where its atoms come too close."""
    random = np.random.default_rng(seed)
    rotations, translations = operations(hall)
    basis = random.normal(size=(3, 3)) + 2.5 * np.eye(3)
    metric = sum(r.T @ (basis @ basis.T) @ r for r in rotations) / len(rotations)  # what the group leaves of any cell
    lattice = np.linalg.cholesky(metric)
    lattice *= (14.0 * len(rotations) * n_sites / abs(np.linalg.det(lattice))) ** (1 / 3)
    points = []
    for _ in range(n_sites):
        point = random.random(3)
        if special:  # on the fixed points of some operation, where it has any
            k = int(random.integers(len(rotations)))
            point = _fixed_by(rotations[k], translations[k], point)
        points.append(point % 1.0)
    elements = [str(name) for name in random.choice(ELEMENTS, n_sites, replace=False)]
    orbits = [orbit(hall, point) for point in points]
    numbers = np.concatenate(
        [np.full(len(o), gemmi.Element(e).atomic_number) for o, e in zip(orbits, elements, strict=True)]
    )
    whole = Crystal(numbers, np.concatenate(orbits), lattice)
    return None if len(whole) > 400 or _closest(whole) < 0.9 else Example(hall, lattice, np.array(points), elements, whole)


def _fixed_by(rotation: np.ndarray, translation: np.ndarray, point: np.ndarray) -> np.ndarray:
    """The mean of a point and its images under the powers of an operation, whole translations taken off: its axis or plane."""
    images, image = [point], point
    for _ in range(6):
        image = rotation @ image + translation
        image = image - np.rint(image - point)
        if np.abs(image - point).max() < 1e-9:
            break
        images.append(image)
    mean = np.mean(images, axis=0)
    moved = rotation @ mean + translation - mean
    return mean if np.abs(moved - np.rint(moved)).max() < 1e-9 else point


def _closest(crystal: Crystal) -> float:
    """The shortest distance, Å, of two atoms or of an atom and its own image, by the reduced cell: a skew one's is not among its neighbours."""
    lattice = Lattice(crystal.lattice)
    distances = lattice.get_all_distances(crystal.frac_coords, crystal.frac_coords)
    np.fill_diagonal(distances, min(lattice.get_lll_reduced_lattice().abc))
    return float(distances.min())


@dataclass(frozen=True)
class Writing:
    """How a CIF is written. symmetry: operations, hall, symbol, symbol_without_suffix, number or none.

    formula, units: none, right or wrong. occupancy: of the first site, None for no column.
    """

    symmetry: str = "operations"
    digits: int = 5
    formula: str = "none"
    units: str = "none"
    occupancy: float | None = None
    multiplicities: bool = False
    capitals: bool = False
    dots: bool = False
    decimals: bool = False
    uncertainties: bool = False


def cif(example: Example, how: Writing) -> str:
    """The text of a CIF."""
    number, hall, symbol, suffix = names(example.hall)
    cell = lattice_parameters(example.lattice)
    labels = ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma")
    error = "(3)" if how.uncertainties else ""
    lines = ["data_example", *(f"_cell_{name} {value:.6f}{error}" for name, value in zip(labels, cell, strict=True))]
    if how.symmetry == "hall":
        lines.append(f"_space_group_name_Hall '{hall}'")
    elif how.symmetry == "symbol":
        lines.append(f"_space_group_name_H-M_alt '{symbol}{':' + suffix if suffix else ''}'")
    elif how.symmetry == "symbol_without_suffix":
        lines.append(f"_symmetry_space_group_name_H-M '{symbol}'")
    elif how.symmetry == "number":
        lines.append(f"_symmetry_Int_Tables_number {number}")
    elif how.symmetry == "operations":
        lines += ["loop_", "_space_group_symop_operation_xyz"]
        lines += [f"'{text}'" for text in written_operations(example.hall, how.decimals)]
    lines += _statements(example, how)
    lines += ["loop_", "_atom_site_label", "_atom_site_type_symbol", "_atom_site_fract_x", "_atom_site_fract_y",
              "_atom_site_fract_z"]  # fmt: skip
    lines += ["_atom_site_occupancy"] if how.occupancy is not None else []
    lines += ["_atom_site_site_symmetry_multiplicity"] if how.multiplicities else []
    for k, (point, element) in enumerate(zip(example.points, example.elements, strict=True)):
        coordinates = " ".join(f"{x:.{how.digits}f}{error}" for x in point)
        occupancy = "" if how.occupancy is None else f" {how.occupancy if k == 0 else 1.0:.3f}"
        multiplicity = f" {example.multiplicities[k]}" if how.multiplicities else ""
        lines.append(f"{element}{k + 1} {element} {coordinates}{occupancy}{multiplicity}")
    text = "\n".join(lines) + "\n"
    if how.dots:
        text = text.replace("_cell_", "_cell.").replace("_atom_site_", "_atom_site.").replace("_symop_op", "_symop.op")
    if how.capitals:
        text = "\n".join(
            line.upper() if line[:1] in ("_", "d", "l") and " " not in line else line for line in text.split("\n")
        )
    return text


def _statements(example: Example, how: Writing) -> list[str]:
    counts = dict.fromkeys(example.elements, 0)
    for element, n in zip(example.elements, example.multiplicities, strict=True):
        counts[element] += n
    divisor = int(np.gcd.reduce(list(counts.values())))
    lines = []
    if how.formula != "none":
        stated = {name: n // divisor for name, n in counts.items()}
        if how.formula == "wrong":
            stated["H"] = 1  # as where hydrogens were not located
        lines.append(f"_chemical_formula_sum '{' '.join(f'{name}{n}' for name, n in stated.items())}'")
    if how.units != "none":
        lines.append(f"_cell_formula_units_Z {divisor if how.units == 'right' else 2 * divisor}")
    return lines


def written_operations(hall: int, decimals: bool = False) -> list[str]:
    """The operations of a setting as `-x+1/2,y,z`; translations as decimals of four digits where asked."""
    texts = []
    for rotation, translation in zip(*operations(hall), strict=True):
        parts = []
        for row, t in zip(rotation.astype(int), translation, strict=True):
            part = "".join(("+" if c > 0 else "-") + axis for c, axis in zip(row, "xyz", strict=True) if c)
            fraction = Fraction(float(t)).limit_denominator(24)
            if fraction:
                part += f"+{float(fraction):.4f}" if decimals else f"+{fraction}"
            parts.append(part.removeprefix("+"))
        texts.append(",".join(parts))
    return texts


def same_atoms(found: Crystal, right: Crystal, tolerance: float) -> bool:
    """Whether two crystals in one cell have the same atoms, within `tolerance` in Å."""
    if len(found) != len(right) or sorted(found.atomic_numbers.tolist()) != sorted(right.atomic_numbers.tolist()):
        return False
    taken = np.zeros(len(found), bool)
    for z, point in zip(right.atomic_numbers, right.frac_coords, strict=True):
        delta = found.frac_coords - point
        delta -= np.rint(delta)
        near = (np.linalg.norm(delta @ right.lattice, axis=1) < tolerance) & (found.atomic_numbers == z) & ~taken
        if not near.any():
            return False
        taken[int(near.argmax())] = True
    return True


def turned(example: Example) -> Example:
    """The same crystal with its lattice as a CIF's reader lays it: a along x, b in the xy plane."""
    lattice = lattice_matrix(lattice_parameters(example.lattice))
    return replace(example, lattice=lattice, crystal=replace(example.crystal, lattice=lattice))


def tolerance(crystal: Example, digits: int) -> float:
    """Å; what rounding may move an atom, and what moving it to its special position adds."""
    return 1e-3 + 3 * 10.0**-digits * float(np.linalg.norm(crystal.lattice, axis=1).sum())


def denied(how: Writing) -> bool:
    """Whether the file contradicts itself, or gives no single arrangement of atoms."""
    return how.formula == "wrong" or (how.formula == "right" and how.units == "wrong") or how.occupancy in (0.5, 0.98)


def check(crystal: Example, how: Writing) -> str:
    """Read a crystal as it was written; the status. Fails where `ok` is said of other atoms, or not of what leaves no doubt."""
    right = turned(crystal)
    (row,) = crystals_of_cif(cif(crystal, how), "x")
    told = f"{row.status}: {row.note}\n{cif(crystal, how)}"
    assert row.status == "ok" or row.note, told
    if row.status == "ok":
        assert row.crystal is not None
        assert not denied(how), told
        assert same_atoms(row.crystal, right.crystal, tolerance(crystal, how.digits)), told
    elif how.symmetry in ("operations", "hall", "symbol"):
        assert denied(how), told
    return row.status
