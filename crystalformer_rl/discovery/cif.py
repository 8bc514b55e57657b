"""A crystal as the text of a CIF file, in the conventional cell with its symmetry."""

from __future__ import annotations

from functools import cache

import numpy as np

from crystalformer_rl.crystal.elements import composition, symbol
from crystalformer_rl.crystal.encode import EncodeError, symmetrize
from crystalformer_rl.crystal.lattice import lattice_parameters
from crystalformer_rl.crystal.structure import Crystal
from crystalformer_rl.crystal.tokens import Sites
from crystalformer_rl.crystal.wyckoff import letter_name, wyckoff_table


def cif_text(crystal: Crystal, name: str) -> str:
    """CIF of a crystal; `name` becomes the data block's. Without symmetry found, P 1 and the cell as it is."""
    try:
        sites = symmetrize(crystal)
    except EncodeError:
        letters = np.ones(len(crystal), int)
        sites = Sites(1, letters, crystal.atomic_numbers, crystal.frac_coords % 1.0, lattice_parameters(crystal.lattice))
    operations = _operations(sites.space_group)
    cell = zip(
        ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma"),
        sites.lattice_parameters,
        strict=True,
    )
    block = "".join(c if c.isalnum() or c in "-_." else "_" for c in name)
    return "\n".join(
        [
            f"data_{block}",
            f"_chemical_formula_structural {crystal.formula}",
            f"_chemical_formula_sum '{_sum_formula(sites)}'",
            *(f"_cell_{key} {value:.6f}" for key, value in cell),
            f"_space_group_IT_number {sites.space_group}",
            f"_space_group_name_H-M_alt '{space_group_symbol(sites.space_group)}'",
            "loop_",
            "_space_group_symop_id",
            "_space_group_symop_operation_xyz",
            *(f"{i} '{words}'" for i, words in enumerate(operations, start=1)),
            "loop_",
            "_atom_site_label",
            "_atom_site_type_symbol",
            "_atom_site_Wyckoff_symbol",
            "_atom_site_fract_x",
            "_atom_site_fract_y",
            "_atom_site_fract_z",
            "_atom_site_occupancy",
            *_site_lines(sites),
            "",
        ]
    )


@cache
def space_group_symbol(g: int) -> str:
    """Short Hermann-Mauguin symbol: 225 → `F m -3 m`."""
    import moyopy

    return str(moyopy.SpaceGroupType(g).hm_short)


def _site_lines(sites: Sites) -> list[str]:
    lines = []
    rows = zip(sites.wyckoff.tolist(), sites.elements.tolist(), sites.frac_coords, strict=True)
    for i, (letter, z, coords) in enumerate(rows, start=1):
        x, y, w = (f"{value:.8f}" for value in coords)
        lines.append(f"{symbol(z)}{i} {symbol(z)} {letter_name(letter)} {x} {y} {w} 1")
    return lines


def _sum_formula(sites: Sites) -> str:
    """`Cs4 Cl4`: what the conventional cell holds, alphabetically."""
    multiplicities = [wyckoff_table().multiplicity(sites.space_group, int(w)) for w in sites.wyckoff]
    counts = composition(np.repeat(sites.elements, multiplicities))
    return " ".join(f"{name}{n}" for name, n in sorted((symbol(z), n) for z, n in counts.items()))


@cache
def _operations(g: int) -> tuple[str, ...]:
    """The general position as text: `-y, x-y, z+1/3`."""
    table = wyckoff_table()
    return tuple(", ".join(_component(row) for row in operation) for operation in table.operations(g, table.n_letters(g)))


def _component(row: np.ndarray) -> str:
    """One row (3 rotation entries and a translation) as text."""
    words = ""
    for factor, axis in zip(np.rint(row[:3]).astype(int), "xyz", strict=True):
        if factor:
            words += ("-" if factor < 0 else "+" if words else "") + axis
    parts = round(float(row[3]) * 24)
    if parts % 24:
        divisor = int(np.gcd(parts, 24))
        words += f"{'+' if parts > 0 else '-'}{abs(parts) // divisor}/{24 // divisor}"
    return words
