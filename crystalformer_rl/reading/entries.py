"""Computed entries of others, as pymatgen writes them: composition, DFT energy, corrections, perhaps a structure.

The dictionaries are read here, not by pymatgen's own decoder: the layout has been the same
for years while the modules that files name have moved, the decoder imports whatever modules a
file names, and a hull of several 100,000 entries must not lie in memory as objects. So one
entry at a time is decoded, and what is kept of it is small.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeGuard

from crystalformer_rl.crystal.elements import composition, reduced_formula
from crystalformer_rl.crystal.structure import Crystal
from crystalformer_rl.errors import InputError
from crystalformer_rl.reading.files import stem
from crystalformer_rl.reading.found import NotRead, found
from crystalformer_rl.reading.json_stream import members
from crystalformer_rl.reading.structure_dict import atomic_number, crystal_of, is_structure
from crystalformer_rl.tables.status import Status

MP2020 = "MP2020"
"""The scheme of corrections whose adjustments pymatgen names `MP2020 anion correction (oxide)` and so on."""

OTHER_SCHEME = "other"
"""Corrections that are carried without a name, or under another scheme's."""

_ID_KEYS = ("mat_id", "material_id")
#: Column of a crystals table → names in an entry's `data` that mean this and nothing else, eV/atom or eV.
_LABEL_KEYS = {
    "dft_e_above_hull": ("e_above_hull", "energy_above_hull", "e_above_hull_per_atom"),
    "dft_formation_energy": ("formation_energy_per_atom", "e_form_per_atom"),
    "dft_band_gap": ("band_gap",),
}
LABELS = tuple(_LABEL_KEYS)
"""Columns of DFT labels that an entry may bring."""

_HINT_KEYS = ("oxide_type", "sulfide_type", "oxidation_states")  # what pymatgen's corrections look for in `data`
_SAME_ENERGY = 1e-3  # eV a cell


@dataclass(frozen=True, slots=True)
class DftEntry:
    """One computed entry.

    status: `ok`, or why the entry has no composition or no energy. counts: {atomic number: atoms} of its cell.
    energy: uncorrected, eV/atom. correction: eV/atom that the file carries, None where it carries none;
    scheme: `MP2020`, `other`, or None with no correction. run_type, hubbards ({symbol: eV}): None where not given.
    crystal: None where there is no ordered structure; `crystal_status` says why, and `note` what it leaves unsaid. hints: oxide_type,
    sulfide_type and oxidation_states as far as given. labels: `LABELS` as far as given.
    """

    id: str
    status: str
    counts: Mapping[int, int] | None = None
    energy: float | None = None
    correction: float | None = None
    scheme: str | None = None
    run_type: str | None = None
    hubbards: Mapping[str, float] | None = None
    crystal: Crystal | None = None
    crystal_status: str = Status.UNREADABLE
    note: str | None = None
    hints: Mapping[str, Any] = field(default_factory=dict)
    labels: Mapping[str, float] = field(default_factory=dict)

    @property
    def atomic_numbers(self) -> list[int]:
        """Of each atom: in the structure's order, or by rising number without a structure."""
        if self.crystal is not None:
            return [int(z) for z in self.crystal.atomic_numbers]
        return [z for z, n in (self.counts or {}).items() for _ in range(n)]

    @property
    def formula(self) -> str | None:
        """Reduced formula; None without a composition."""
        numbers = self.atomic_numbers
        return reduced_formula(numbers) if numbers else None


def read_entries(
    paths: str | Path | Sequence[str | Path], advance: Callable[[int], object] | None = None
) -> Iterator[DftEntry]:
    """The entries of one or several files, one at a time, in order.

    A file holds a list of ComputedEntry or ComputedStructureEntry dictionaries (pymatgen's `as_dict`, `dumpfn` or
    `MontyEncoder`), or a dictionary with such a list under `entries`; plain, gzip or bzip2. `advance` is called with
    the number of bytes of the files just read.

    An entry's id is its entry_id, else mat_id or material_id of its data, else the file's stem and its index. Where an id
    comes again, the second gets `#2` after it, the third `#3`: nothing is dropped. An entry that cannot be
    read keeps its place, with a status. Raises InputError for a file that cannot be read or holds no entries.
    """
    seen: dict[str, int] = {}
    for path in [paths] if isinstance(paths, str | Path) else paths:
        recognized = 0
        for index, item in enumerate(members(Path(path), advance)):
            recognized += looks_like_an_entry(item)
            entry = entry_of(item, f"{stem(Path(path).name)}-{index}")
            yield replace(entry, id=_unique(entry.id, seen))
        if not recognized:
            raise InputError(
                f"{path} holds no computed entries; give a list of pymatgen's ComputedEntry or ComputedStructureEntry "
                "dictionaries, or a dictionary with such a list under 'entries'."
            )


def _unique(name: str, seen: dict[str, int]) -> str:
    seen[name] = seen.get(name, 0) + 1
    if seen[name] == 1:
        return name
    return _unique(f"{name}#{seen[name]}", seen)


# --- one entry ----------------------------------------------------------------


def looks_like_an_entry(item: Any) -> bool:
    """Whether a value is a dictionary with an energy and a composition or structure."""
    return isinstance(item, dict) and "energy" in item and ("composition" in item or "structure" in item)


def entry_of(item: Any, name: str) -> DftEntry:
    """One entry of its dictionary; `name` is its id where it has none of its own."""
    if not isinstance(item, dict):
        return DftEntry(name, Status.UNREADABLE)
    data, parameters = _dict(item.get("data")), _dict(item.get("parameters"))
    crystal, crystal_found, note = _crystal(item.get("structure"))
    entry = DftEntry(
        _id(item, data) or name,
        Status.OK,
        run_type=_text(parameters.get("run_type")) or _text(data.get("run_type")),
        hubbards=_hubbards(parameters.get("hubbards")),
        crystal=crystal,
        crystal_status=crystal_found,
        note=note,
        hints={key: data[key] for key in _HINT_KEYS if data.get(key) is not None},
        labels=_labels(data),
    )
    amounts, status = _amounts(item.get("composition"), crystal)
    counts = None if amounts is None else _whole(amounts)
    if amounts is None or counts is None:
        return replace(entry, status=status if amounts is None else Status.UNREADABLE)
    if crystal is not None and _reduced(counts) != _reduced(composition(crystal.atomic_numbers)):
        return replace(entry, status=Status.UNREADABLE, crystal=None, crystal_status=Status.UNREADABLE)
    energy, correction, scheme = _energies(item, data)
    if energy is None or not _finite(correction or 0.0):
        return replace(entry, status=Status.NO_ENERGY, counts=counts)
    atoms = sum(amounts.values())
    per_atom = None if correction is None else correction / atoms
    return replace(entry, counts=counts, energy=energy / atoms, correction=per_atom, scheme=scheme)


def _id(item: Mapping[str, Any], data: Mapping[str, Any]) -> str | None:
    found = (item.get("entry_id"), *(data.get(key) for key in _ID_KEYS))
    return next((str(name) for name in found if isinstance(name, str | int) and str(name)), None)


def _amounts(given: Any, crystal: Crystal | None) -> tuple[dict[int, float] | None, str]:
    """{atomic number: amount} of the cell whose energy is given, and the status that says why there is none."""
    if given is None and crystal is not None:
        return {z: float(n) for z, n in composition(crystal.atomic_numbers).items()}, Status.OK
    if not isinstance(given, dict):
        return None, Status.UNREADABLE
    amounts: dict[int, float] = {}
    for species, amount in given.items():
        if not _finite(amount) or amount < 0:
            return None, Status.UNREADABLE
        z = atomic_number(species)
        if z is None:
            return None, Status.UNKNOWN_ELEMENT
        if amount > 0:
            amounts[z] = amounts.get(z, 0.0) + amount
    return (dict(sorted(amounts.items())), Status.OK) if amounts else (None, Status.EMPTY_CRYSTAL)


def _whole(amounts: Mapping[int, float]) -> dict[int, int] | None:
    """Whole numbers of atoms in the proportion of `amounts` (entries may be normalized to one atom); None for none."""
    fractions = {z: Fraction(n).limit_denominator(1000) for z, n in amounts.items()}
    scale = math.lcm(*(f.denominator for f in fractions.values()))
    counts = {z: int(f * scale) for z, f in fractions.items()}
    near = all(abs(counts[z] - n * scale) < 1e-3 * scale for z, n in amounts.items())
    return counts if near and min(counts.values()) > 0 and scale <= 1000 else None


def _reduced(counts: Mapping[int, int]) -> dict[int, int]:
    divisor = math.gcd(*counts.values())
    return {z: n // divisor for z, n in sorted(counts.items())}


def _crystal(structure: Any) -> tuple[Crystal | None, str, str | None]:
    """The crystal, its status, and what the status leaves unsaid."""
    if structure is None:
        return None, Status.NO_STRUCTURE, None
    if not is_structure(structure):
        return None, Status.UNREADABLE, "its structure is no dictionary with lattice and sites"
    try:
        row = found("", crystal_of(structure))
    except NotRead as error:
        return None, error.status, error.note
    return row.crystal, row.status, row.note


def _energies(item: Mapping[str, Any], data: Mapping[str, Any]) -> tuple[float | None, float | None, str | None]:
    """Uncorrected energy and carried correction of the cell, eV, and the correction's scheme."""
    energy: Any = item.get("energy")
    if not _finite(energy):
        return None, None, None
    correction, scheme = _carried(item)
    total: Any = data.get("energy_total")
    corrected: Any = data.get("energy_corrected")
    # Alexandria's names: where `energy` is the corrected one, corrections must not be added to it again
    named = not correction and _finite(total) and _finite(corrected)
    if named and abs(corrected - energy) < _SAME_ENERGY < abs(total - energy):
        return float(total), float(energy - total), OTHER_SCHEME
    return float(energy), correction, scheme


def _carried(item: Mapping[str, Any]) -> tuple[float | None, str | None]:
    """The correction (eV) that an entry carries and its scheme: the adjustments, as pymatgen has it, or the plain number."""
    adjustments = item.get("energy_adjustments") or []
    if isinstance(adjustments, list) and adjustments:
        named = all(isinstance(a, dict) and str(a.get("name", "")).startswith(MP2020) for a in adjustments)
        values = [_adjustment(a) for a in adjustments]
        scheme = MP2020 if named else OTHER_SCHEME
        if all(value is not None for value in values):
            return math.fsum(value for value in values if value is not None), scheme
        return (item["correction"] if _finite(item.get("correction")) else math.nan), scheme
    correction = item.get("correction")
    return (float(correction), OTHER_SCHEME) if _finite(correction) and correction else (None, None)


def _adjustment(given: Any) -> float | None:
    """Value of one energy adjustment, eV: constant, by atoms, or by atoms and temperature."""
    if not isinstance(given, dict):
        return None
    for keys in (("value",), ("adj_per_atom", "n_atoms"), ("adj_per_deg", "temp", "n_atoms")):
        if all(_finite(given.get(key)) for key in keys):
            return math.prod(given[key] for key in keys)
    return None


def _hubbards(given: Any) -> dict[str, float] | None:
    if not isinstance(given, dict):
        return None
    return {str(symbol): float(u) for symbol, u in given.items() if _finite(u) and u}


def _labels(data: Mapping[str, Any]) -> dict[str, float]:
    found = {}
    for label, keys in _LABEL_KEYS.items():
        value = next((data[key] for key in keys if _finite(data.get(key))), None)
        if value is not None:
            found[label] = float(value)
    return found


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _finite(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
