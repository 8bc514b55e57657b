"""Whether two crystals are the same structure: pymatgen's StructureMatcher, each crystal reduced only once."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from crystalformer_rl.crystal.elements import reduced_composition
from crystalformer_rl.crystal.structure import Crystal

if TYPE_CHECKING:
    from pymatgen.core import Structure

Composition = tuple[tuple[int, int], ...]
"""A reduced composition as sorted pairs (atomic number, count); only crystals that share it can match."""


def composition_key(atomic_numbers: Any) -> Composition:
    """The reduced composition of a list of atomic numbers."""
    return tuple(sorted(reduced_composition(atomic_numbers).items()))


class MatchError(Exception):
    """The structure matcher cannot handle a crystal."""


@cache
def _matcher() -> Any:
    from pymatgen.analysis.structure_matcher import StructureMatcher

    # pymatgen's defaults, written out because the verdicts rest on them.
    return StructureMatcher(ltol=0.2, stol=0.3, angle_tol=5, primitive_cell=True, scale=True)


def to_structure(crystal: Crystal) -> Structure:
    """The crystal as a pymatgen Structure, without oxidation states."""
    from pymatgen.core import Lattice, Structure

    numbers = np.asarray(crystal.atomic_numbers).tolist()
    return Structure(Lattice(crystal.lattice), numbers, np.asarray(crystal.frac_coords, float))


def reduced_structure(crystal: Crystal) -> Structure:
    """The primitive Niggli cell that StructureMatcher compares, in its own order of steps.

    StructureMatcher would make it again for every pair; made once, a comparison
    within a bucket costs about a millisecond. Raises MatchError.
    """
    try:
        reduced = to_structure(crystal).get_reduced_structure(reduction_algo="niggli")
        return reduced.get_primitive_structure()
    # What pymatgen raises on cells it cannot reduce: a failed Niggli step, a singular matrix.
    except (ValueError, ArithmeticError, IndexError, np.linalg.LinAlgError) as error:
        raise MatchError(f"{crystal.formula}: {error}") from error


def same_structure(a: Structure, b: Structure) -> bool:
    """Whether two crystals match; both as `reduced_structure` gave them. Raises MatchError.

    Equal to `StructureMatcher().fit(a, b)` on the crystals before reduction.
    """
    if len(a) != len(b):
        return False
    try:
        return bool(_matcher().fit(a, b, skip_structure_reduction=True))
    except (ValueError, ArithmeticError, IndexError, np.linalg.LinAlgError) as error:
        raise MatchError(f"{a.composition.reduced_formula}: {error}") from error


def same_either_way(a: Structure, b: Structure) -> bool:
    """Whether two structures match in either order: at its tolerances the matcher may find one and not the other."""
    return same_structure(a, b) or same_structure(b, a)
