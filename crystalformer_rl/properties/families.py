"""Chemical families of crystals: those that share an anion, and those that share a kind of cation."""

from __future__ import annotations

from crystalformer_rl.crystal.elements import ATOMIC_NUMBERS, electronegativity_rank, parse_formula

_ANIONS = {
    "oxides": "O",
    "fluorides": "F",
    "chlorides": "Cl",
    "bromides, iodides": "Br I",
    "sulfides": "S",
    "selenides, tellurides": "Se Te",
    "nitrides": "N",
    "phosphides, arsenides, antimonides": "P As Sb",
    "hydrides": "H",
}
REST = "intermetallics and others"

_CATIONS = {
    "alkali": (3, 11, 19, 37, 55, 87),
    "alkaline earth": (4, 12, 20, 38, 56, 88),
    "rare earth, actinide": (21, 39, *range(57, 72), *range(89, 104)),
    "early transition": (*range(22, 25), *range(40, 43), *range(72, 75)),
    "late transition": (*range(25, 31), *range(43, 49), *range(75, 81)),
}
OTHER_CATIONS = "main group"

_ANION_OF = {ATOMIC_NUMBERS[name]: family for family, names in _ANIONS.items() for name in names.split()}
_CATION_OF = {z: family for family, members in _CATIONS.items() for z in members}


def anion_family(formula: str) -> str:
    """Family of the most electronegative element, such as `oxides`; an oxyfluoride is a fluoride."""
    return _ANION_OF.get(max(parse_formula(formula), key=electronegativity_rank), REST)


def cation_family(formula: str) -> str:
    """Family of the least electronegative element, such as `alkali`."""
    return _CATION_OF.get(min(parse_formula(formula), key=electronegativity_rank), OTHER_CATIONS)
