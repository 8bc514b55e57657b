"""What a reference knows: its structures by composition, its formulas, prototypes and chemical systems."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

from crystalformer_rl.crystal.chemical_system import chemical_system, chemical_systems
from crystalformer_rl.crystal.elements import parse_formula, reduced_formula
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

KNOWN_COMPOUND = ("structure", "formula")
"""Levels of a compound that is known, if in another structure; what has none of these is new in words."""

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
    `rows_of`: entries with a geometry; `formulas`: reduced formula → an entry of it, geometry or not; `systems`: the chemical
    systems of all. `unreadable` lists the ids of entries that the structure matcher could not handle.
    """

    ids: list[str]
    roles: list[str]
    table: pa.Table
    rows_of: dict[Composition, list[int]] = field(default_factory=dict)
    formulas: dict[str, int] = field(default_factory=dict)
    systems: dict[str, int] = field(default_factory=dict)
    unreadable: list[str] = field(default_factory=list)
    _tokens_of: dict[_Anonymous, list[int]] = field(default_factory=dict)
    _prototypes: dict[_Anonymous, dict[Prototype, int]] = field(default_factory=dict)
    _structures: dict[int, Structure | None] = field(default_factory=dict)

    @classmethod
    def from_reference(cls, path: str | Path) -> Known:
        """Read a REFERENCE file. Raises InputError for a missing column or an unknown role."""
        columns = {column.name: column for column in REFERENCE}
        table = read_table(
            path,
            [columns[name] for name in ("id", "formula", "atomic_numbers", "frac_coords", "lattice", "role")],
            optional=[columns[name] for name in ("chemical_system", "space_group", "wyckoff", "elements")],
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
        has_tokens = {"space_group", "wyckoff", "elements"} <= set(self.table.column_names)
        groups = self.table.column("space_group").to_pylist() if has_tokens else [None] * len(self.ids)
        for row, (atoms, group) in enumerate(zip(numbers, groups, strict=True)):
            if not atoms:
                continue
            key = composition_key(atoms)
            self.rows_of.setdefault(key, []).append(row)
            if group is not None:
                self._tokens_of.setdefault((group, _counts(key)), []).append(row)
        formulas, systems = self._names(source)
        # backwards, so that the first entry of a formula stands for it
        last = len(self.ids) - 1
        self.formulas = {f: last - k for k, f in enumerate(reversed(formulas)) if f is not None}
        self.systems = {s: last - k for k, s in enumerate(reversed(systems)) if s is not None}

    def _names(self, source: str) -> tuple[list[str | None], list[str | None]]:
        """Reduced formula and chemical system of each entry; the builder of a reference writes both."""
        formulas = self.table.column("formula")
        if (
            "chemical_system" in self.table.column_names
            and self.table.column("chemical_system").null_count == formulas.null_count
        ):
            return formulas.to_pylist(), self.table.column("chemical_system").to_pylist()
        names: list[str | None] = []
        for row, (atoms, formula) in enumerate(
            zip(self.table.column("atomic_numbers").to_pylist(), formulas.to_pylist(), strict=True)
        ):
            names.append(reduced_formula(atoms) if atoms else self._reduced(source, row, formula) if formula else None)
        return names, chemical_systems(pa.array(names, pa.string())).to_pylist()

    def _reduced(self, source: str, row: int, formula: str) -> str:
        try:
            return reduced_formula([z for z, n in parse_formula(formula).items() for _ in range(n)])
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

    def level(self, key: Composition, match: Match | None, own: Callable[[], Prototype | None]) -> tuple[str, str | None]:
        """The first of `LEVELS` that applies, and the id of an entry that shows it.

        match: an entry that is the same structure; own: gives the crystal's prototype, if it has one.
        """
        if match is not None:
            return "structure", match.id
        numbers = [z for z, n in key for _ in range(n)]
        row = self.formulas.get(reduced_formula(numbers))
        if row is not None:
            return "formula", self.ids[row]
        prototype_of = own()
        if prototype_of is not None:
            row = self._prototypes_like((prototype_of[0], _counts(key))).get(prototype_of)
            if row is not None:
                return "prototype", self.ids[row]
        row = self.systems.get(chemical_system(z for z, _ in key))
        return ("chemical_system", self.ids[row]) if row is not None else ("none", None)

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

    def _prototypes_like(self, shared: _Anonymous) -> dict[Prototype, int]:
        """Prototypes of the entries that share space group and counts, each with the first of its entries."""
        if shared not in self._prototypes:
            rows = self._tokens_of.get(shared, [])
            tokens = self.table.select(["wyckoff", "elements"]).take(pa.array(rows, pa.int64())).to_pylist() if rows else []
            found: dict[Prototype, int] = {}
            for row, token in zip(rows, tokens, strict=True):
                if token["wyckoff"] and token["elements"]:
                    found.setdefault(prototype(shared[0], token["wyckoff"], token["elements"]), row)
            self._prototypes[shared] = found
        return self._prototypes[shared]


def _counts(key: Composition) -> tuple[int, ...]:
    return tuple(np.sort([n for _, n in key]).tolist())
