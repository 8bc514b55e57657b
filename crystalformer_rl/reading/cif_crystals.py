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
from crystalformer_rl.crystal.lattice import lattice_matrix
from crystalformer_rl.crystal.structure import Crystal, crystal_status
from crystalformer_rl.reading.cif_block import CifBlock, CifSyntaxError, cif_blocks
from crystalformer_rl.reading.cif_sites import Site, sites_of
from crystalformer_rl.reading.cif_species import Formula, stated_formula
from crystalformer_rl.reading.cif_symmetry import Symmetry, symmetries
from crystalformer_rl.reading.found import Found, NotRead, found, not_read
from crystalformer_rl.tables.status import OK, Status

MERGED = 0.2
"""Å; images of one site nearer than this are one atom, pulled apart where coordinates were rounded."""

_CELL = tuple(f"_cell_{name}" for name in ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma"))
_FORMULA = ("_chemical_formula_sum", "_chemical_formula_moiety", "_chemical_formula_structural")
_VOLUME = "_cell_volume"
_UNITS = ("_cell_formula_units_z",)
_MODULATION = ("_cell_modulation_dimension", "_space_group_ssg_name", "_space_group_magn_ssg_name")


def crystals_of_cif(text: str, name: str) -> list[Found]:
    """A row for each block of a CIF that lists atoms; one that says what is wrong for a text without such a block.

    `name` is the id of a lone block; those of several end in `-0`, `-1`, … in their order.
    """
    try:
        blocks = [block for block in cif_blocks(text) if block.has_sites]
    except CifSyntaxError as error:
        if "data_" not in text.lower():
            return [Found(name, None, Status.UNREADABLE, f"no CIF: the text begins with '{' '.join(text.split())[:30]}'")]
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
    # a block is arbitrary text: what nobody thought of is one crystal that is not read, and no end of the others
    except (ValueError, IndexError, TypeError, ArithmeticError, np.linalg.LinAlgError) as error:
        return Found(name, None, Status.UNREADABLE, f"not understood ({type(error).__name__}: {error})")
    return found(name, crystal, note)


def _read(block: CifBlock) -> tuple[Crystal, str | None]:
    """The crystal of a block, and what is to be said of how it was read. Raises NotRead."""
    if block.value(*_MODULATION) not in (None, "0"):
        raise NotRead(Status.UNREADABLE, "a modulated structure, whose atoms are not those of one cell")
    cell = _cell(block)
    statements = _Statements.of(block)
    sites = sites_of(block, set(statements.formula.amounts if statements.formula else ()))
    ways = symmetries(block, cell)
    if not ways:
        crystal, note = _without_symmetry(sites, cell, statements)
    elif len(ways) == 1:
        crystal, note = _in_one_way(ways[0], sites, cell, statements), None
    else:
        crystal, note = _in_the_way_that_fits(ways, sites, cell, statements)
    if statements.unread is not None:
        note = "; ".join(
            part
            for part in (note, f"its formula '{statements.unread}' is not understood, so nothing confirms the atoms")
            if part
        )
    return crystal, note


@dataclass(frozen=True)
class _Statements:
    """What a block says of its cell's content: formula and number of formula units, None where it does not; and a formula that is not understood."""

    formula: Formula | None
    units: float | None
    unread: str | None

    @classmethod
    def of(cls, block: CifBlock) -> _Statements:
        texts = [text for text in (block.value(name) for name in _FORMULA) if text is not None]
        formula = next((found for found in map(stated_formula, texts) if found is not None), None)
        return cls(formula, block.number(*_UNITS), texts[0] if texts and formula is None else None)

    @property
    def complete(self) -> bool:
        """Whether formula and units together say how many atoms the cell has."""
        return self.formula is not None and bool(self.units)

    def denied_by(self, numbers: Sequence[int]) -> str | None:
        """In words, how the atoms of a cell contradict the statements; None where they do not."""
        if self.formula is None:
            return None
        counts = composition(numbers)
        if self.formula.denies(counts):
            return f"the file states {_written(self.formula.amounts)}, its atoms make {_written(counts)}"
        if self.units and not _makes(self.formula, self.units, len(numbers)):
            total = self.units * sum(self.formula.amounts.values())
            stated = f"the file states Z = {self.units:g} of {_written(self.formula.amounts, reduced=False)}"
            return f"{stated}, {total:g} atoms in the cell, and gives {len(numbers)}"
        return None


def _makes(formula: Formula, units: float, n: int) -> bool:
    """Whether so many formula units are n atoms; or the formula is the whole cell's beside the units of the reduced one, as pymatgen
    states both (N2 and Na2O2 count as reduced).
    """
    amounts = formula.amounts.values()
    total = sum(amounts)
    if abs(units * total - n) <= units * 1.01 * formula.rounding * len(amounts) + 1e-6:
        return True
    whole = all(amount == int(amount) for amount in amounts)
    return whole and total == n and math.gcd(*map(int, amounts)) / units in (1, 2)


def _written(amounts: Mapping[int, float], reduced: bool = True) -> str:
    whole = all(n == int(n) for n in amounts.values())
    divisor = math.gcd(*map(int, amounts.values())) if whole and reduced else 1
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
    volume, own = block.number(_VOLUME), float(abs(np.linalg.det(lattice_matrix(cell))))
    if volume is not None and abs(volume - own) > 0.02 * own:
        raise NotRead(
            Status.BAD_LATTICE, f"the file states a cell of {volume:g} Å³, its lengths and angles make {own:.4g} Å³"
        )
    return cell


def _without_symmetry(sites: list[Site], cell: np.ndarray, statements: _Statements) -> tuple[Crystal, str | None]:
    """A block that says nothing of symmetry: all atoms of the cell, where formula and Z confirm it."""
    crystal = _expanded(sites, _IDENTITY, cell)
    denied = statements.denied_by(crystal.atomic_numbers.tolist())
    if denied is not None:
        raise NotRead(Status.FORMULA_MISMATCH, f"{denied}; the file gives no symmetry")
    if not statements.complete:
        raise NotRead(
            Status.SYMMETRY_UNCLEAR,
            "the file gives no symmetry; add _space_group_name_H-M_alt 'P 1' if it lists all atoms of the cell",
        )
    return crystal, "no symmetry given, so P 1, which the stated formula and Z confirm"


_IDENTITY = Symmetry(np.eye(3)[None], np.zeros((1, 3)), "P 1")


def _in_one_way(way: Symmetry, sites: list[Site], cell: np.ndarray, statements: _Statements) -> Crystal:
    crystal = _expanded(sites, way, cell)
    denied = statements.denied_by(crystal.atomic_numbers.tolist())
    if denied is not None:
        raise NotRead(Status.FORMULA_MISMATCH, f"{denied} ({way.words})")
    _check_multiplicities(sites, way, cell)
    if way.doubt is not None and not statements.complete:
        raise NotRead(
            Status.SYMMETRY_UNCLEAR,
            f"the file lists {'the identity alone' if len(way.rotations) == 1 else way.words}, but {way.doubt}; list the operations that make "
            "all atoms, or state formula and Z",
        )
    return crystal


def _in_the_way_that_fits(
    ways: list[Symmetry], sites: list[Site], cell: np.ndarray, statements: _Statements
) -> tuple[Crystal, str | None]:
    """Of several settings that a symbol leaves open, the one whose atoms have the formula, the multiplicities and the distances.

    Z alone does not choose: where it is wrong, the wrong origin would be the one that agrees with it.
    """
    fitting = []
    for way in ways:
        try:
            crystal = _expanded(sites, way, cell)
            _check_multiplicities(sites, way, cell)
        except NotRead:
            continue
        denied = statements.formula is not None and statements.formula.denies(composition(crystal.atomic_numbers))
        if not denied and crystal_status(crystal) == OK:
            fitting.append((crystal, way))
    names = ", ".join(way.words for way in ways)
    if len(fitting) != 1:
        what = "several fit" if fitting else "none fits"
        raise NotRead(
            Status.SYMMETRY_UNCLEAR,
            f"no operations are listed, the symbol may mean {names}, and {what}; add the operations or the setting",
        )
    ((crystal, way),) = fitting
    contradiction = statements.denied_by(crystal.atomic_numbers.tolist())
    if contradiction is not None:
        raise NotRead(Status.FORMULA_MISMATCH, f"{contradiction} ({way.words})")
    return crystal, f"of the settings {names} that the symbol leaves open, only {way.words} fits"


def _check_multiplicities(sites: list[Site], way: Symmetry, cell: np.ndarray) -> None:
    """Multiplicities that are stated, of each site or the order of its own symmetry (as SHELXL wrote it under this name)."""
    stated = [(site, len(_orbit(site, way, lattice_matrix(cell)))) for site in sites if site.multiplicity is not None]
    if all((site.multiplicity or 0) * made == len(way.rotations) for site, made in stated):
        return
    wrong = next(((site, made) for site, made in stated if site.multiplicity != made), None)
    if wrong is not None:
        site, made = wrong
        raise NotRead(
            Status.FORMULA_MISMATCH,
            f"the file states multiplicity {site.multiplicity} of {site.label}, its symmetry ({way.words}) makes {made}",
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
