"""What reading found: a crystal, or the status and the words that say why there is none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa

from crystalformer_rl.crystal.elements import SYMBOLS, symbol
from crystalformer_rl.crystal.structure import (
    LONGEST_VECTOR,
    MOST_ATOMS,
    SHORTEST_DISTANCE,
    Crystal,
    crystal_columns,
    crystal_status,
    overlap,
)
from crystalformer_rl.crystal.vacuum import vacuum_words
from crystalformer_rl.tables.column import Column, make_table
from crystalformer_rl.tables.crystal_columns import CRYSTALS, NOTE, STATUS
from crystalformer_rl.tables.status import OK, Status


class NotRead(Exception):
    """A file, block or row is no crystal that can be used; `status` and `note` say why."""

    def __init__(self, status: str, note: str) -> None:
        super().__init__(note)
        self.status, self.note = status, note


@dataclass(frozen=True)
class Found:
    """One crystal of a file, or what stands in its place.

    crystal: None unless `status` is ok. note: what the status leaves unsaid. labels: further columns of the row.
    """

    id: str
    crystal: Crystal | None
    status: str = Status.OK
    note: str | None = None
    labels: Mapping[str, Any] = field(default_factory=dict)

    def named(self, name: str) -> Found:
        """The same under another id."""
        return replace(self, id=name)


def found(name: str, crystal: Crystal, note: str | None = None, labels: Mapping[str, Any] | None = None) -> Found:
    """A crystal that was read, checked: elements, lattice, coordinates, distances; with a note on vacuum in it."""
    status = crystal_status(crystal)
    words = "; ".join(part for part in (note, words_on(crystal, status)) if part) or None
    return Found(name, crystal if status == OK else None, status, words, labels or {})


def words_on(crystal: Crystal, status: str) -> str | None:
    """What is to be said of a crystal of this status: where its fault lies, or the vacuum in a good one."""
    return vacuum_words(crystal) if status == OK else fault_words(crystal, status)


def fault_words(crystal: Crystal, status: str) -> str | None:
    """Where a crystal has the fault that its status names."""
    numbers = np.asarray(crystal.atomic_numbers)
    if status == Status.UNKNOWN_ELEMENT:
        k = int(np.argmax((numbers < 1) | (numbers > len(SYMBOLS))))
        return f"atom {k + 1} has atomic number {numbers[k]}"
    if status == Status.TOO_LARGE:
        return f"{len(crystal)} atoms in the cell, more than {MOST_ATOMS}"
    if status == Status.BAD_LATTICE:
        longest = np.linalg.norm(crystal.lattice, axis=1).max()
        if longest > LONGEST_VECTOR:
            return f"a lattice vector of {longest:.3g} Å"
        return f"the cell encloses {crystal.volume:.2g} Å³ for {len(crystal)} atoms"
    if status == Status.BAD_COORDINATES:
        k = int(np.argmin(np.isfinite(np.asarray(crystal.frac_coords, float)).all(1)))
        return f"atom {k + 1} ({symbol(int(numbers[k]))}) has coordinates that are not finite"
    return overlap_words(crystal) if status == Status.OVERLAPPING_ATOMS else None


def overlap_words(crystal: Crystal) -> str:
    """Which two atoms of a crystal lie on one place."""
    pair = overlap(crystal) or (0, 0)
    first, second = (f"atom {k + 1} ({symbol(int(crystal.atomic_numbers[k]))})" for k in pair)
    words = f"{first} and {second if pair[0] != pair[1] else 'its own image'} are nearer than {SHORTEST_DISTANCE} Å"
    alike = pair[0] != pair[1] and crystal.atomic_numbers[pair[0]] == crystal.atomic_numbers[pair[1]]
    return f"{words}; if an atom is listed twice, remove the copy" if alike and overlap(crystal, 0.05) == pair else words


def not_read(name: str, error: NotRead) -> Found:
    """The row of what could not be read."""
    return Found(name, None, error.status, error.note)


def table_of(rows: Sequence[Found], labels: Iterable[Column] = ()) -> pa.Table:
    """The crystals table of what was found, with `note` and `status`, and the columns of labels asked for."""
    labels = tuple(labels)
    data = crystal_columns([row.crystal for row in rows]) | {
        "id": [row.id for row in rows],
        "note": [row.note for row in rows],
        "status": [row.status for row in rows],
        **{column.name: [row.labels.get(column.name) for row in rows] for column in labels},
    }
    return make_table((*CRYSTALS, *labels, NOTE, STATUS), data)
