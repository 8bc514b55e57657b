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

from crystalformer_rl.crystal.readers import checked_crystals, joined, read_crystals
from crystalformer_rl.crystal.structure import Crystal, crystal_columns, crystal_status
from crystalformer_rl.errors import InputError
from crystalformer_rl.tables.column import make_table
from crystalformer_rl.tables.crystal_columns import CRYSTALS, CRYSTALS_AND_TOKENS, STATUS
from crystalformer_rl.tables.parquet import with_types
from crystalformer_rl.tables.provenance import record_of, with_record
from crystalformer_rl.tables.status import OK, STATUSES, Status

_COLUMNS = (*CRYSTALS, STATUS)
_PACKAGE = str(Path(__file__).resolve().parent.parent) + os.sep


def crystals_table(structures: Any) -> pa.Table:
    """A crystals table with `status` of whatever is given, in order; a row a crystal, and none is dropped.

    structures: pymatgen Structures, ASE Atoms, `Crystal`s, paths of files or folders that `read_crystals` reads, and tables
    (pyarrow, pandas) with the columns id, atomic_numbers, frac_coords (3N) and lattice (9, Å); one alone, several in a list,
    or several by name in a mapping. What is not a crystal keeps its place as a row of status `unreadable`, and a warning says
    why. Tables and Parquet files keep further columns, such as tokens and energies, which all of them have. Ids are
    those of tables, names of files, or `structure-<place>`; one that comes again in a list gets `#2` after it. Raises
    InputError where nothing is given, and for a table that has no crystals.
    """
    alone = given_table(structures)
    if alone is not None:
        return checked_crystals(alone, "the table")
    if isinstance(structures, Mapping):
        return _together([_named(str(name), _rows(item, place)) for place, (name, item) in enumerate(structures.items())])
    # a Structure and Atoms are iterable too: over their sites
    one = (
        isinstance(structures, str | os.PathLike | Crystal)
        or hasattr(structures, "is_ordered")
        or hasattr(structures, "cell")
    )
    items = [structures] if one or not isinstance(structures, Iterable) else list(structures)
    return _together([_rows(item, place) for place, item in enumerate(items)])


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
    if isinstance(item, str | os.PathLike):
        path = Path(item).expanduser()
        try:
            table = read_crystals([path])
        except InputError as error:
            return _unreadable(path.name, str(error))
        if path.suffix.lower() != ".parquet":  # where a status says how reading went, not what a stage found
            _warn_of_failures(table, f"{path}: ")
        return table
    crystal = _crystal(item)
    if crystal is None:
        return _unreadable(name, f"structure {place} is {_described(item)}.")
    table = _table([name], [crystal], [crystal_status(crystal)])
    _warn_of_failures(table)
    return table


def _crystal(item: Any) -> Crystal | None:
    """An object as a crystal; None for what is not one, or not an ordered one."""
    if isinstance(item, Crystal):
        return item
    if hasattr(item, "get_scaled_positions") and hasattr(item, "cell"):
        cell = np.array(item.cell, float)
        coords = (
            item.get_scaled_positions(wrap=False) if np.linalg.matrix_rank(cell) == 3 else np.full((len(item), 3), np.nan)
        )
        return Crystal(np.array(item.numbers, int), np.array(coords, float), cell)
    if hasattr(item, "lattice") and hasattr(item, "is_ordered") and item.is_ordered:
        numbers = np.array([site.specie.Z for site in item], int)
        return Crystal(numbers, np.array(item.frac_coords, float), np.array(item.lattice.matrix, float))
    return None


def _described(item: Any) -> str:
    if hasattr(item, "lattice") and hasattr(item, "is_ordered"):
        return "disordered, with sites that several elements share or that are only partly occupied; give an ordered one"
    return f"a {type(item).__name__}, not a crystal; give a Structure, Atoms or a path"


def _unreadable(name: str, why: str) -> pa.Table:
    _warn(why)
    return _table([name], [None], [Status.UNREADABLE])


def _warn_of_failures(table: pa.Table, source: str = "") -> None:
    """One warning for each status other than ok that rows have which were just read."""
    failed: dict[str, list[str]] = {}
    for name, status in zip(table.column("id").to_pylist(), table.column("status").to_pylist(), strict=True):
        if status != OK:
            failed.setdefault(status, []).append(name)
    for status, names in failed.items():
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        _warn(f"{source}{', '.join(names[:3])}{more}: {STATUSES.get(status, status)} ({status}).")


def _warn(sentence: str) -> None:
    """A warning at the line outside this package that asked."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        level, frame = level + 1, frame.f_back
    warnings.warn(sentence, stacklevel=level)


def _table(ids: Sequence[str], crystals: Sequence[Crystal | None], statuses: Sequence[str]) -> pa.Table:
    kept = [c if s == OK else None for c, s in zip(crystals, statuses, strict=True)]
    return make_table(_COLUMNS, {"id": list(ids), **crystal_columns(kept), "status": list(statuses)})


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
