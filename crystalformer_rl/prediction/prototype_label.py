"""A structure's prototype in one word, in the manner of AFLOW's labels (D. Hicks et al., npj Comput. Mater. 7, 30, 2021)."""

from __future__ import annotations

import math
from itertools import groupby

from crystalformer_rl.crystal.prototype import prototype
from crystalformer_rl.crystal.tokens import Sites
from crystalformer_rl.crystal.wyckoff import letter_name, wyckoff_table
from crystalformer_rl.discovery.cif import space_group_symbol

_SYSTEMS = ((2, "a"), (15, "m"), (74, "o"), (142, "t"), (194, "h"), (230, "c"))
_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def prototype_label(sites: Sites) -> str:
    """Stoichiometry, Pearson symbol, space group and the Wyckoff letters of each element: rock salt is `AB_cF8_225_a_b`.

    Equal for structures of one prototype, whatever their elements and origin. Elements come by rising number of atoms, then by
    letters. As with AFLOW the atoms of a rhombohedral crystal are those of its primitive cell.
    """
    group, form = prototype(sites.space_group, sites.wyckoff, sites.elements)
    table = wyckoff_table()
    roles = sorted((sum(table.multiplicity(group, letter) for letter in letters), letters) for letters in form)
    divisor = math.gcd(*(atoms for atoms, _ in roles))
    stoichiometry = "".join(f"{name}{_number(atoms // divisor)}" for name, (atoms, _) in zip(_ALPHABET, roles, strict=False))
    centring = space_group_symbol(group)[0]
    atoms = sum(atoms for atoms, _ in roles) // (3 if centring == "R" else 1)
    system = next(letter for last, letter in _SYSTEMS if group <= last)
    positions = "_".join(_letters(letters) for _, letters in roles)
    return f"{stoichiometry}_{system}{centring}{atoms}_{group}_{positions}"


def _letters(letters: tuple[int, ...]) -> str:
    counted = ((letter, len(list(run))) for letter, run in groupby(sorted(letters)))
    return "".join(f"{_number(n)}{letter_name(letter)}" for letter, n in counted)


def _number(n: int) -> str:
    return "" if n == 1 else str(n)
