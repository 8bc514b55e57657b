"""What a reference knows: its structures by composition, its formulas, prototypes and chemical systems."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

from crystalformer_rl.crystal.elements import parse_formula
from crystalformer_rl.crystal.prototype import Prototype, prototype
from crystalformer_rl.crystal.structure import crystals_from_table
from crystalformer_rl.discovery.matching import Composition, MatchError, composition_key, reduced_structure, same_structure
from crystalformer_rl.errors import InputError
from crystalformer_rl.tables.energy_columns import REFERENCE
from crystalformer_rl.tables.parquet import read_table

if TYPE_CHECKING:
    from pymatgen.core import Structure

PRETRAINING = "pretraining"
HELD_OUT = "held_out"
HULL_ONLY = "hull_only"
_ROLES = (PRETRAINING, HELD_OUT, HULL_ONLY)

LEVELS = {
    "structure": "the structure itself",
    "formula": "the formula, in other structures",
    "prototype": "not the formula, but the Wyckoff prototype with other elements",
    "chemical_system": "neither, but other compounds of exactly these elements",
    "none": "nothing of these",
}
"""What a reference can know of a crystal, most first; a crystal has the first level that applies."""

_Anonymous = tuple[int, tuple[int, ...]]
"""Space group and sorted counts of the reduced formula: what entries of one prototype share."""


class Match(NamedTuple):
    """An entry of the reference that is the same structure."""

    id: str
    role: str


@dataclass(repr=False)
class Known:
    """The entries of a reference, indexed so that a query touches only what can match it.

    Structures are built and reduced when a crystal of their composition asks for them.
    `unreadable` lists the ids of entries that the structure matcher could not handle.
    """

    ids: list[str]
    roles: list[str]
    table: pa.Table
    rows_of: dict[Composition, list[int]] = field(default_factory=dict)
    systems: set[frozenset[int]] = field(default_factory=set)
    unreadable: list[str] = field(default_factory=list)
    _tokens_of: dict[_Anonymous, list[int]] = field(default_factory=dict)
    _prototypes: dict[_Anonymous, set[Prototype]] = field(default_factory=dict)
    _structures: dict[int, Structure | None] = field(default_factory=dict)

    @classmethod
    def from_reference(cls, path: str | Path) -> Known:
        """Read a REFERENCE file. Raises InputError for a missing column or an unknown role."""
        columns = {column.name: column for column in REFERENCE}
        table = read_table(
            path, [columns[name] for name in ("id", "formula", "atomic_numbers", "frac_coords", "lattice", "role")]
        )
        roles = table.column("role").to_pylist()
        wrong = sorted({str(role) for role in roles} - set(_ROLES))
        if wrong:
            raise InputError(
                f"{path}, column 'role': '{wrong[0]}' is not one of {', '.join(_ROLES)}; correct the reference."
            )
        if PRETRAINING not in roles:
            raise InputError(
                f"{path} has no rows of role 'pretraining', so nothing can be called new; use a whole reference."
            )
        known = cls(table.column("id").to_pylist(), roles, table)
        known._index(str(path))
        return known

    def _index(self, source: str) -> None:
        numbers = self.table.column("atomic_numbers").to_pylist()
        formulas = self.table.column("formula").to_pylist()
        has_tokens = {"space_group", "wyckoff", "elements"} <= set(self.table.column_names)
        groups = self.table.column("space_group").to_pylist() if has_tokens else [None] * len(self.ids)
        for row, (atoms, formula, group) in enumerate(zip(numbers, formulas, groups, strict=True)):
            key = self._composition(source, row, atoms, formula)
            if key is None:
                continue
            self.systems.add(frozenset(z for z, _ in key))
            self.rows_of.setdefault(key, []).append(row)
            if group is not None:
                self._tokens_of.setdefault((group, _counts(key)), []).append(row)

    def _composition(self, source: str, row: int, atoms: list[int] | None, formula: str | None) -> Composition | None:
        if atoms:
            return composition_key(atoms)
        if not formula:
            return None
        try:
            return composition_key([z for z, n in parse_formula(formula).items() for _ in range(n)])
        except InputError as error:
            raise InputError(f"{source}, row '{self.ids[row]}': {error}") from error

    def find(self, structure: Structure, key: Composition) -> Match | None:
        """The first entry that matches `structure` (reduced); a pretraining entry before a held-out one."""
        rows = [row for row in self.rows_of.get(key, ()) if self.roles[row] != HULL_ONLY]
        self._load(row for row in rows if row not in self._structures)
        for role in (PRETRAINING, HELD_OUT):
            for row in rows:
                known = self._structures[row]
                if self.roles[row] == role and known is not None and same_structure(structure, known):
                    return Match(self.ids[row], role)
        return None

    def level(self, key: Composition, found: bool, own: Prototype | None) -> str:
        """The first of `LEVELS` that applies: `found`, a structure matches; `own`, the crystal's prototype if it has one."""
        if found:
            return "structure"
        if key in self.rows_of:
            return "formula"
        if own is not None and own in self._prototypes_like((own[0], _counts(key))):
            return "prototype"
        return "chemical_system" if frozenset(z for z, _ in key) in self.systems else "none"

    def _load(self, rows: Iterable[int]) -> None:
        """Build and reduce the crystals of `rows`; None for those that no matcher can handle."""
        rows = list(rows)
        if not rows:
            return
        crystals, _ = crystals_from_table(self.table.take(rows).select(["atomic_numbers", "frac_coords", "lattice"]))
        for row, crystal in zip(rows, crystals, strict=True):
            try:
                self._structures[row] = None if crystal is None else reduced_structure(crystal)
            except MatchError:
                self._structures[row] = None
            if self._structures[row] is None:
                self.unreadable.append(self.ids[row])

    def _prototypes_like(self, shared: _Anonymous) -> set[Prototype]:
        if shared not in self._prototypes:
            rows = pa.array(self._tokens_of.get(shared, []), pa.int64())
            tokens = self.table.select(["wyckoff", "elements"]).take(rows).to_pylist() if len(rows) else []
            self._prototypes[shared] = {
                prototype(shared[0], row["wyckoff"], row["elements"]) for row in tokens if row["wyckoff"] and row["elements"]
            }
        return self._prototypes[shared]


def _counts(key: Composition) -> tuple[int, ...]:
    return tuple(np.sort([n for _, n in key]).tolist())
