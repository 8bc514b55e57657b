"""Compounds of textbooks in their known structures, with lattice constants as measured at room temperature, Å.

Values as in C. Kittel, Introduction to Solid State Physics; R. W. G. Wyckoff, Crystal Structures; S. Adachi, Properties of
Group-IV, III-V and II-VI Semiconductors. Where a compound has several phases, one that is stable at room temperature, or the
undistorted parent (BaTiO3) that lies within a few meV/atom of it.
"""

from __future__ import annotations

import numpy as np

from crystalformer_rl.crystal.elements import ATOMIC_NUMBERS
from crystalformer_rl.crystal.structure import Crystal
from crystalformer_rl.crystal.tokens import Sites, primitive

ROCK_SALT = """
    Li F 4.026  Li Cl 5.130  Li Br 5.501  Li I 6.000  Li H 4.083  Na F 4.632  Na Cl 5.640  Na Br 5.973  Na I 6.473  Na H 4.880
    K F 5.347  K Cl 6.293  K Br 6.600  K I 7.066  Rb F 5.652  Rb Cl 6.581  Rb Br 6.889  Rb I 7.342  Cs F 6.008
    Mg O 4.212  Ca O 4.811  Sr O 5.160  Ba O 5.539  Mg S 5.203  Ca S 5.695  Sr S 6.020  Ba S 6.389  Ca Se 5.916  Sr Se 6.243
    Ba Se 6.600  Ca Te 6.356  Sr Te 6.660  Ba Te 7.007  Pb S 5.936  Pb Se 6.124  Pb Te 6.462  Sn Te 6.318  Ag Cl 5.556
    Ag Br 5.775  Cd O 4.695  Mn O 4.445  Co O 4.260  Ni O 4.177  Ti N 4.240  Ti C 4.328  V N 4.139  Zr N 4.578  Zr C 4.698
    Hf C 4.638  Nb C 4.470  Ta C 4.456  Sc N 4.500  La N 5.300  Eu O 5.141
"""
ZINC_BLENDE = """
    Ga As 5.653  Ga P 5.451  Ga Sb 6.096  In P 5.869  In As 6.058  In Sb 6.479  Al P 5.464  Al As 5.661  Al Sb 6.136
    Zn S 5.409  Zn Se 5.668  Zn Te 6.104  Cd Te 6.482  Hg Te 6.461  Hg Se 6.085  Cu Cl 5.416  Cu Br 5.691  Cu I 6.052
    Ag I 6.495  B N 3.616  B P 4.538  B As 4.777  Si C 4.360  Be S 4.870  Be Se 5.137  Be Te 5.626
"""
WURTZITE = """
    Zn O 3.250 5.207 0.382  Ga N 3.189 5.185 0.377  Al N 3.112 4.982 0.382  In N 3.545 5.703 0.379  Be O 2.698 4.377 0.378
    Cd S 4.136 6.714 0.377  Cd Se 4.299 7.010 0.376
"""
CAESIUM_CHLORIDE = """
    Cs Cl 4.123  Cs Br 4.286  Cs I 4.567  Tl Cl 3.834  Tl Br 3.986  Ni Al 2.887  Cu Zn 2.950  Ag Mg 3.313  Fe Al 2.909
    Co Al 2.862
"""
FLUORITE = """
    Ca F 5.463  Sr F 5.800  Ba F 6.200  Cd F 5.388  Pb F 5.940  Sr Cl 6.977  Ce O 5.411  Th O 5.597  U O 5.471
"""
ANTIFLUORITE = """
    O Li 4.619  O Na 5.550  O K 6.436  O Rb 6.740  S Li 5.710  S Na 6.526  S K 7.391  Se Li 6.005  Si Mg 6.351  Ge Mg 6.378
    Sn Mg 6.763  C Be 4.340
"""
PEROVSKITE = """
    Sr Ti O 3.905  Ba Ti O 4.000  K Ta O 3.989  Ba Zr O 4.193  Ba Hf O 4.171  K Mg F 3.989  K Zn F 4.055  K Mn F 4.190
    K Ni F 4.013  Cs Ca F 4.524  Cs Cd F 4.470  Ba Li F 3.995  Cs Pb Cl 5.605
"""
RUTILE = """
    Ti O 4.593 2.959 0.305  Sn O 4.737 3.186 0.307  Ge O 4.395 2.860 0.306  Ru O 4.492 3.107 0.306  Ir O 4.498 3.154 0.308
    Mn O 4.398 2.873 0.305  Pb O 4.958 3.388 0.307  Mg F 4.621 3.052 0.303  Zn F 4.703 3.134 0.303  Mn F 4.874 3.310 0.305
    Ni F 4.650 3.084 0.302  Co F 4.695 3.179 0.306  Fe F 4.697 3.309 0.301
"""


def _rows(text: str, elements: int, numbers: int) -> list[tuple[list[int], list[float]]]:
    words, width = text.split(), elements + numbers
    parts = [words[k : k + width] for k in range(0, len(words), width)]
    return [([ATOMIC_NUMBERS[w] for w in part[:elements]], [float(w) for w in part[elements:]]) for part in parts]


def _cubic(group: int, a: float, sites: list[tuple[int, int, tuple[float, float, float]]]) -> Crystal:
    return _crystal(group, (a, a, a, 90, 90, 90), sites)


def _crystal(group: int, cell: tuple[float, ...], sites: list[tuple[int, int, tuple[float, float, float]]]) -> Crystal:
    letters, elements, coords = zip(*sites, strict=True)
    return primitive(Sites(group, np.array(letters), np.array(elements), np.array(coords, float), np.array(cell, float)))


def textbook_crystals() -> dict[str, list[Crystal]]:
    """Primitive cells by structure type."""
    origin, half, quarter = (0.0, 0.0, 0.0), (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
    return {
        "rock salt": [_cubic(225, a, [(1, m, origin), (2, x, half)]) for (m, x), (a,) in _rows(ROCK_SALT, 2, 1)],
        "zinc blende": [_cubic(216, a, [(1, m, origin), (3, x, quarter)]) for (m, x), (a,) in _rows(ZINC_BLENDE, 2, 1)],
        "wurtzite": [
            _crystal(186, (a, a, c, 90, 90, 120), [(2, m, (1 / 3, 2 / 3, 0.0)), (2, x, (1 / 3, 2 / 3, u))])
            for (m, x), (a, c, u) in _rows(WURTZITE, 2, 3)
        ],
        "caesium chloride": [
            _cubic(221, a, [(1, m, origin), (2, x, half)]) for (m, x), (a,) in _rows(CAESIUM_CHLORIDE, 2, 1)
        ],
        "fluorite": [_cubic(225, a, [(1, m, origin), (3, x, quarter)]) for (m, x), (a,) in _rows(FLUORITE, 2, 1)],
        "antifluorite": [_cubic(225, a, [(1, x, origin), (3, m, quarter)]) for (x, m), (a,) in _rows(ANTIFLUORITE, 2, 1)],
        "perovskite": [
            _cubic(221, a, [(1, m, origin), (2, b, half), (3, x, (0.0, 0.5, 0.5))])
            for (m, b, x), (a,) in _rows(PEROVSKITE, 3, 1)
        ],
        "rutile": [
            _crystal(136, (a, a, c, 90, 90, 90), [(1, m, origin), (6, x, (u, u, 0.0))])
            for (m, x), (a, c, u) in _rows(RUTILE, 2, 3)
        ],
    }
