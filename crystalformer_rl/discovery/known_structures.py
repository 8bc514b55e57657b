"""What a reference knows of a crystal: the ladder from its structure to the compounds of its elements."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from crystalformer_rl.crystal.chemical_system import chemical_system, chemical_systems
from crystalformer_rl.crystal.elements import elemental_id, parse_formula, reduced_formula
from crystalformer_rl.crystal.structure import Crystal, crystals_from_table
from crystalformer_rl.crystal.tokens import Sites
from crystalformer_rl.discovery.exchange import Exchange
from crystalformer_rl.discovery.known_prototypes import COLUMNS as TOKENS
from crystalformer_rl.discovery.known_prototypes import Donor, KnownPrototypes
from crystalformer_rl.discovery.matching import Composition, MatchError, composition_key, reduced_structure, same_structure
from crystalformer_rl.discovery.ordering import Forms, disordered_parent
from crystalformer_rl.errors import InputError
from crystalformer_rl.tables.energy_columns import REFERENCE
from crystalformer_rl.tables.parquet import read_table
from crystalformer_rl.tables.role import TRAINED, Role

if TYPE_CHECKING:
    from pymatgen.core import Structure

LEVELS = {
    "structure": "the structure itself",
    "ordering": "the formula, in another order of similar elements on the same sites",
    "formula": "the formula, in another structure or one that is not known",
    "substitution": "not the formula, but its prototype: the structure of another compound with elements exchanged",
    "prototype": "neither, but a compound on the same Wyckoff positions, which its elements share in another way",
    "chemical_system": "none of these, but other compounds of exactly its elements",
    "none": "nothing of these",
}
"""What a reference can know of a crystal, most first; a crystal has the first level that applies."""


class Knowledge(NamedTuple):
    """A rung of `LEVELS`, an entry that shows it, and for `substitution` the exchange that leads from it to the crystal.

    matches: whether the entry with its elements exchanged is the crystal's structure; equal positions may differ in coordinates.
    """

    level: str
    partner: str | None = None
    exchange: Exchange | None = None
    matches: bool | None = None


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
    _prototypes: KnownPrototypes | None = None
    _structures: dict[int, Structure | None] = field(default_factory=dict)

    @classmethod
    def from_reference(cls, path: str | Path) -> Known:
        """Read a REFERENCE file. Raises InputError for a missing column or an unknown role."""
        columns = {column.name: column for column in REFERENCE}
        table = read_table(
            path,
            [columns[name] for name in ("id", "formula", "atomic_numbers", "frac_coords", "lattice", "role")],
            optional=[columns[name] for name in ("chemical_system", *TOKENS)],
        )
        roles = table.column("role").to_pylist()
        wrong = sorted({str(role) for role in roles} - set(Role))
        if wrong:
            raise InputError(f"{path}, column 'role': '{wrong[0]}' is not one of {', '.join(Role)}; correct the reference.")
        if Role.PRETRAINING not in roles:
            raise InputError(
                f"{path} has no rows of role 'pretraining', so nothing can be called new; use a whole reference."
            )
        known = cls(table.column("id").to_pylist(), roles, table)
        known._index(str(path))
        return known

    def _index(self, source: str) -> None:
        for row, atoms in enumerate(self.table.column("atomic_numbers").to_pylist()):
            if atoms:
                self.rows_of.setdefault(composition_key(atoms), []).append(row)
        if set(TOKENS) <= set(self.table.column_names):
            self._prototypes = KnownPrototypes(self._table_of_known())
        formulas, systems = self._names(source)
        # backwards, so that the first entry of a formula stands for it
        last = len(self.ids) - 1
        self.formulas = {f: last - k for k, f in enumerate(reversed(formulas)) if f is not None}
        self.systems = {s: last - k for k, s in enumerate(reversed(systems)) if s is not None}

    def _table_of_known(self) -> pa.Table:
        """The entries, those without tokens that were recovered."""
        recovered = pa.array([role == Role.RECOVERED for role in self.roles], pa.bool_())
        columns = [pc.if_else(recovered, None, self.table.column(name)) for name in TOKENS]
        return pa.table(columns, names=list(TOKENS))

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
        """The first entry that matches `structure` (reduced); what the policy was trained on before a held-out entry."""
        rows = [row for row in self.rows_of.get(key, ()) if self.roles[row] != Role.HULL_ONLY]
        self._load(row for row in rows if row not in self._structures)
        for role in (*TRAINED, Role.HELD_OUT):
            for row in rows:
                known = self._structures[row]
                if self.roles[row] == role and known is not None and same_structure(structure, known):
                    return Match(self.ids[row], role)
        return None

    def knowledge(
        self, crystal: Crystal, forms: Forms, match: Match | None, symmetries: Callable[[Crystal], Sequence[Sites]]
    ) -> Knowledge:
        """The first of `LEVELS` that applies to a crystal, with an entry that shows it.

        forms: the crystal reduced; match: what `find` says of it; symmetries: gives its sites, at one tolerance or several.
        A structure that was recovered from an energy shows nothing: of its formula the energy alone is known. No element is
        new, whether the reference has an entry of it or its energy alone.
        """
        if match is not None and match.role != Role.RECOVERED:
            return Knowledge("structure", match.id)
        if (row := self._ordering(crystal, forms)) is not None:
            return Knowledge("ordering", self.ids[row])
        if (row := self.formulas.get(crystal.formula)) is not None:
            return Knowledge("formula", self.ids[row])
        if len(elements := set(crystal.atomic_numbers.tolist())) == 1:
            return Knowledge("formula", elemental_id(*elements))
        if self._prototypes is not None:
            descriptions = symmetries(crystal)
            for sites in descriptions:
                if donors := self._prototypes.donors(sites):
                    return self._substitution(donors, forms)
            for sites in descriptions:
                if (row := self._prototypes.same_positions(sites)) is not None:
                    return Knowledge("prototype", self.ids[row])
        row = self.systems.get(chemical_system(elements))
        return Knowledge("none") if row is None else Knowledge("chemical_system", self.ids[row])

    def _substitution(self, donors: Sequence[Donor], forms: Forms) -> Knowledge:
        """The first donor that gives the crystal's structure, or where none does the first."""
        entries = self._crystals([donor.row for donor in donors])
        for donor, entry in zip(donors, entries, strict=True):
            if entry is not None and _becomes(entry, donor, forms):
                return Knowledge("substitution", self.ids[donor.row], donor.exchange, True)
        return Knowledge("substitution", self.ids[donors[0].row], donors[0].exchange, False)

    def _ordering(self, crystal: Crystal, forms: Forms) -> int | None:
        """The first entry that has the same disordered parent."""
        rows = [r for r in self.rows_of.get(composition_key(crystal.atomic_numbers), ()) if self.roles[r] != Role.RECOVERED]
        if forms.parent is None:
            return None
        for row, entry in zip(rows, self._crystals(rows), strict=True):
            other = None if entry is None else disordered_parent(entry)
            try:
                if other is not None and same_structure(forms.parent, reduced_structure(other)):
                    return row
            except MatchError:  # an entry that no matcher can handle is not an ordering
                continue
        return None

    def _load(self, rows: Iterable[int]) -> None:
        """Build and reduce the crystals of `rows`; None for those that no matcher can handle."""
        rows = list(rows)
        for row, crystal in zip(rows, self._crystals(rows), strict=True):
            try:
                self._structures[row] = None if crystal is None else reduced_structure(crystal)
            except MatchError:
                self._structures[row] = None
            if self._structures[row] is None:
                self.unreadable.append(self.ids[row])

    def _crystals(self, rows: Sequence[int]) -> list[Crystal | None]:
        return (
            crystals_from_table(self.table.select(["atomic_numbers", "frac_coords", "lattice"]).take(rows))[0]
            if rows
            else []
        )


def _becomes(entry: Crystal, donor: Donor, forms: Forms) -> bool:
    """Whether an entry with its elements exchanged is a crystal's structure."""
    numbers = np.array([donor.elements[int(z)] for z in entry.atomic_numbers])
    try:
        return same_structure(forms.structure, reduced_structure(Crystal(numbers, entry.frac_coords, entry.lattice)))
    except MatchError:
        return False
