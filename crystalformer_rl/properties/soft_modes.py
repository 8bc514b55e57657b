"""Families of crystals whose ions answer a field so softly that the models underestimate the total dielectric constant.

Near a ferroelectric instability ε_total grows without bound and falls with temperature. At room temperature it is about 300 in
SrTiO₃, 400 in PbTe and 110 in rutile (mean over directions), where the models say 11, 78 and 20. Told by formula and space group.
"""

from __future__ import annotations

from crystalformer_rl.crystal.elements import ATOMIC_NUMBERS, reduced_composition
from crystalformer_rl.crystal.encode import space_group
from crystalformer_rl.crystal.structure import Crystal

_TOLERANCE = 0.1
"""Å; at which symmetry is looked for."""


def _numbers(symbols: str) -> frozenset[int]:
    return frozenset(ATOMIC_NUMBERS[name] for name in symbols.split())


_O = ATOMIC_NUMBERS["O"]
_LARGE = _numbers("Na K Rb Ag Ca Sr Ba Cd Sn Pb Eu Bi")
_D0 = {
    **dict.fromkeys(_numbers("Ti"), "perovskite titanate"),
    **dict.fromkeys(_numbers("Nb Ta"), "perovskite niobate or tantalate"),
}
_PEROVSKITES = frozenset({221, 99, 38, 160, 161, 140, 127, 62, 74, 123, 167})
"""Space groups of the cubic perovskite and of its common distortions."""
_BOND = 2.6
"""Å; longer than titanium, niobium and tantalum bind oxygen in octahedra, tetragonal ones too."""
_TETRELS, _CHALCOGENS = _numbers("Ge Sn Pb"), _numbers("S Se Te")
_ROCK_SALTS = frozenset({225, 160})
_RUTILE = 136


def soft_mode(crystal: Crystal) -> str | None:
    """The family of a crystal that is known for a soft mode, such as `perovskite titanate`; None for others."""
    counts = reduced_composition(crystal.atomic_numbers)
    family = _by_formula(counts)
    if family is None:
        return None
    name, groups = family
    if space_group(crystal, _TOLERANCE) not in groups:
        return None
    return name if len(counts) < 3 or _in_octahedra(crystal) else None


def _in_octahedra(crystal: Crystal) -> bool:
    """Whether each titanium, niobium or tantalum has six oxygen neighbours: aragonite and calcite have the formula, too."""
    from pymatgen.core import Lattice, Structure

    structure = Structure(Lattice(crystal.lattice), crystal.atomic_numbers.tolist(), crystal.frac_coords)
    centres = [k for k, z in enumerate(crystal.atomic_numbers) if int(z) in _D0]
    near = [[n for n in structure.get_neighbors(structure[k], _BOND) if n.specie.Z == _O] for k in centres]
    return all(len(neighbours) == 6 for neighbours in near)


def _by_formula(counts: dict[int, int]) -> tuple[str, frozenset[int]] | None:
    elements = set(counts)
    if sorted(counts.values()) == [1, 1, 3] and counts.get(_O) == 3:
        for metal in sorted(elements & set(_D0)):
            if elements - {metal, _O} <= _LARGE:
                return _D0[metal], _PEROVSKITES
    if sorted(counts.values()) == [1, 1] and elements & _TETRELS and elements & _CHALCOGENS:
        return "IV–VI rock salt", _ROCK_SALTS
    if counts == {ATOMIC_NUMBERS["Ti"]: 1, _O: 2}:
        return "rutile", frozenset({_RUTILE})
    return None
