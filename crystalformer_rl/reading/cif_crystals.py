"""Crystals of CIFs (also magnetic ones): what a block's own statements confirm, or the reason why not.

A CIF says the same thing several times: by operations, symbols, multiplicities, a formula and the number of its units. What
is read is held against all of them. Syntax and tables of space groups are gemmi's (M. Wojdyr, J. Open Source Softw. 7,
4200 (2022)); which symmetry a block means, which atoms stand on a site and whether that fits is decided here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from crystalformer_rl.crystal.elements import composition, electronegativity_rank, symbol
from crystalformer_rl.crystal.encode import space_group
from crystalformer_rl.crystal.lattice import lattice_matrix
from crystalformer_rl.crystal.structure import Crystal, crystal_status
from crystalformer_rl.reading.cif_block import CifBlock, CifSyntaxError, cif_blocks
from crystalformer_rl.reading.cif_sites import Site, sites_of
from crystalformer_rl.reading.cif_species import stated_formula
from crystalformer_rl.reading.cif_symmetry import Symmetry, contradicts_symbol, symmetries
from crystalformer_rl.reading.found import Found, NotRead, found, not_read
from crystalformer_rl.tables.status import OK, Status

MERGED = 0.2
"""Å; images of one site nearer than this are one atom, pulled apart where coordinates were rounded."""

_CELL = tuple(f"_cell_{name}" for name in ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma"))
_FORMULA = ("_chemical_formula_sum",)
_UNITS = ("_cell_formula_units_z",)
_MODULATION = ("_cell_modulation_dimension", "_space_group_ssg_name", "_space_group_magn_ssg_name")


def crystals_of_cif(text: str, name: str) -> list[Found]:
    """A row for each block of a CIF that lists atoms; one that says what is wrong for a text without such a block.

    `name` is the id of a lone block; those of several end in `-0`, `-1`, … in their order.
    """
    try:
        blocks = [block for block in cif_blocks(text) if block.has_sites]
    except CifSyntaxError as error:
        return [Found(name, None, Status.UNREADABLE, f"no valid CIF: {error}")]
    if not blocks:
        return [Found(name, None, Status.UNREADABLE, "no block of the CIF lists coordinates of atoms")]
    names = [name] if len(blocks) == 1 else [f"{name}-{i}" for i in range(len(blocks))]
    return [_crystal(block, own) for block, own in zip(blocks, names, strict=True)]


def _crystal(block: CifBlock, name: str) -> Found:
    try:
        crystal, note = _read(block)
    except NotRead as error:
        return not_read(name, error)
    return found(name, crystal, note)


def _read(block: CifBlock) -> tuple[Crystal, str | None]:
    """The crystal of a block, and what is to be said of how it was read. Raises NotRead."""
    if block.value(*_MODULATION) not in (None, "0"):
        raise NotRead(Status.UNREADABLE, "a modulated structure, whose atoms are not those of one cell")
    cell = _cell(block)
    statements = _Statements.of(block)
    sites = sites_of(block, set(statements.formula or ()))
    ways = symmetries(block, cell)
    if not ways:
        return _without_symmetry(sites, cell, statements)
    if len(ways) == 1:
        return _in_one_way(ways[0], sites, cell, statements)
    return _in_the_way_that_fits(ways, sites, cell, statements)


@dataclass(frozen=True)
class _Statements:
    """What a block says of its cell's content: formula, number of formula units, density in g/cm³; None where it does not."""

    formula: Mapping[int, float] | None
    units: float | None

    @classmethod
    def of(cls, block: CifBlock) -> _Statements:
        return cls(stated_formula(block.value(*_FORMULA)), block.number(*_UNITS))

    @property
    def counts(self) -> tuple[float, ...]:
        """Atoms in the cell by formula and units, empty where one is not stated.

        Two where the formula can be reduced: some programs (pymatgen) state that of the whole cell beside the units of the reduced one.
        """
        if self.formula is None or not self.units:
            return ()
        amounts = self.formula.values()
        whole = all(n == int(n) for n in amounts)
        divisors = {1, math.gcd(*map(int, amounts)) if whole else 1}
        return tuple(self.units * sum(amounts) / divisor for divisor in sorted(divisors))

    def denied_by(self, numbers: Sequence[int]) -> str | None:
        """In words, how the atoms of a cell contradict the statements; None where they do not."""
        if self.formula is None:
            return None
        counts = composition(numbers)
        stated = {z: n / sum(self.formula.values()) for z, n in self.formula.items()}
        read = {z: n / len(numbers) for z, n in counts.items()}
        if any(abs(stated.get(z, 0) - read.get(z, 0)) > 0.005 for z in stated.keys() | read.keys()):
            return f"the file states {_written(self.formula)}, its atoms make {_written(counts)}"
        if self.counts and all(abs(count - len(numbers)) > 0.02 * count for count in self.counts):
            return f"the file states Z = {self.units:g} of {_written(self.formula)}, {self.counts[0]:g} atoms a cell, but gives {len(numbers)}"
        return None


def _written(amounts: Mapping[int, float]) -> str:
    divisor = math.gcd(*map(int, amounts.values())) if all(n == int(n) for n in amounts.values()) else 1
    ordered = sorted(amounts.items(), key=lambda item: electronegativity_rank(item[0]))
    return " ".join(f"{symbol(z)}{n / divisor:g}" if n != divisor else symbol(z) for z, n in ordered)


def _cell(block: CifBlock) -> np.ndarray:
    values = [block.number(name) for name in _CELL]
    missing = next((name for name, value in zip(_CELL, values, strict=True) if value is None), None)
    if missing is not None:
        text = block.value(missing)
        raise NotRead(Status.BAD_LATTICE, f"{missing} is missing" if text is None else f"{missing} is '{text}', no number")
    cell = np.array(values, float)
    if (cell[:3] <= 0).any() or not np.isfinite(lattice_matrix(cell)).all():
        raise NotRead(Status.BAD_LATTICE, "no cell has the lengths and angles " + " ".join(f"{x:g}" for x in cell))
    return cell


def _without_symmetry(sites: list[Site], cell: np.ndarray, statements: _Statements) -> tuple[Crystal, str | None]:
    """A block that says nothing of symmetry: all atoms of the cell, where formula and Z confirm it."""
    crystal = _expanded(sites, _IDENTITY, cell)
    denied = statements.denied_by(crystal.atomic_numbers.tolist())
    if denied is not None:
        raise NotRead(Status.FORMULA_MISMATCH, f"{denied}; the file gives no symmetry")
    if not statements.counts:
        raise NotRead(
            Status.SYMMETRY_UNCLEAR,
            "the file gives no symmetry; add _space_group_name_H-M_alt 'P 1' if it lists all atoms of the cell",
        )
    return crystal, "no symmetry given, so P 1, which the stated formula and Z confirm"


_IDENTITY = Symmetry(np.eye(3)[None], np.zeros((1, 3)), "P 1", 1, True)


def _in_one_way(way: Symmetry, sites: list[Site], cell: np.ndarray, statements: _Statements) -> tuple[Crystal, str | None]:
    crystal = _expanded(sites, way, cell)
    denied = statements.denied_by(crystal.atomic_numbers.tolist())
    if denied is not None:
        raise NotRead(Status.FORMULA_MISMATCH, f"{denied} ({way.words})")
    _check_multiplicities(sites, way, cell)
    if way.listed and contradicts_symbol(way):
        return _against_its_symbol(crystal, way, statements)
    return crystal, None


def _against_its_symbol(crystal: Crystal, way: Symmetry, statements: _Statements) -> tuple[Crystal, str | None]:
    """A block whose operations are not those of its symbol, as where all atoms are listed under the group that they have."""
    if crystal_status(crystal) != OK or statements.counts:
        return crystal, None  # Z confirms the atoms, or they cannot be right anyway
    if space_group(crystal, 0.05) == way.number:
        return crystal, None
    raise NotRead(
        Status.SYMMETRY_UNCLEAR,
        f"the file lists {way.words}, which are not those of its space group {way.number}, and the atoms that they make "
        "have another; correct the list or the symbol",
    )


def _in_the_way_that_fits(
    ways: list[Symmetry], sites: list[Site], cell: np.ndarray, statements: _Statements
) -> tuple[Crystal, str | None]:
    """Of several settings that a symbol leaves open, the one whose atoms the file's statements and distances admit."""
    fitting = []
    for way in ways:
        try:
            crystal = _expanded(sites, way, cell)
            _check_multiplicities(sites, way, cell)
        except NotRead:
            continue
        if statements.denied_by(crystal.atomic_numbers.tolist()) is None and crystal_status(crystal) == OK:
            fitting.append((crystal, way))
    names = ", ".join(way.words for way in ways)
    if len(fitting) == 1:
        return fitting[0][0], f"of the settings {names} that the symbol leaves open, only {fitting[0][1].words} fits"
    what = "several fit" if fitting else "none fits"
    raise NotRead(
        Status.SYMMETRY_UNCLEAR,
        f"no operations are listed, the symbol may mean {names}, and {what}; add the operations or the setting",
    )


def _check_multiplicities(sites: list[Site], way: Symmetry, cell: np.ndarray) -> None:
    for site in sites:
        if site.multiplicity is None:
            continue
        read = len(_orbit(site, way, lattice_matrix(cell)))
        if read != site.multiplicity:
            raise NotRead(
                Status.FORMULA_MISMATCH,
                f"the file states {site.multiplicity} atoms of {site.label} in the cell, its symmetry ({way.words}) makes {read}",
            )


def _expanded(sites: list[Site], way: Symmetry, cell: np.ndarray) -> Crystal:
    """All atoms of the cell. Raises NotRead where images of a site lie neither on one place nor apart."""
    lattice = lattice_matrix(cell)
    orbits = [_orbit(site, way, lattice) for site in sites]
    numbers = [np.full(len(orbit), site.atomic_number) for site, orbit in zip(sites, orbits, strict=True)]
    return Crystal(np.concatenate(numbers), np.concatenate(orbits), lattice)


def _orbit(site: Site, way: Symmetry, lattice: np.ndarray) -> np.ndarray:
    """(m, 3) the images of a site: it is moved to the mean of those images that lie within `MERGED`, its special position."""
    images = way.rotations @ site.frac_coords + way.translations
    shift = images - site.frac_coords
    shift -= np.rint(shift)
    near = np.linalg.norm(shift @ lattice, axis=1) < MERGED
    point = site.frac_coords + shift[near].mean(0)
    images = way.rotations @ point + way.translations
    kept: list[np.ndarray] = []
    for image in images:
        if kept:
            delta = image - np.array(kept)
            if np.linalg.norm((delta - np.rint(delta)) @ lattice, axis=1).min() < 1e-3:
                continue
        kept.append(image)
    if len(kept) * int(near.sum()) != len(images):
        raise NotRead(
            Status.OVERLAPPING_ATOMS, f"images of {site.label} lie close to each other, but not on one special position"
        )
    return np.array(kept) % 1.0
