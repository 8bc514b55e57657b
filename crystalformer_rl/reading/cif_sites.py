"""The sites of a CIF's block: which element stands where, and whether one alone does."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np

from crystalformer_rl.crystal.elements import symbol
from crystalformer_rl.crystal.structure import MOST_ATOMS
from crystalformer_rl.reading.cif_block import CifBlock, number
from crystalformer_rl.reading.cif_species import element_of_label, element_of_symbol, is_mixture
from crystalformer_rl.reading.found import NotRead
from crystalformer_rl.tables.status import Status

_FULL = 2e-3
"""How far an occupancy may be from 1: three thirds that were written as 0.333 are one."""

_SAME_PLACE = 1e-3  # fractional


@dataclass(frozen=True)
class Site:
    """One site: label, atomic number, (3,) fractional coordinates, occupancy, and the multiplicity that the file states."""

    label: str
    atomic_number: int
    frac_coords: np.ndarray
    occupancy: float
    multiplicity: int | None


def sites_of(block: CifBlock, formula: Collection[int]) -> list[Site]:
    """The sites of a block, each fully occupied by one element. Raises NotRead, naming the site, where one is not.

    Isotopes and charges of one element that share a site are that element. formula: the elements that the file states, which
    may decide what a label means.
    """
    coordinates = _coordinates(block)
    n = len(coordinates[0])
    if n > MOST_ATOMS:
        raise NotRead(Status.TOO_LARGE, f"{n} sites, more than {MOST_ATOMS}")
    labels = _column(block, n, "_atom_site_label")
    symbols = _column(block, n, "_atom_site_type_symbol")
    occupancies = _column(block, n, "_atom_site_occupancy")
    multiplicities = _column(block, n, "_atom_site_symmetry_multiplicity", "_atom_site_site_symmetry_multiplicity")
    flags = _column(block, n, "_atom_site_calc_flag")
    _check_hydrogens(block, n, labels)
    sites = []
    for i in range(n):
        label = labels[i] or symbols[i] or f"site {i + 1}"
        if (flags[i] or "").lower() in ("dum", "dummy"):
            continue
        occupancy = _occupancy(occupancies[i], label)
        if occupancy == 0:
            continue
        z = _element(symbols[i], labels[i], label, formula)
        multiplicity = number(multiplicities[i])
        point = _point([axis[i] for axis in coordinates], label, z)
        sites.append(Site(label, z, point, occupancy, int(multiplicity) if multiplicity else None))
    if not sites:
        raise NotRead(Status.EMPTY_CRYSTAL, "no atom is listed")
    _check_groups(block, n, labels)
    return _fully_occupied(_shared(sites))


def _coordinates(block: CifBlock) -> list[list[str]]:
    found = [block.column(f"_atom_site_fract_{axis}") for axis in "xyz"]
    if any(column is None for column in found):
        words = "the atoms have Cartesian coordinates only; write fractional ones (_atom_site_fract_x)"
        raise NotRead(Status.BAD_COORDINATES, words)
    columns = [column or [] for column in found]
    if len({len(column) for column in columns}) != 1:
        raise NotRead(Status.BAD_COORDINATES, "the columns of x, y and z have different lengths")
    return columns


def _point(cells: list[str], label: str, z: int) -> np.ndarray:
    """(3,) coordinates. A point is zero, as databases wrote it; three points of a hydrogen are one that was not located."""
    bare = [cell.strip() for cell in cells]
    if any(cell in ("", "?") for cell in bare) or (z == 1 and set(bare) == {"."}):
        raise NotRead(Status.BAD_COORDINATES, f"{label} has no coordinates")
    values = [0.0 if cell == "." else number(cell) for cell in bare]
    wrong = next((cell for cell, value in zip(bare, values, strict=True) if value is None), None)
    if wrong is not None:
        raise NotRead(Status.BAD_COORDINATES, f"{label} has the coordinate '{wrong}', which is no number")
    return np.array(values, float)


def _column(block: CifBlock, n: int, *names: str) -> list[str | None]:
    column = block.column(*names)
    if column is None or len(column) != n:
        return [None] * n
    return [None if cell.strip() in ("", "?", ".") else cell.strip() for cell in column]


def _occupancy(text: str | None, label: str) -> float:
    if text is None:
        return 1.0
    value = number(text)
    if value is None or value < 0:
        raise NotRead(Status.UNREADABLE, f"the occupancy of {label} is '{text}', no number")
    return value


def _element(type_symbol: str | None, label: str | None, called: str, formula: Collection[int]) -> int:
    if any(is_mixture(text) for text in (type_symbol, None if type_symbol else label) if text):
        raise NotRead(Status.DISORDERED, f"{called} is shared by several elements ({type_symbol or label})")
    try:
        z = element_of_symbol(type_symbol) if type_symbol else element_of_label(label or "", formula)
    except ValueError as error:
        raise NotRead(Status.UNKNOWN_ELEMENT, str(error)) from error
    if z is None:
        raise NotRead(Status.UNKNOWN_ELEMENT, f"{called} is '{type_symbol or label or '?'}', which is no element")
    return z


def _check_hydrogens(block: CifBlock, n: int, labels: list[str | None]) -> None:
    """Hydrogens that the file counts at their neighbours without placing them would be missing."""
    for i, count in enumerate(_column(block, n, "_atom_site_attached_hydrogens")):
        if count and count != "0":
            raise NotRead(Status.FORMULA_MISMATCH, f"{count} hydrogens attached to {labels[i] or i + 1} have no coordinates")


def _check_groups(block: CifBlock, n: int, labels: list[str | None]) -> None:
    """Alternatives that a file tells apart by groups are disorder, whatever their occupancies."""
    groups = _column(block, n, "_atom_site_disorder_group")
    if len({group for group in groups if group is not None and group != "0"}) > 1:
        first = next(i for i, group in enumerate(groups) if group is not None and group != "0")
        raise NotRead(
            Status.DISORDERED, f"{labels[first] or first + 1} is one of several alternatives (_atom_site_disorder_group)"
        )


def _shared(sites: list[Site]) -> list[Site]:
    """Sites of one element on one place, as deuterium beside hydrogen and Fe2+ beside Fe3+, made one site."""
    kept: list[Site] = []
    for site in sites:
        others = enumerate(kept) if site.occupancy < 1 else ()
        same = next((k for k, other in others if _on_one_place(site, other)), None)
        if same is None:
            kept.append(site)
        else:
            kept[same] = replace(kept[same], occupancy=kept[same].occupancy + site.occupancy)
    return kept


def _on_one_place(a: Site, b: Site) -> bool:
    delta = a.frac_coords - b.frac_coords
    return a.atomic_number == b.atomic_number and bool((np.abs(delta - np.rint(delta)) < _SAME_PLACE).all())


def _fully_occupied(sites: list[Site]) -> list[Site]:
    for site in sites:
        if site.occupancy > 1 + _FULL:
            raise NotRead(Status.UNREADABLE, f"the occupancy of {site.label} is {site.occupancy:g}, more than 1")
        if site.occupancy < 1 - _FULL:
            others = [s for s in sites if s is not site and np.allclose(s.frac_coords, site.frac_coords, atol=_SAME_PLACE)]
            beside = f" beside {', '.join(f'{symbol(s.atomic_number)} {s.occupancy:g}' for s in others)}" if others else ""
            raise NotRead(
                Status.DISORDERED, f"{site.label} is occupied by {symbol(site.atomic_number)} {site.occupancy:g}{beside}"
            )
    return sites
