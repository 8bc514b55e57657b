"""Crystals as people hold them in a session: pymatgen Structures, ASE Atoms, our own, paths, tables; mixed as they come."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from crystalformer_rl.crystal.structure import Crystal
from crystalformer_rl.errors import InputError
from crystalformer_rl.reading.ase_frames import crystal_of_atoms
from crystalformer_rl.reading.documents import ID_KEYS, crystals_of_value, id_in, is_crystal, renumbered
from crystalformer_rl.reading.found import Found, NotRead, found, not_read, table_of
from crystalformer_rl.reading.inputs import read_crystals
from crystalformer_rl.reading.structure_dict import check_periodic, one_element
from crystalformer_rl.reading.tables import checked_crystals
from crystalformer_rl.tables.crystal_columns import CRYSTALS, CRYSTALS_AND_TOKENS
from crystalformer_rl.tables.parquet import joined, with_types
from crystalformer_rl.tables.provenance import record_of, with_record
from crystalformer_rl.tables.status import OK, STATUSES, Status

_PACKAGE = str(Path(__file__).resolve().parent.parent) + os.sep


def crystals_table(structures: Any) -> pa.Table:
    """A crystals table with `status` of whatever is given, in order; a row a crystal, and none is dropped.

    structures: pymatgen Structures, ASE Atoms, `Crystal`s, paths of files or folders that `read_crystals` reads, and tables
    (pyarrow, pandas) with the columns id, atomic_numbers, frac_coords (3N) and lattice (9, Å); one alone, several in a list,
    or several by name in a mapping. What is not a crystal keeps its place as a row of status `unreadable`, and a warning says
    why. Tables and Parquet files keep further columns, such as tokens and energies, which all of them have. Ids are
    those of tables, names of files, or `structure-<place>`; one that comes again in a list gets `#2` after it. Raises
    InputError where nothing is given, for a lone path of which nothing can be read, and for a table that has no crystals.
    """
    objects = _objects_of_frame(structures)
    if objects is not None:
        structures = objects
    alone = given_table(structures)
    if alone is not None:
        return checked_crystals(alone, "the table")
    if isinstance(structures, Mapping) and not is_crystal(structures):
        return _together([_named(str(name), _rows(item, place)) for place, (name, item) in enumerate(structures.items())])
    if isinstance(structures, str | os.PathLike) and not _is_text(structures):
        return _from_path(Path(structures).expanduser())
    # a Structure and Atoms are iterable too: over their sites
    one = isinstance(structures, Crystal | str | Mapping) or hasattr(structures, "is_ordered") or hasattr(structures, "cell")
    items = [structures] if one or not isinstance(structures, Iterable) else list(structures)
    return _together([_rows(item, place) for place, item in enumerate(items)])


def _objects_of_frame(given: Any) -> dict[str, Any] | None:
    """The Structures or Atoms that a DataFrame has in a column, by the names beside them; None for other things."""
    if not _is_frame(given):
        return None
    column = next((name for name in given.columns if str(name).lower() in ("structure", "atoms")), None)
    if column is None or all(isinstance(value, str | bytes | type(None)) for value in given[column]):
        return None
    key = next((name for name in ID_KEYS if name in given.columns), None)
    names = given[key] if key is not None else given.index
    return dict(zip(_unique([str(name) for name in names]), given[column], strict=True))


def given_table(structures: Any) -> pa.Table | None:
    """A table that is given as one, pyarrow's or pandas', whatever its columns; None for everything else."""
    if isinstance(structures, pa.Table):
        return structures
    return table_of_frame(structures) if _is_frame(structures) else None


def table_of_frame(frame: Any) -> pa.Table:
    """A pandas DataFrame as a pyarrow table, with the provenance record that its `attrs` hold.

    Columns that Arrow cannot hold, such as one of Structures, are left out. Raises InputError where such a one is of ours.
    """
    ours = {column.name for column in CRYSTALS_AND_TOKENS}
    columns = {}
    for name in frame.columns:
        try:
            columns[str(name)] = pa.Array.from_pandas(frame[name])
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
            if name in ours:
                reason = str(error).strip().split("\n", 1)[0].rstrip(".")
                raise InputError(
                    f"the table, column '{name}': its values cannot be read ({reason}); give flat lists."
                ) from error
    # What failed is NaN in a DataFrame, which turns whole numbers into floats.
    table = with_types(pa.table(columns), [c for c in CRYSTALS_AND_TOKENS if c.name in columns], "the table")
    record = frame.attrs.get("provenance")
    return with_record(table, record) if record else table


def _is_frame(given: Any) -> bool:
    return type(given).__name__ == "DataFrame" and hasattr(given, "attrs")


def _together(parts: Sequence[pa.Table]) -> pa.Table:
    """The rows of all parts under ids of their own, with the columns that all parts have which were read."""
    if not parts:
        raise InputError("no crystals are given; give at least one structure or path.")
    if len(parts) == 1:
        return parts[0]
    read = [part for part in parts if set(part.column("status").to_pylist()) != {Status.UNREADABLE}] or list(parts)
    kept = [name for name in read[0].column_names if all(name in part.column_names for part in read)]
    table = joined([part.select([n for n in kept if n in part.column_names]) for part in parts], "the crystals")
    ids = pa.array(_unique(table.column("id").to_pylist()), pa.string())
    table = table.set_column(table.column_names.index("id"), CRYSTALS[0].field(), ids)
    potentials = [record_of(part).get("potential") for part in read]
    same = potentials[0] is not None and all(potential == potentials[0] for potential in potentials)
    return with_record(table, {"potential": potentials[0]}) if same else table


def _named(name: str, part: pa.Table) -> pa.Table:
    """The rows of an item that has a name: they are called by it."""
    ids = [name] if part.num_rows == 1 else [f"{name}/{own}" for own in part.column("id").to_pylist()]
    return part.set_column(part.column_names.index("id"), CRYSTALS[0].field(), pa.array(ids, pa.string()))


def _rows(item: Any, place: int) -> pa.Table:
    """The rows of one item: one, or as many as a file or table holds."""
    name = f"structure-{place}"
    table = given_table(item)
    if table is not None:
        return checked_crystals(table, f"the table in place {place}")
    if isinstance(item, Mapping) or _is_text(item):
        table = table_of(renumbered(crystals_of_value(item, id_in(item) or name)))
        _warn_of_failures(table)
        return table
    if isinstance(item, str | os.PathLike):
        path = Path(item).expanduser()
        try:
            return _from_path(path)
        except InputError as error:
            return _unreadable(path.name, str(error))
    row = _found(item, name)
    if row is None:
        return _unreadable(name, f"structure {place} is {_described(item)}.")
    table = table_of([row])
    _warn_of_failures(table)
    return table


def _is_text(item: Any) -> bool:
    """Whether a string is the text of a crystal and no path."""
    return isinstance(item, str) and "\n" in item and is_crystal(item)


def _from_path(path: Path) -> pa.Table:
    """The rows of a file or folder, with a warning for those that could not be read. Raises InputError where none could."""
    table = read_crystals([path])
    if path.suffix.lower() != ".parquet":  # where a status says how reading went, not what a stage found
        _warn_of_failures(table, f"{path}: ")
    return table


def _found(item: Any, name: str) -> Found | None:
    """An object as a row; None for what is no crystal."""
    if isinstance(item, Crystal):
        return found(name, item)
    if hasattr(item, "get_scaled_positions") and hasattr(item, "cell"):
        return crystal_of_atoms(item, name)
    if hasattr(item, "lattice") and hasattr(item, "is_ordered"):
        try:
            return found(name, _of_structure(item))
        except NotRead as error:
            return not_read(name, error)
    return None


def _of_structure(structure: Any) -> Crystal:
    """A Structure of pymatgen's. Raises NotRead, naming the site, where it is disordered, and where it is not periodic."""
    check_periodic(structure.lattice.pbc)
    numbers = [
        one_element(
            [(kind.symbol, amount) for kind, amount in site.species.items()], f"site {k + 1} ({site.species_string})"
        )
        for k, site in enumerate(structure)
    ]
    return Crystal(np.array(numbers, int), np.array(structure.frac_coords, float), np.array(structure.lattice.matrix, float))


def _described(item: Any) -> str:
    return f"a {type(item).__name__}, not a crystal; give a Structure, Atoms or a path"


def _unreadable(name: str, why: str) -> pa.Table:
    _warn(why)
    return table_of([Found(name, None, Status.UNREADABLE, why)])


def _warn_of_failures(table: pa.Table, source: str = "") -> None:
    """One warning for each status other than ok that rows have which were just read."""
    failed: dict[str, list[tuple[str, str | None]]] = {}
    for name, status, note in zip(*(table.column(c).to_pylist() for c in ("id", "status", "note")), strict=True):
        if status != OK:
            failed.setdefault(status, []).append((name, note))
    for status, rows in failed.items():
        names = ", ".join(name for name, _ in rows[:3]) + (f" and {len(rows) - 3} more" if len(rows) > 3 else "")
        about = f": {rows[0][1]}" if rows[0][1] else ""
        _warn(f"{source}{names}: {STATUSES.get(status, status)} ({status}{about}).")


def _warn(sentence: str) -> None:
    """A warning at the line outside this package that asked."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        level, frame = level + 1, frame.f_back
    warnings.warn(sentence, stacklevel=level)


def _unique(names: Sequence[str]) -> list[str]:
    """The names, with `#2`, `#3` … after one that was there before."""
    taken: dict[str, None] = {}
    for name in names:
        own, number = name, 1
        while own in taken:
            number += 1
            own = f"{name}#{number}"
        taken[own] = None
    return list(taken)
