"""What stands on a site of a CIF: an element, a mixture of several, or nothing that is known."""

from __future__ import annotations

import re
from collections.abc import Collection

from crystalformer_rl.crystal.elements import ATOMIC_NUMBERS

#: Isotopes with symbols of their own.
HYDROGEN = {"D": "H", "T": "H"}
_MIXTURE = re.compile(r"[,+/;]\s*\d*\.?\d*\s*[A-Z]")
_SYMBOL = re.compile(r"([A-Za-z]{1,2})(?![A-Za-z])\s*(\(?[0-9.]*[+-]?[0-9.]*\)?|\([IVX]+\))")


def is_mixture(text: str) -> bool:
    """Whether a symbol names several elements, as in `0.8Nb + 0.2Zr` or `Nb,Zr`."""
    return bool(_MIXTURE.search(text))


def element_of(symbol: str | None, label: str | None, formula: Collection[int] = ()) -> int | None:
    """Atomic number of a site by its type symbol (`Na1+`, `CL`), else by its label (`Na1`, `O2A`); None for no element.

    Deuterium and tritium are hydrogen. formula: the elements that the file states; they tell a label in capitals, such as `CO1`, which
    may be cobalt or carbon. Raises ValueError where they do not.
    """
    if symbol is not None:
        match = _SYMBOL.fullmatch(symbol.strip())
        if match is None:
            return None
        # `CL1-` is chlorine, but `NH4` is ammonium and no nihonium
        group = match[1].isupper() and len(match[1]) == 2 and match[2].isdigit()
        return None if group else _atomic_number(match[1])
    match = re.match(r"[A-Za-z]{1,2}", (label or "").strip())
    if match is None:
        return None
    letters = match[0]
    alone, both = _atomic_number(letters[0]), _atomic_number(letters) if len(letters) == 2 else None
    if both is None or alone is None or letters[1].islower():
        return both if both is not None else alone
    fitting = [z for z in (both, alone) if z in formula]
    if len(fitting) == 1:
        return fitting[0]
    raise ValueError(f"the label {label} may be one of two elements; add the column _atom_site_type_symbol")


def _atomic_number(letters: str) -> int | None:
    name = letters[0].upper() + letters[1:].lower()
    return ATOMIC_NUMBERS.get(HYDROGEN.get(name, name))


def stated_formula(text: str | None) -> dict[int, float] | None:
    """`Mg Al2 O4` or `C6 H12.5 O6` as {atomic number: amount}; None for what is no plain formula."""
    if text is None:
        return None
    bare = re.sub(r"[\s'\"]+", " ", re.sub(r"\s\d*[+-](?=\s|$)", "", text)).strip()
    parts = re.findall(r"([A-Z][a-z]?)(\d+\.?\d*|\.\d+)?", bare)
    if not parts or re.sub(r"\s", "", bare) != "".join(a + b for a, b in parts):
        return None
    amounts: dict[int, float] = {}
    for name, amount in parts:
        z = _atomic_number(name)
        if z is None:
            return None
        amounts[z] = amounts.get(z, 0.0) + float(amount or 1)
    return {z: n for z, n in amounts.items() if n > 0} or None
