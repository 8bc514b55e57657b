"""Elements by atomic number, and reduced formulas, without a chemistry library."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache, reduce
from math import gcd

import numpy as np

from crystalformer_rl.errors import InputError

SYMBOLS = tuple(
    """
    H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br
    Kr Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er
    Tm Yb Lu Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md
    No Lr Rf Db Sg Bh Hs Mt Ds Rg Cn Nh Fl Mc Lv Ts Og
    """.split()  # noqa: SIM905
)
"""Symbols of the elements 1 to 118: `SYMBOLS[Z - 1]`."""

ATOMIC_NUMBERS = {symbol: z for z, symbol in enumerate(SYMBOLS, start=1)}

ELEMENT_GROUPS = {
    "noble_gases": ("He", "Ne", "Ar", "Kr", "Xe", "Rn", "Og"),
    "no_stable_isotope": ("Tc", "Pm", *SYMBOLS[83:]),
}
"""Elements whose compounds nobody would make. Bismuth decays too slowly for anybody to notice."""

# Pauling's scale, "_" where none is known; it orders the elements within a formula.
_ELECTRONEGATIVITY = tuple(
    float("inf") if x == "_" else float(x)
    for x in """
    2.2 _ 0.98 1.57 2.04 2.55 3.04 3.44 3.98 _ 0.93 1.31 1.61 1.9 2.19 2.58 3.16 _ 0.82 1 1.36 1.54
    1.63 1.66 1.55 1.83 1.88 1.91 1.9 1.65 1.81 2.01 2.18 2.55 2.96 3 0.82 0.95 1.22 1.33 1.6 2.16
    1.9 2.2 2.28 2.2 1.93 1.69 1.78 1.96 2.05 2.1 2.66 2.6 0.79 0.89 1.1 1.12 1.13 1.14 1.13 1.17
    1.2 1.2 1.1 1.22 1.23 1.24 1.25 1.1 1.27 1.3 1.5 2.36 1.9 2.2 2.2 2.28 2.54 2 1.62 2.33 2.02 2
    2.2 2.2 0.7 0.9 1.1 1.3 1.5 1.38 1.36 1.28 1.3 1.3 1.3 1.3 1.3 1.3 1.3 1.3 1.3 _ _ _ _ _ _ _ _ _
    _ _ _ _ _ _
    """.split()  # noqa: SIM905
)

_DIATOMIC = {"H", "N", "O", "F", "Cl"}


def symbol(z: int) -> str:
    """Symbol of the element with atomic number `z`."""
    return SYMBOLS[z - 1]


def elemental_id(z: int) -> str:
    """The id of an element in its reference state, from which formation energies count."""
    return f"elemental-{SYMBOLS[z - 1]}"


def atomic_number(name: str) -> int:
    """Atomic number of an element's symbol. Raises InputError for an unknown one."""
    try:
        return ATOMIC_NUMBERS[name]
    except KeyError:
        raise InputError(f"'{name}' is not an element symbol; write a symbol such as Na or O.") from None


def composition(atomic_numbers: Iterable[int]) -> dict[int, int]:
    """Number of atoms of each element, by rising atomic number."""
    elements, counts = np.unique(np.asarray(list(atomic_numbers), int), return_counts=True)
    return dict(zip(elements.tolist(), counts.tolist(), strict=True))


def reduced_composition(atomic_numbers: Iterable[int]) -> dict[int, int]:
    """`composition` divided by the greatest common divisor of its counts."""
    counts = composition(atomic_numbers)
    divisor = reduce(gcd, counts.values(), 0) or 1
    return {z: n // divisor for z, n in counts.items()}


def electronegativity_rank(z: int) -> tuple[float, str]:
    """Sorts elements by rising electronegativity (Pauling), those without a known one last."""
    return _ELECTRONEGATIVITY[z - 1], symbol(z)


_NOBLE_GASES = (0, 2, 10, 18, 36, 54, 86, 118)


ELEMENT_FEATURES = 12


@cache
def element_features() -> np.ndarray:
    """(119, 12) what the periodic table says of each element, columns of about unit size; row 0 is padding, zero.

    Period, electronegativity, electrons beyond the noble gas before and missing to the one after (in this period), and
    the block (s, p, d, f) together with the place in it.
    """
    rows = np.zeros((119, ELEMENT_FEATURES))
    for z in range(1, 119):
        period = next(n for n, last in enumerate(_NOBLE_GASES) if z <= last)
        outer = z - _NOBLE_GASES[period - 1]
        missing = _NOBLE_GASES[period] - z
        block, place = _block(period, outer, missing)
        chi = _ELECTRONEGATIVITY[z - 1]
        chi = 1.5 if np.isinf(chi) else chi
        rows[z, :4] = [(period - 4) / 2, (chi - 1.8) / 0.7, np.exp(-outer / 4), np.exp(-missing / 4)]
        rows[z, 4 + block] = 1.0
        rows[z, 8 + block] = place
    return rows


def _block(period: int, outer: int, missing: int) -> tuple[int, float]:
    """Block (s, p, d, f as 0 to 3) of an element, and its place in it from −1 to 1."""
    if missing < 6 and period > 1:
        return 1, (2.5 - missing) / 2.5
    if outer <= 2:
        return 0, 2.0 * outer - 3.0
    if period >= 6 and outer <= 17:  # lanthanum to lutetium, actinium to lawrencium
        return 3, (outer - 10) / 7
    return 2, (10.5 - missing) / 5


def reduced_formula(atomic_numbers: Iterable[int]) -> str:
    """The reduced formula, elements by rising electronegativity: `NaCl`, `CsCaF3`; gases as `O2`."""
    counts = reduced_composition(atomic_numbers)
    order = sorted(counts, key=electronegativity_rank)
    if len(order) == 1:
        name = symbol(order[0])
        return f"{name}2" if name in _DIATOMIC else name
    return "".join(symbol(z) + (str(counts[z]) if counts[z] > 1 else "") for z in order)


def parse_formula(formula: str) -> dict[int, int]:
    """`Cs2LiLuF6` or `Ca5(PO4)3F` as {atomic number: count}. Raises InputError for anything else than symbols, whole numbers and brackets."""
    flat = formula
    while match := re.search(r"\(([A-Za-z0-9]+)\)(\d*)", flat):
        times = int(match[2] or 1)
        inside = "".join(f"{symbol(z)}{n * times}" for z, n in parse_formula(match[1]).items())
        flat = flat[: match.start()] + inside + flat[match.end() :]
    parts = re.findall(r"([A-Z][a-z]?)(\d*)", flat)
    if not parts or "".join(a + b for a, b in parts) != flat:
        raise InputError(
            f"'{formula}' is not a formula; write element symbols, whole numbers and brackets, such as Cs2LiLuF6 or Ca5(PO4)3F."
        )
    counts: dict[int, int] = {}
    for name, number in parts:
        z, n = atomic_number(name), int(number or 1)
        if n == 0:
            raise InputError(f"'{formula}' counts zero atoms of {name}; leave the element out.")
        counts[z] = counts.get(z, 0) + n
    return dict(sorted(counts.items()))
