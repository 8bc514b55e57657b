"""Crystals in JSON and in the cells of tables, whatever is wrapped around them.

One value may be a structure (pymatgen, JARVIS, OPTIMADE, our own columns), a computed entry, a document with such a one under a name
of its own, or the text of a CIF. Around it may be a list, a dictionary by names, an answer of an API, or the columns of a data frame.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from crystalformer_rl.errors import InputError
from crystalformer_rl.reading.cif_crystals import crystals_of_cif
from crystalformer_rl.reading.entries import entry_of, looks_like_an_entry
from crystalformer_rl.reading.files import decoded
from crystalformer_rl.reading.found import Found, NotRead, found, not_read
from crystalformer_rl.reading.structure_dict import check_formula, crystal_of, is_structure
from crystalformer_rl.tables.status import Status

ID_KEYS = (
    "id", "material_id", "entry_id", "mat_id", "jid", "immutable_id", "structure_id", "mp_id", "cif_id", "name", "filename",
)  # fmt: skip
"""Names under which people keep the name of a crystal, the first that is there counts."""

_USUAL = ("structure", "cif", "atoms", "attributes")
"""Keys under which the crystal of a document lies, whatever lies beside it."""

_MOLECULES = {"Molecule", "IMolecule"}
_CIF_TEXT = re.compile(r"(?im)^\s*(data_|_cell[_.]length_a)")


def crystals_of_document(value: Any, name: str, source: str) -> list[Found]:
    """A row for each crystal of a JSON value. Raises InputError, naming `source`, for one that holds none."""
    try:
        rows = list(_rows(value, name))
    except RecursionError as error:
        raise InputError(f"{source} is nested too deeply; give a list of structures.") from error
    if not rows:
        raise InputError(
            f"{source} holds {_described(value)}, and no crystals in it; give structures or computed entries as pymatgen writes "
            "them, OPTIMADE or JARVIS structures, or a list, dictionary or lines of those."
        )
    return rows


def is_crystal(value: Any) -> bool:
    """Whether a value is a crystal, or a document that holds one."""
    if isinstance(value, str):
        return bool(_CIF_TEXT.search(value)) or _literal(value) is not None
    if not isinstance(value, Mapping):
        return False
    if is_structure(value) or looks_like_an_entry(value) or value.get("@class") in _MOLECULES:
        return True
    inner = _inner(value)
    if not inner or _is_collection(value):
        return False
    # a crystal beside lists of crystals is one of them, and not what the dictionary is
    return inner[0] in _USUAL or not any(
        isinstance(item, list | Mapping) and key not in inner and next(_rows(item, ""), None) for key, item in value.items()
    )


def crystals_of_value(value: Any, name: str) -> list[Found]:
    """The rows of one value: several for a text of several CIF blocks, else one; a reason where there is no crystal in it."""
    if isinstance(value, bytes):
        value = decoded(value)
    if isinstance(value, str):
        document = _literal(value)
        if document is not None:
            return crystals_of_value(document, name)
        return crystals_of_cif(value, name) if value.strip() else [Found(name, None, Status.UNREADABLE, "the cell is empty")]
    if not isinstance(value, Mapping):
        what = "nothing" if value is None else _described(value)
        return [Found(name, None, Status.UNREADABLE, f"{what} where a crystal should be")]
    if value.get("@class") in _MOLECULES:
        return [Found(name, None, Status.NOT_PERIODIC, "a molecule, without lattice")]
    if is_structure(value):
        return [_of_structure(value, name, value)]
    if looks_like_an_entry(value):
        return [_of_entry(value, name)]
    inner = _inner(value)
    if len(inner) == 1:
        own = value[inner[0]]
        return [_of_structure(own, name, {**value, **own})] if is_structure(own) else crystals_of_value(own, name)
    words = f"several structures ({', '.join(inner)}); keep one" if inner else "no structure"
    return [Found(name, None, Status.UNREADABLE, f"the document holds {words}")]


def id_in(value: Any) -> str | None:
    """The name that a document gives its crystal; None where it has none."""
    if not isinstance(value, Mapping):
        return None
    for place in (value, value.get("data")):
        if isinstance(place, Mapping):
            for key in ID_KEYS:
                if isinstance(place.get(key), str | int) and not isinstance(place[key], bool) and str(place[key]):
                    return str(place[key])
    return None


def _of_structure(value: Mapping[str, Any], name: str, document: Mapping[str, Any]) -> Found:
    """A structure, held against a formula that its document states."""
    try:
        crystal = crystal_of(value)
        check_formula(crystal, document)
    except NotRead as error:
        return not_read(name, error)
    return found(name, crystal)


def _is_collection(value: Mapping[str, Any]) -> bool:
    """Whether a dictionary is crystals under their names, some of which may have failed: nothing but dictionaries and nulls, some crystals."""
    if (
        not value
        or any(key in value for key in _USUAL)
        or not all(item is None or isinstance(item, Mapping) for item in value.values())
    ):
        return False
    return any(_is_single(item) for item in value.values())


def _is_single(item: Any) -> bool:
    return (
        is_structure(item)
        or looks_like_an_entry(item)
        or (isinstance(item, Mapping) and any(k in item for k in _USUAL) and is_crystal(item))
    )


def _rows(value: Any, name: str) -> Iterator[Found]:
    if is_crystal(value):
        yield from crystals_of_value(value, id_in(value) or name)
    elif isinstance(value, list):
        yield from _of_list(value, name)
    elif isinstance(value, Mapping):
        yield from _of_mapping(value, name)


def _of_list(items: list[Any], name: str) -> list[Found]:
    """The rows of a list, each member looked at once; what is no crystal is a row too, unless none is one."""
    rows: list[Found] = []
    some = False
    for place, item in enumerate(items):
        own = id_in(item) or f"{name}-{place}"
        held = [] if is_crystal(item) else list(_rows(item, own))
        some = some or bool(held) or is_crystal(item)
        rows += held or crystals_of_value(item, own)
    return rows if some else []


def _of_mapping(value: Mapping[str, Any], name: str) -> Iterator[Found]:
    """The rows of a dictionary that is no crystal: a collection, a data frame, or lists and crystals under whatever keys."""
    if _is_collection(value):
        for key, item in value.items():
            yield from crystals_of_value(item, id_in(item) or str(key))
        return
    split = value.get("columns"), value.get("data")
    if isinstance(split[0], list) and isinstance(split[1], list):  # a data frame, orient="split"
        yield from _rows([dict(zip(split[0], row, strict=False)) for row in split[1] if isinstance(row, list)], name)
        return
    columns = _columns(value)
    if columns is not None:
        yield from _rows(columns, name)
        return
    holding = {str(key): rows for key, item in value.items() if (rows := list(_held(item, str(key), name)))}
    for key, rows in holding.items():
        yield from rows if len(holding) == 1 else [_under(row, key, name) for row in rows]


def _held(item: Any, key: str, name: str) -> Iterator[Found]:
    """The rows under a key: crystals, or lists and dictionaries of them."""
    if is_crystal(item):
        yield from crystals_of_value(item, id_in(item) or key)
    elif isinstance(item, list | Mapping):
        yield from _rows(item, name)


def _under(row: Found, key: str, name: str) -> Found:
    """A row that was named after its file, named after its key too."""
    return row.named(f"{name}-{key}{row.id.removeprefix(name)}") if row.id.startswith(f"{name}-") else row


def _columns(value: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """The rows of a data frame that was written as columns, each a list or a dictionary by row; None for what is none."""
    if not value or not all(isinstance(column, Mapping | list) for column in value.values()):
        return None
    columns = {key: list(column.values()) if isinstance(column, Mapping) else column for key, column in value.items()}
    if len({len(column) for column in columns.values()}) != 1:
        return None
    rows = [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]
    return rows if any(is_crystal(row) for row in rows) else None


def _inner(value: Mapping[str, Any]) -> list[str]:
    """The keys of a document under which crystals lie; the usual name alone where others lie beside it."""
    keys = [
        str(key)
        for key, item in value.items()
        if is_structure(item)
        or looks_like_an_entry(item)
        or (isinstance(item, str) and key in ("cif", "structure") and is_crystal(item))
    ]
    usual = [key for key in _USUAL if key in keys]
    return usual[:1] or keys


def _of_entry(value: Mapping[str, Any], name: str) -> Found:
    entry = entry_of(value, name)
    note = entry.note
    if entry.crystal_status == Status.NO_STRUCTURE:
        note = "an energy and a composition, without a structure"
    if entry.crystal is None and note is None and entry.crystal_status == Status.UNREADABLE:
        note = "the entry's structure is not of its composition" if value.get("structure") else None
    return Found(name, entry.crystal, entry.crystal_status, note, dict(entry.labels))


def _literal(text: str) -> Mapping[str, Any] | None:
    """The dictionary that a text spells in JSON, or in Python as a data frame of dictionaries is written to CSV; None for other text.

    Nothing is run: NumPy's names around numbers (`np.float64(5.4)`) are taken off, and literals alone are read.
    """
    start = text.lstrip()
    if not start.startswith("{"):
        return None
    bare = re.sub(
        r"\b(?:np|numpy)\.\w+\(([^()]*)\)", r"\1", re.sub(r"\barray\((\[[^()]*\])(?:, dtype=[\w.]+)?\)", r"\1", start)
    )
    for read, spelled in ((json.loads, start), (ast.literal_eval, re.sub(r"\bnan\b", "None", bare))):
        try:
            value = read(spelled)
        # literals of others' making: too deep, too long, not whole
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
            continue
        if isinstance(value, Mapping):
            return value
    return None


def _described(value: Any) -> str:
    if isinstance(value, Mapping):
        keys = list(map(str, value))
        more = f" and {len(keys) - 6} more" if len(keys) > 6 else ""
        return f"a dictionary with {', '.join(keys[:6])}{more}" if keys else "an empty dictionary"
    if isinstance(value, list):
        return f"a list of {len(value)}" + (f" ({_described(value[0])} first)" if value else "")
    article = "an" if type(value).__name__[0] in "aeiou" else "a"
    return f"{article} {type(value).__name__}"


def renumbered(rows: list[Found]) -> list[Found]:
    """The rows, with `#2`, `#3` after an id that was there before: nothing is dropped for its name."""
    seen: dict[str, int] = {}
    unique = []
    for row in rows:
        name = row.id
        while name in seen:
            seen[row.id] += 1
            name = f"{row.id}#{seen[row.id]}"
        seen.setdefault(name, 1)
        unique.append(replace(row, id=name))
    return unique
