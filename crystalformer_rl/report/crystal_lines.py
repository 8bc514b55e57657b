"""Evaluated crystals for people: a line each on a terminal, and a table that spreadsheets open."""

from __future__ import annotations

import csv
import io
import unicodedata
from collections.abc import Sequence

import pyarrow as pa

from crystalformer_rl.discovery.cif import space_group_symbol
from crystalformer_rl.discovery.verdicts import verdict
from crystalformer_rl.formatting import UNKNOWN, signed
from crystalformer_rl.report.results import Row
from crystalformer_rl.tables.status import OK

_HEADINGS = ("crystal", "formula", "space group", "above hull", "known as", "gap", "ε")
_UNITS = ("", "", "", "eV/atom", "", "eV", "")
_WIDEST = 28
_LISTS = ("atomic_numbers", "frac_coords", "lattice")


def crystal_lines(rows: Sequence[Row], most: int = 40) -> list[str]:
    """EVALUATED rows as the lines of a table: name, formula, space group, distance to the hull, what it is known as, gap, ε.

    ε is the electronic dielectric constant. A crystal that failed has its reason in place of figures. After `most` lines a last one counts the rest.
    """
    cells = [_cells(row) for row in rows[:most]]
    table = [list(_HEADINGS), list(_UNITS), *cells]
    widths = [max(_width(line[k]) for line in table if len(line) == len(_HEADINGS)) for k in range(len(_HEADINGS))]
    lines = ["  ".join(_padded(cell, width) for cell, width in zip(line, widths, strict=False)).rstrip() for line in table]
    return lines + ([f"and {len(rows) - most} more."] if len(rows) > most else [])


def spreadsheet(table: pa.Table) -> str:
    """An EVALUATED table as CSV, without lists. Texts that a spreadsheet would take for formulas get an apostrophe before them."""
    names = [
        name for name in table.column_names if name not in _LISTS and not pa.types.is_nested(table.schema.field(name).type)
    ]
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(names)
    for row in table.select(names).to_pylist():
        writer.writerow(["" if row[name] is None else _harmless(row[name]) for name in names])
    return stream.getvalue()


def _harmless(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


def _cells(row: Row) -> list[str]:
    name, formula = _short(row["id"]), row["formula"] or UNKNOWN
    if row["status"] != OK and row["e_above_hull"] is None:
        return [name, formula, row["status"] + (f": {row['note']}" if row["note"] else "")]
    symbol = space_group_symbol(row["space_group"]).replace(" ", "") if row["space_group"] else UNKNOWN
    flag = ", low-dimensional" if row["low_dimensional"] else ""
    return [
        name,
        formula,
        symbol,
        signed(row["e_above_hull"]),
        (verdict(row).replace("_", " ") if row["novel"] is not None else UNKNOWN) + flag,
        signed(row["band_gap"], 2),
        signed(row["eps_electronic"], 1),
    ]


def _short(name: str) -> str:
    """A name in printable characters, cut in its middle where it is long: terminals obey what files are called."""
    bare = "".join(c if c.isprintable() else "?" for c in name)
    half = _WIDEST // 2
    return bare if len(bare) <= _WIDEST else f"{bare[: half - 1]}…{bare[-half:]}"


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 0 if unicodedata.combining(c) else 1 for c in text)


def _padded(text: str, width: int) -> str:
    return text + " " * max(width - _width(text), 0)
