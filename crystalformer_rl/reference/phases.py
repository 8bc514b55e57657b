"""The rows of a reference by chemical system: indexed when read, parsed when a query asks for them.

A reference may hold 100,000 compositions of which a run needs a few hundred, so that nothing is made of the others.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from crystalformer_rl.crystal.chemical_system import chemical_system, chemical_systems
from crystalformer_rl.crystal.elements import ATOMIC_NUMBERS, SYMBOLS, parse_formula
from crystalformer_rl.errors import InputError
from crystalformer_rl.reference.competing import EnergyFrom, Phase
from crystalformer_rl.reference.formation_energy import formation_energy
from crystalformer_rl.tables.column import Column
from crystalformer_rl.tables.energy_columns import REFERENCE

_SCALE_TOLERANCE = 1e-3  # eV/atom; energies and formation energies of a reference further apart are on two scales
_NAMES = ("id", "formula", "chemical_system", "energy", "formation_energy", "dft_formation_energy", "energy_from")
_COLUMNS: tuple[Column, ...] = tuple(column for column in REFERENCE if column.name in _NAMES)


class Phases:
    """Phases of a reference.

    `elemental`: {atomic number: eV/atom} from which formation energies count; phases of other elements are left out.
    """

    def __init__(self, table: pa.Table, elemental: Mapping[int, float], source: str) -> None:
        """table: columns of REFERENCE, of rows that have an energy. Raises InputError where an id is missing or occurs twice."""
        self.elemental = elemental
        self.source = source
        _check_ids(table, source)
        checked = "chemical_system" in table.column_names and table.column("chemical_system").null_count == 0
        systems = table.column("chemical_system") if checked else chemical_systems(table.column("formula"))
        given = {name: table.column(name) for name in table.column_names} | {"chemical_system": systems}
        columns = {c.name: given.get(c.name, pa.nulls(table.num_rows, c.type)) for c in _COLUMNS}
        table = pa.table(columns, schema=pa.schema([(c.name, c.type) for c in _COLUMNS]))
        self._table = table.take(pc.sort_indices(table, [("chemical_system", "ascending")])).combine_chunks()
        self._index()
        if not checked:  # a file of another maker
            for name in self._place:
                self._rows(name)

    @classmethod
    def of_rows(cls, rows: Iterable[Phase], elemental: Mapping[int, float], source: str = "the phases") -> Phases:
        """Phases that were not read from a file."""
        rows = list(rows)
        columns = {
            "id": [row.id for row in rows],
            "formula": ["".join(f"{SYMBOLS[z - 1]}{n}" for z, n in row.composition.items()) for row in rows],
            "chemical_system": [chemical_system(row.composition) for row in rows],
            "formation_energy": [row.energy for row in rows],
            "dft_formation_energy": [row.dft_energy for row in rows],
            "energy_from": [str(row.energy_from) for row in rows],
        }
        types = {column.name: column.type for column in _COLUMNS}
        return cls(pa.table({n: pa.array(v, types[n]) for n, v in columns.items()}), elemental, source)

    def _index(self) -> None:
        names = pc.dictionary_encode(self._column("chemical_system"))
        codes = names.indices.to_numpy(zero_copy_only=False)
        ends = np.append(np.flatnonzero(np.diff(codes)) + 1, len(codes)).tolist() if len(codes) else []
        starts = [0, *ends[:-1]]
        # sorted, so that the dictionary's order is that of the rows
        self._place = dict(zip(names.dictionary.to_pylist(), zip(starts, ends, strict=False), strict=True))

    def _column(self, name: str) -> pa.Array:
        column = self._table.column(name)
        return column.chunk(0) if column.num_chunks else pa.array([], column.type)

    @cached_property
    def _numbers(self) -> dict[str, np.ndarray]:
        names = ("energy", "formation_energy", "dft_formation_energy")
        return {name: self._column(name).to_numpy(zero_copy_only=False).astype(float) for name in names}

    @property
    def table(self) -> pa.Table:
        """All rows."""
        return self._table

    @property
    def n_systems(self) -> int:
        return len(self._place)

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def __iter__(self) -> Iterator[Phase]:
        for name in self._place:
            yield from self._rows(name)

    @cached_property
    def systems(self) -> list[tuple[int, ...]]:
        """The chemical systems that have phases: atomic numbers, rising."""
        return [tuple(sorted(ATOMIC_NUMBERS[symbol] for symbol in name.split("-"))) for name in self._place]

    def has(self, elements: Iterable[int]) -> bool:
        """Whether there are phases of exactly these elements."""
        return chemical_system(elements) in self._place

    def of(self, elements: Iterable[int]) -> list[Phase]:
        """The phases of exactly these elements. Raises InputError for a row whose energies are on two scales."""
        return self._rows(chemical_system(elements))

    def composition(self, phase_id: str) -> dict[int, int]:
        """{atomic number: atoms} of a phase. Raises KeyError for an unknown one."""
        place = pc.index(self._column("id"), phase_id).as_py()
        if place < 0:
            raise KeyError(phase_id)
        return parse_formula(self._column("formula")[place].as_py())

    def _rows(self, system: str) -> list[Phase]:
        if system not in self._place:
            return []
        first, last = self._place[system]
        text = {n: self._column(n).slice(first, last - first).to_pylist() for n in ("id", "formula", "energy_from")}
        numbers = {name: values[first:last].tolist() for name, values in self._numbers.items()}
        phases = []
        for name, formula, origin, energy, formation, dft in zip(*text.values(), *numbers.values(), strict=True):
            counts = self._parsed(formula, name)
            if not counts.keys() <= self.elemental.keys():
                return []
            own = self._formation_energy(name, counts, energy, formation)
            phases.append(Phase(name, counts, own, dft, origin or _origin(own)))
        return phases

    def _parsed(self, formula: str, name: str) -> dict[int, int]:
        try:
            return parse_formula(formula)
        except InputError as error:
            raise InputError(f"{self.source}, row '{name}': {error}") from error

    def _formation_energy(self, name: str, counts: Mapping[int, int], energy: float, formation: float) -> float:
        if not math.isfinite(energy):
            return formation
        expected = formation_energy(counts, energy, self.elemental)
        assert expected is not None  # all its elements have an energy
        if math.isfinite(formation) and abs(formation - expected) > _SCALE_TOLERANCE:
            raise InputError(
                f"{self.source}, row '{name}': its formation_energy {formation:.4f} is not energy less the elemental "
                f"energies ({expected:.4f} eV/atom); build the reference again on one energy scale."
            )
        return formation if math.isfinite(formation) else expected


def _origin(energy: float) -> str:
    return EnergyFrom.GIVEN if math.isfinite(energy) else EnergyFrom.DFT


def _check_ids(table: pa.Table, source: str) -> None:
    """A decomposition names its phases, and one name for two would add their amounts up."""
    ids = table.column("id")
    if ids.null_count or pc.count_distinct(ids).as_py() < len(ids):
        counts = pc.value_counts(ids.combine_chunks())
        name = next(x["values"] for x in counts.to_pylist() if x["counts"] > 1 or x["values"] is None)
        raise InputError(f"{source}: the id '{name}' is missing or occurs twice; give each entry an id of its own.")
