"""Crystals as people hold them in a session: pymatgen Structures, ASE Atoms, our own, paths, tables; mixed as they come."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from crystalformer_rl.crystal.readers import read_crystals
from crystalformer_rl.crystal.structure import Crystal, crystal_columns, crystal_status
from crystalformer_rl.errors import InputError
from crystalformer_rl.tables.column import make_table
from crystalformer_rl.tables.crystal_columns import CRYSTALS, STATUS
from crystalformer_rl.tables.status import OK, Status

_COLUMNS = (*CRYSTALS, STATUS)


def crystals_table(structures: Any) -> pa.Table:
    """A crystals table with `status` of whatever is given, in order; a row a crystal, and none is dropped.

    structures: pymatgen Structures, ASE Atoms, `Crystal`s, paths of files or folders that `read_crystals` reads, in one list
    or alone; or a table (pyarrow, pandas) with the columns id, atomic_numbers, frac_coords (3N) and lattice (9, Å), which is
    taken as it is. What is not a crystal keeps its place as a row of status `unreadable`, and a warning says why. Ids are
    names of files, or `structure-<place>`; one that comes again gets `#2` after it.
    """
    if isinstance(structures, pa.Table):
        return structures
    if _is_frame(structures):
        return table_of_frame(structures)
    items = [structures] if isinstance(structures, str | Path) or not isinstance(structures, Iterable) else None
    if items is None:
        items = [structures] if _crystal(structures) is not None else list(structures)
    parts = [_rows(item, place) for place, item in enumerate(items)]
    if not parts:
        raise InputError("no crystals are given; give at least one structure or path.")
    table = pa.concat_tables(parts)
    return table.set_column(0, _COLUMNS[0].field(), pa.array(_unique(table.column("id").to_pylist()), pa.string()))


def table_of_frame(frame: Any) -> pa.Table:
    """A pandas DataFrame of ours as a pyarrow table, with the provenance record that its `attrs` hold."""
    from crystalformer_rl.tables.provenance import with_record

    table = pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)
    record = frame.attrs.get("provenance")
    return with_record(table, record) if record else table


def _is_frame(given: Any) -> bool:
    return type(given).__name__ == "DataFrame" and hasattr(given, "attrs")


def _rows(item: Any, place: int) -> pa.Table:
    """The rows of one item: one, or as many as a file holds."""
    if isinstance(item, str | Path):
        try:
            table = read_crystals([item])
            return table.select([column.name for column in _COLUMNS]).replace_schema_metadata(None)
        except InputError as error:
            return _unreadable(Path(item).name, str(error))
    name = f"structure-{place}"
    crystal = _crystal(item)
    if crystal is None:
        return _unreadable(name, f"structure {place} is {_described(item)}.")
    return _table([name], [crystal], [crystal_status(crystal)])


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
    if hasattr(item, "is_ordered"):
        return "disordered, with sites that several elements share or that are only partly occupied; give an ordered one"
    return f"a {type(item).__name__}, not a crystal; give a Structure, Atoms or a path"


def _unreadable(name: str, why: str) -> pa.Table:
    warnings.warn(why, stacklevel=6)
    return _table([name], [None], [Status.UNREADABLE])


def _table(ids: Sequence[str], crystals: Sequence[Crystal | None], statuses: Sequence[str]) -> pa.Table:
    kept = [c if s == OK else None for c, s in zip(crystals, statuses, strict=True)]
    return make_table(_COLUMNS, {"id": list(ids), **crystal_columns(kept), "status": list(statuses)})


def _unique(names: Sequence[str]) -> list[str]:
    seen: dict[str, int] = {}
    unique = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        unique.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return unique
