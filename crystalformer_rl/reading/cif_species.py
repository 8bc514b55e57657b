"""What stands on a site of a CIF: an element, a mixture of several, or nothing that is known; and what a formula counts."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from crystalformer_rl.crystal.elements import ATOMIC_NUMBERS

#: Isotopes with symbols of their own.
HYDROGEN = {"D": "H", "T": "H"}
_MIXTURE = re.compile(r"[,+/;]\s*\d*\.?\d*\s*[A-Z]")
_CHARGE = r"\s*(?:\(?\d?(?:\.\d+)?[+-]\)?|[+-]\d(?:\.\d+)?|\([IVX]+\))?"
_HEAVIEST = 94
"""Of elements written in capitals: beyond, NH, CN and HS are groups of atoms."""


def is_mixture(text: str) -> bool:
    """Whether a symbol names several elements, as in `0.8Nb + 0.2Zr` or `Nb,Zr`."""
    return bool(_MIXTURE.search(text))


def element_of_symbol(symbol: str) -> int | None:
    """Atomic number of a type symbol (`Na1+`, `CL`, `O2`), deuterium and tritium as hydrogen; None for what is no element, as `NH4+` or `Wat`."""
    proper = re.fullmatch(rf"([A-Z][a-z]?)(?:{_CHARGE}|\d*)", symbol.strip())
    if proper is not None:
        return _atomic_number(proper[1])
    capitals = re.fullmatch(rf"([A-Za-z]{{1,2}}){_CHARGE}", symbol.strip())
    z = _atomic_number(capitals[1]) if capitals is not None else None
    return z if z is not None and z <= _HEAVIEST else None


def element_of_label(label: str, formula: Collection[int] = ()) -> int | None:
    """Atomic number of a site by its label alone (`Na1`, `O2A`); None where that is no element's symbol, as of `Wat` or `Vac1`.

    formula: the elements that the file states. Raises ValueError where a label may mean several things and they do not tell:
    `CO1` is cobalt or carbon, `OH` oxygen or a group, `T1` tritium or any tetrahedral site.
    """
    match = re.match(r"[A-Za-z]+", label.strip())
    if match is None:
        return None
    letters = match[0]
    doubtful = ValueError(f"the label {label} may mean several things; add the column _atom_site_type_symbol")
    if letters in HYDROGEN and 1 not in formula:
        raise doubtful
    plain = re.fullmatch(r"[A-Z][a-z]?|[a-z]", letters) is not None
    if plain:
        return _atomic_number(letters)
    if not letters.isupper():
        # `na1` is sodium; `Wat`, `Vac` and `Cent` are no elements, whatever they begin with
        return _atomic_number(letters) if len(letters) == 2 and letters.islower() else None
    readings = {z for z in (_atomic_number(letters[:2]), _atomic_number(letters[0])) if z is not None}
    fitting = readings & set(formula)
    if len(fitting) == 1:
        return fitting.pop()
    if not readings:
        return None
    raise doubtful


def _atomic_number(letters: str) -> int | None:
    name = letters[0].upper() + letters[1:].lower()
    return ATOMIC_NUMBERS.get(HYDROGEN.get(name, name))


@dataclass(frozen=True)
class Formula:
    """What a formula counts: {atomic number: amount}, and how far each amount is rounded (half of its last digit; 0 for whole numbers)."""

    text: str
    amounts: Mapping[int, float]
    rounding: float

    def denies(self, counts: Mapping[int, int]) -> bool:
        """Whether atoms {atomic number: number} cannot have this composition, in whatever multiple."""
        if counts.keys() != self.amounts.keys():
            return True
        # some element's amount is exact as written, or nearly
        return all(
            any(
                abs(counts[z] - n * scale) > 1.01 * scale * self.rounding + 1e-9 * counts[z] for z, n in self.amounts.items()
            )
            for scale in (counts[z] / n for z, n in self.amounts.items())
        )


def stated_formula(text: str | None) -> Formula | None:
    """`Mg Al2 O4`, `Mg (O H)2`, `Na Cl, 2(H2 O)` or `NA1 CL1` counted; None for what is no formula, as `NaClO(3-x)`."""
    if text is None:
        return None
    bare = re.sub(r"(?<=[\sA-Za-z0-9)])\d*[+-](?=\s|$)", "", text.strip(" '\"")).strip()
    total: dict[int, float] = {}
    for part in re.split(r"\s*[,·•*]\s*", bare):
        match = re.fullmatch(r"(\d+\.?\d*)?\s*(.+)", part)
        inside = None if match is None else _counted(match[2])
        if match is None or inside is None:
            return None
        for z, n in inside.items():
            total[z] = total.get(z, 0.0) + n * float(match[1] or 1)
    decimals = [len(found) for found in re.findall(r"\d*\.(\d+)", bare)]
    total = {z: n for z, n in total.items() if n > 0}
    return Formula(text, total, 0.5 * 10.0 ** -max(decimals) if decimals else 0.0) if total else None


def _counted(text: str) -> dict[int, float] | None:
    """A formula without adducts, brackets and all."""
    flat = text
    while match := re.search(r"[(\[{]([^()\[\]{}]*)[)\]}]\s*(\d+\.?\d*|\.\d+)?", flat):
        inside = _counted(match[1])
        if inside is None:
            return None
        times = float(match[2] or 1)
        words = " ".join(f"{_SYMBOLS[z]}{n * times:.10g}" for z, n in inside.items())
        flat = f"{flat[: match.start()]} {words} {flat[match.end() :]}"
    capitals = flat.upper() == flat
    amounts: dict[int, float] = {}
    for word in flat.split():
        parts = re.findall(r"([A-Z][a-z]?)(\d+\.?\d*|\.\d+)?", word)
        if "".join(a + b for a, b in parts) != word or any(_atomic_number(a) is None for a, _ in parts):
            single = re.fullmatch(r"([A-Z]{2})(\d+\.?\d*|\.\d+)?", word) if capitals else None
            if single is None or _atomic_number(single[1]) is None:
                return None
            parts = [(single[1], single[2] or "")]
        for name, amount in parts:
            z = _atomic_number(name)
            assert z is not None  # looked up above
            amounts[z] = amounts.get(z, 0.0) + float(amount or 1)
    return amounts or None


_SYMBOLS = {z: name for name, z in ATOMIC_NUMBERS.items()}
