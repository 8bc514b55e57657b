"""The items of a CIF's data blocks under one spelling: names in lower case, the dots of later dictionaries as underscores."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any

_SITE = "_atom_site_"
_COORDINATES = tuple(f"{_SITE}{kind}_{axis}" for kind in ("fract", "cartn") for axis in "xyz")


class CifSyntaxError(ValueError):
    """The text is no CIF; the message is the parser's."""


@dataclass
class CifBlock:
    """One data block: single values by name, and columns of loops by name, unquoted; `?` and `.` as they stand."""

    name: str
    values: dict[str, str] = field(default_factory=dict)
    columns: dict[str, list[str]] = field(default_factory=dict)

    def value(self, *names: str) -> str | None:
        """The first of the names that has a value (in a loop of one row too); None for `?`, `.` and absence."""
        for name in names:
            found = self.values.get(name)
            if found is None and len(self.columns.get(name, ())) == 1:
                found = self.columns[name][0]
            if found is not None and found.strip() not in ("", "?", "."):
                return found.strip()
        return None

    def number(self, *names: str) -> float | None:
        """The value as a number without its standard uncertainty; None where there is none."""
        return number(self.value(*names))

    def column(self, *names: str) -> list[str] | None:
        """The first of the names that is a column of a loop, or a single value as a column of one row."""
        for name in names:
            if name in self.columns:
                return self.columns[name]
            if name in self.values:
                return [self.values[name]]
        return None

    @property
    def has_sites(self) -> bool:
        """Whether the block lists coordinates of atoms."""
        return any(name in self.columns or name in self.values for name in _COORDINATES)


def cif_blocks(text: str) -> list[CifBlock]:
    """The data blocks of a CIF, in order. Raises CifSyntaxError for what is not one."""
    from gemmi import cif

    try:
        document = cif.read_string(text, check_level=0)  # several blocks of one name are several crystals
    # the parser raises ValueError for syntax, RuntimeError for what it cannot hold
    except (ValueError, RuntimeError) as error:
        raise CifSyntaxError(str(error).removeprefix("string:").strip().rstrip(".")) from error
    return [_block(found) for found in document]


def _block(found: Any) -> CifBlock:
    block = CifBlock(found.name)
    for item in found:
        if item.pair is not None:
            name, value = _spelling(item.pair[0]), _plain(item.pair[1])
            _once(block, name, block.values.get(name, value) == value)
            block.values[name] = value
        elif item.loop is not None:
            tags, cells = list(item.loop.tags), list(item.loop.values)
            for k, tag in enumerate(tags):
                name, column = _spelling(tag), [_plain(cell) for cell in cells[k :: len(tags)]]
                _once(block, name, block.columns.get(name, column) == column)
                block.columns[name] = column
    return block


def _once(block: CifBlock, name: str, same: bool) -> None:
    """A name that comes twice with other content leaves open which is meant."""
    if not same:
        raise CifSyntaxError(f"{name} comes twice in data_{block.name}, with different content")


def number(text: str | None) -> float | None:
    """`5.431(2)` → 5.431; None for what is no finite number."""
    match = re.fullmatch(r"([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)(?:\(\d+\))?", (text or "").strip())
    value = float(match[1]) if match else math.nan
    return value if math.isfinite(value) else None


def _spelling(tag: str) -> str:
    return tag.lower().replace(".", "_")


def _plain(cell: str) -> str:
    from gemmi import cif

    return cell if cell in ("?", ".") else cif.as_string(cell)
