"""The Materials Project's energy corrections of 2020 (MP2020), by pymatgen.

The corrections of anions and of the mixing of GGA with GGA+U: A. Wang et al., Sci. Rep. 11, 15496 (2021);
A. Jain et al., Phys. Rev. B 84, 045115 (2011). pymatgen's `MaterialsProject2020Compatibility` computes
them; nothing of the scheme is repeated here.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa

from crystalformer_rl.crystal.elements import ATOMIC_NUMBERS, SYMBOLS, composition, electronegativity_rank
from crystalformer_rl.crystal.structure import Crystal, crystals_from_table
from crystalformer_rl.reference.oxidation_states import may_be_second_anion, oxidation_states
from crystalformer_rl.tables.status import OK, Status

_OXYGEN, _SULFUR = 8, 16


class NoCorrectionError(ValueError):
    """The scheme does not apply to this run, or pymatgen cannot work it out."""


class MP2020:
    """MP2020 corrections in eV/atom.

    Which oxide a compound of oxygen is (oxide, peroxide, superoxide, ozonide), and whether its sulfur is a
    sulfide, is decided by the distances in the structure; without one pymatgen guesses from the formula. Oxidation
    states of the other anions are guessed from the reduced composition, of any size (pymatgen gives up beyond 20 atoms, and then
    corrects the most electronegative anion alone): only where the scheme looks at them, and no composition twice.
    """

    def __init__(self) -> None:
        from pymatgen.entries.compatibility import MaterialsProject2020Compatibility

        # which pseudopotentials were used is for whoever made the entries to say; predicted energies have none
        self._scheme = MaterialsProject2020Compatibility(check_potcar=False)
        # sulfur has a key too, but goes by its distances
        self._guessed = {ATOMIC_NUMBERS[key] for key in self._scheme.comp_correction if key in ATOMIC_NUMBERS} - {_SULFUR}
        self._oxidation_states: dict[tuple[tuple[int, int], ...], dict[str, float]] = {}

    def hubbards(self, counts: Mapping[int, int]) -> dict[str, float]:
        """{symbol: U in eV} of the Materials Project's input set: Co, Cr, Fe, Mn, Mo, Ni, V, W in oxides and fluorides."""
        elements = _composition(counts).elements
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # the scheme's own words: which anion it is, is settled by the most electronegative element
            anion = sorted(elements, key=lambda element: element.X)[-1].symbol
        values = self._scheme.u_settings.get(anion, {})
        return {element.symbol: float(values[element.symbol]) for element in elements if element.symbol in values}

    def correction(
        self,
        counts: Mapping[int, int],
        crystal: Crystal | None = None,
        *,
        hubbards: Mapping[str, float] | None = None,
        hints: Mapping[str, Any] | None = None,
    ) -> float:
        """What must be added to an uncorrected PBE(+U) energy, eV/atom.

        counts: {atomic number: atoms}; crystal: of the same composition, where known. hubbards: {symbol: U in eV} of
        the run, by default those of the Materials Project's input set. hints: oxide_type, sulfide_type or
        oxidation_states that are known already. Raises NoCorrectionError, as for an iron oxide without U, and where nothing says
        whether a second anion is one.
        """
        used = dict(self.hubbards(counts) if hubbards is None else hubbards)
        data = dict(hints or {})
        # an empty guess is what pymatgen gave up on
        data["oxidation_states"] = data.get("oxidation_states") or self._guess(counts)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                entry = _entry(counts, crystal, {"run_type": "GGA+U" if used else "GGA", "hubbards": used}, data)
                adjustments = self._scheme.get_adjustments(entry)
            # pymatgen's analysers meet arbitrary structures and labels; whatever they raise means: no correction.
            except Exception as error:
                raise NoCorrectionError(str(error).split(" for {", 1)[0]) from error
        return float(sum(adjustment.value for adjustment in adjustments)) / sum(counts.values())

    def _guess(self, counts: Mapping[int, int]) -> dict[str, float]:
        """{symbol: mean oxidation state}, empty where the scheme needs none. Raises NoCorrectionError where it needs what is unknown."""
        if len(counts) < 2 or not self._guessed & counts.keys():
            return {}
        divisor = math.gcd(*counts.values())
        reduced = {z: counts[z] // divisor for z in sorted(counts, key=electronegativity_rank)}
        key = tuple(reduced.items())
        if key not in self._oxidation_states:
            self._oxidation_states[key] = oxidation_states(reduced)
        found = self._oxidation_states[key]
        if not found:
            unknown = [z for z in self._guessed & counts.keys() if may_be_second_anion(z, reduced)]
            if unknown:
                names = " and ".join(SYMBOLS[z - 1] for z in sorted(unknown))
                raise NoCorrectionError(f"no oxidation states cancel, so whether {names} is an anion is not known")
        return found


def corrected(
    relaxed: pa.Table, scheme: MP2020, advance: Callable[[int], Any] | None = None
) -> tuple[pa.Table, dict[str, int]]:
    """`relaxed` with MP2020 corrections added to `energy` and `energy_initial`, eV/atom.

    The structure of a row (columns frac_coords and lattice), which is the relaxed one, decides for both energies. A row of
    status ok that cannot be corrected becomes `no_correction`. Returns the table and how many rows were
    corrected by `structure`, by `composition` alone for want of one, or not: `failed`.
    """
    numbers = relaxed.column("atomic_numbers").to_pylist()
    crystals = _crystals(relaxed)
    statuses = _column(relaxed, "status")
    added: list[float | None] = []
    counted = {"structure": 0, "composition": 0, "failed": 0}
    for i, atoms in enumerate(numbers):
        value, how = None, ""
        if statuses[i] in (OK, None) and _known(atoms):
            value, how = _row_correction(scheme, atoms, crystals[i])
            counted[how] += 1
        if how == "failed":
            statuses[i] = Status.NO_CORRECTION
        added.append(value)
        if advance is not None:
            advance(1)
    for name in ("energy", "energy_initial"):
        if name in relaxed.column_names:
            energies = relaxed.column(name).to_pylist()
            summed = [None if e is None or a is None else e + a for e, a in zip(energies, added, strict=True)]
            relaxed = _replaced(relaxed, name, pa.array(summed, pa.float64()))
    return _replaced(relaxed, "status", pa.array(statuses, pa.string())), counted


def _row_correction(scheme: MP2020, atoms: list[int], crystal: Crystal | None) -> tuple[float | None, str]:
    try:
        return scheme.correction(composition(atoms), crystal), "composition" if crystal is None else "structure"
    except NoCorrectionError:
        return None, "failed"


def _crystals(table: pa.Table) -> list[Crystal | None]:
    if not {"frac_coords", "lattice"} <= set(table.column_names):
        return [None] * table.num_rows
    crystals, statuses = crystals_from_table(table)
    return [c if s == OK else None for c, s in zip(crystals, statuses, strict=True)]


def _known(atoms: list[int | None] | None) -> bool:
    return atoms is not None and len(atoms) > 0 and all(z is not None and 1 <= z <= len(SYMBOLS) for z in atoms)


def _column(table: pa.Table, name: str) -> list[Any]:
    return table.column(name).to_pylist() if name in table.column_names else [None] * table.num_rows


def _replaced(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    if name not in table.column_names:
        return table.append_column(name, values)
    return table.set_column(table.column_names.index(name), name, values)


def _composition(counts: Mapping[int, int]) -> Any:
    """Pymatgen's composition, elements always in one order.

    The scheme looks for the most electronegative element, and pymatgen settles ties (Cu and Si, H and Pd) by the order
    of the elements. A correction must not depend on the order of atoms, so it is fixed: that of sorted structures.
    """
    from pymatgen.core import Composition

    return Composition({SYMBOLS[z - 1]: counts[z] for z in sorted(counts, key=electronegativity_rank)})


def _entry(counts: Mapping[int, int], crystal: Crystal | None, parameters: dict[str, Any], data: dict[str, Any]) -> Any:
    """An entry of pymatgen's of this composition; with the structure only where the scheme looks at it."""
    from pymatgen.core import Lattice, Structure
    from pymatgen.entries.computed_entries import ComputedEntry, ComputedStructureEntry

    if crystal is None or len(counts) < 2 or not counts.keys() & {_OXYGEN, _SULFUR}:
        return ComputedEntry(_composition(counts), 0.0, parameters=parameters, data=data)
    structure = Structure(
        Lattice(crystal.lattice), [SYMBOLS[int(z) - 1] for z in crystal.atomic_numbers], crystal.frac_coords
    )
    return ComputedStructureEntry(structure, 0.0, composition=_composition(counts), parameters=parameters, data=data)
