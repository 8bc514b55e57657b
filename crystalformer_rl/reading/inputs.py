"""Read crystals from whatever people have: one file or several, folders, archives, tables, computed entries."""

from __future__ import annotations

import itertools
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from crystalformer_rl.crystal.structure import crystal_columns
from crystalformer_rl.errors import InputError
from crystalformer_rl.reading.ase_frames import crystals_of_frames
from crystalformer_rl.reading.cif_crystals import crystals_of_cif
from crystalformer_rl.reading.documents import crystals_of_document, renumbered
from crystalformer_rl.reading.entries import LABELS, DftEntry, looks_like_an_entry, read_entries
from crystalformer_rl.reading.files import REFUSED, Content, Kind, kind_of_file, read_content, stem
from crystalformer_rl.reading.found import Found, table_of
from crystalformer_rl.reading.json_stream import may_be_list, members
from crystalformer_rl.reading.members import Left, Members, distinct_stems, members_of_archive, members_of_folder
from crystalformer_rl.reading.poscar import crystals_of_poscar
from crystalformer_rl.reading.tables import LABEL_COLUMNS, from_csv, from_parquet
from crystalformer_rl.tables.column import make_table
from crystalformer_rl.tables.crystal_columns import CRYSTALS, NOTE, STATUS
from crystalformer_rl.tables.parquet import joined
from crystalformer_rl.tables.provenance import record_of, with_record
from crystalformer_rl.tables.rows import repeated_id
from crystalformer_rl.tables.status import OK, STATUSES, Status

_ENTRIES_AT_ONCE = 4096
_TABLES = (Kind.PARQUET, Kind.CSV)
_LONG = 200


@dataclass(frozen=True)
class _Part:
    """What one path gave: its crystals, the files that were left, and whether failures in it were found by a stage before."""

    table: pa.Table
    left: tuple[Left, ...] = ()
    has_status: bool = False


def read_crystals(paths: Sequence[str | Path], *, allow_empty: bool = False) -> pa.Table:
    """A crystals table with `note` and `status`, and the further columns of Parquet input, from one or several sources.

    What is read, and what is refused: docs/inputs.md. A crystal that cannot be used keeps its row, with the status that says why
    and a note that says where; so does a file that cannot be read among several or in a folder. Files of a folder or an archive
    that are not read stand in the table's record under `left_unread`. A lone file that cannot be read raises InputError, as do
    sources of which no crystal could be read, a path that does not exist, and ids that occur twice.
    """
    source = ", ".join(map(str, paths))
    parts = _parts([Path(path) for path in paths], allow_empty)
    table = parts[0].table if len(parts) == 1 else joined([part.table for part in parts], source)
    twice = repeated_id(table.column("id").to_pylist())
    if twice is not None:
        raise InputError(f"{source}: the id '{twice}' occurs twice; make ids unique over all files.")
    if not any(part.has_status for part in parts):
        _refuse_if_none(table, source)
    left = [one for part in parts for one in record_of(part.table).get("left_unread", [])]
    left += [{"file": one.name, "why": one.why} for part in parts for one in part.left]
    return with_record(table, record_of(table) | {"left_unread": left}) if left else table


def _refuse_if_none(table: pa.Table, source: str) -> None:
    """Raise InputError where there are rows and none of them is a crystal."""
    statuses, notes = (table.column(name).to_pylist() for name in ("status", "note"))
    if not statuses or OK in statuses:
        return
    why = f"{STATUSES.get(statuses[0], statuses[0])} ({statuses[0]}" + (f": {notes[0]})" if notes[0] else ")")
    if len(statuses) == 1:
        raise InputError(f"{source} is not read: {why}; correct it or leave it out.")
    first = table.column("id")[0].as_py()
    raise InputError(f"{source}: none of {len(statuses)} crystals can be read; the first, {first}: {why}.")


def _parts(paths: list[Path], allow_empty: bool) -> list[_Part]:
    for path in paths:
        _check_exists(path)
    if len(paths) == 1:
        return [_part(paths[0], stem(paths[0].name), allow_empty)]
    return [_part_among_several(path, name, allow_empty) for path, name in zip(paths, _names(paths), strict=True)]


def _check_exists(path: Path) -> None:
    text = str(path)
    try:
        there = "\n" not in text and path.exists()
    except OSError:  # a name too long for any file
        there = False
    if not there and ("\n" in text or len(text) > _LONG):
        raise InputError(
            f"'{' '.join(text[:40].split())}…' is no path of a file; write the text to a file, and give its path."
        )
    if not there:
        raise InputError(f"{path} does not exist; check the path, or run the stage that writes it.")


def _names(paths: list[Path]) -> list[str]:
    """What the crystals of each path are called by: stems, whole names where those are equal, and paths where these are too."""
    for called in (lambda path: stem(path.name), lambda path: path.name):
        names = [called(path) for path in paths]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]


def _part_among_several(path: Path, name: str, allow_empty: bool) -> _Part:
    """As `_part`; a file of crystals that cannot be read is a row, as it is in a folder."""
    try:
        return _part(path, name, allow_empty)
    except InputError as error:
        if path.is_dir() or _is_table(path):
            raise
        return _Part(table_of([Found(name, None, Status.UNREADABLE, str(error))]))


def _is_table(path: Path) -> bool:
    try:
        return kind_of_file(path) in _TABLES
    except InputError:  # damaged, whatever it was
        return False


def _part(path: Path, name: str, allow_empty: bool) -> _Part:
    if path.is_dir():
        return _of_members(members_of_folder(path), str(path))
    if not path.is_file():  # a pipe, which can be read once
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / path.name
            copy.write_bytes(path.read_bytes())
            return _part(copy, name, allow_empty)
    kind = kind_of_file(path)
    if kind in REFUSED:
        raise InputError(f"{path} is {kind}, and no crystals can be read from it: {REFUSED[kind]}.")
    if kind is Kind.PARQUET:
        table = from_parquet(path, allow_empty)
        own = "status" in _names_of_columns(path) and "status_given" not in table.column_names
        return _Part(table, has_status=own)
    if kind in (Kind.JSON, Kind.JSON_LINES) and _holds_entries(path):
        return _Part(_from_entries(path))
    whole = read_content(path)
    if kind in (Kind.ZIP, Kind.TAR):
        return _of_members(members_of_archive(whole, str(path)), str(path))
    if kind is Kind.CSV:
        return _Part(table_of(renumbered(from_csv(whole, str(path)))))
    return _Part(table_of(renumbered(_rows(whole, name, str(path))), LABEL_COLUMNS if kind is Kind.JSON else ()))


def _names_of_columns(path: Path) -> list[str]:
    import pyarrow.parquet as pq

    return list(pq.read_schema(path).names)


def _of_members(members: Members, source: str) -> _Part:
    """The crystals of a folder's or an archive's files. Raises InputError where none holds any."""
    rows: list[Found] = []
    left = list(members.left)
    for member, name in zip(members.contents, distinct_stems(members.contents), strict=True):
        try:
            rows += _rows(member, name, member.name)
        except InputError as error:
            if member.kind is Kind.JSON:  # settings and results are JSON too
                left.append(Left(member.name, str(error).rstrip(".")))
            else:
                rows.append(Found(name, None, Status.UNREADABLE, str(error)))
    if not rows:
        words = "; ".join(f"{one.name} ({one.why})" for one in left[:4]) + (
            f"; and {len(left) - 4} more" if len(left) > 4 else ""
        )
        raise InputError(
            f"{source} holds no files of crystals that are read from a folder" + (f": {words}." if left else ".")
        )
    return _Part(table_of(renumbered(rows)), tuple(left))


def _rows(content: Content, name: str, source: str) -> list[Found]:
    """The crystals of one file that is no table. Raises InputError where it cannot be read at all."""
    if content.kind is Kind.CIF:
        return crystals_of_cif(content.text, name)
    if content.kind is Kind.POSCAR:
        return crystals_of_poscar(content.text, name)
    if content.kind in (Kind.JSON, Kind.JSON_LINES):
        value = _json(content, source)
        if not (isinstance(value, dict) and {"ids", "nextid"} <= value.keys()):  # else a database of ASE
            return crystals_of_document(value, name, source)
    return crystals_of_frames(content, name, source)


def _json(content: Content, source: str) -> Any:
    try:
        if content.kind is Kind.JSON_LINES:
            return [_decoded(line) for line in content.text.split("\n") if line.strip()]
        return _decoded(content.text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{source} is no valid JSON ({error}); write it again.") from error


def _decoded(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_unique_keys)


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A dictionary that keeps what comes under a key again, as `key#2`."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        name, number = key, 1
        while name in found:
            number += 1
            name = f"{key}#{number}"
        found[name] = value
    return found


def _holds_entries(path: Path) -> bool:
    """Whether a JSON file is a list or lines of computed entries, told from the first."""
    if not may_be_list(path):
        return False
    return looks_like_an_entry(next(members(path, None), None))


def _from_entries(path: Path) -> pa.Table:
    """Crystals of computed entries. Parts at a time, since a hull has several 100,000."""
    entries = read_entries(path)
    parts = []
    while part := list(itertools.islice(entries, _ENTRIES_AT_ONCE)):
        parts.append(_entries_table(part, stem(path.name)))
    table = pa.concat_tables(parts)
    if set(table.column("status").to_pylist()) == {Status.NO_STRUCTURE}:
        raise InputError(
            f"{path} holds entries without structures, so no crystals; give ComputedStructureEntry dictionaries, or take "
            "the energies alone as a reference of given energies."
        )
    return table


def _entries_table(entries: list[DftEntry], source: str) -> pa.Table:
    data = crystal_columns([entry.crystal for entry in entries])
    data |= {name: [entry.labels.get(name) for entry in entries] for name in LABELS}
    data |= {"id": [entry.id for entry in entries], "source": [source] * len(entries)}
    data |= {"note": [entry.note for entry in entries], "status": [entry.crystal_status for entry in entries]}
    return make_table((*CRYSTALS, *LABEL_COLUMNS, NOTE, STATUS), data)
