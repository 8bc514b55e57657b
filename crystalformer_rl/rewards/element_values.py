"""A number for each element, read from a table, and what it makes of a composition."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from crystalformer_rl.crystal.elements import ATOMIC_NUMBERS, SYMBOLS, composition, reduced_composition
from crystalformer_rl.crystal.masses import MASSES
from crystalformer_rl.errors import InputError

PER = ("atom", "mass", "formula")
"""Mean over atoms; mean weighted by mass, for values per kilogram; sum over one reduced formula."""

_COVERED = 94
"""A table must cover the elements up to plutonium, which potentials know; heavier ones are unknown where it does not."""


@dataclass(frozen=True)
class ElementValues:
    """values: (119,) by atomic number, NaN where unknown; per: one of `PER`."""

    values: np.ndarray
    per: str

    @classmethod
    def read(cls, path: str | Path, per: str, missing: float | None = None) -> ElementValues:
        """From a CSV file with the columns `element` (symbol) and `value`; `missing` stands for elements not listed.

        Raises InputError that names file, line and element.
        """
        values = np.full(len(SYMBOLS) + 1, np.nan if missing is None else float(missing))
        seen: dict[str, int] = {}
        for line, symbol, text in _rows(Path(path)):
            if symbol not in ATOMIC_NUMBERS:
                raise InputError(
                    f"{path}, line {line}: '{symbol}' is not an element symbol; write a symbol such as Na or O."
                )
            if symbol in seen:
                raise InputError(f"{path}, line {line}: {symbol} is already in line {seen[symbol]}; keep one of the two.")
            seen[symbol] = line
            values[ATOMIC_NUMBERS[symbol]] = _number(text, f"{path}, line {line}")
        lacking = [SYMBOLS[z - 1] for z in range(1, _COVERED + 1) if not math.isfinite(values[z])]
        if lacking:
            raise InputError(
                f"{path} has no value for {', '.join(lacking[:8])}{' and others' if len(lacking) > 8 else ''}; add rows, or "
                "say with the option 'missing' what elements that are not listed count."
            )
        return cls(values, per)

    def of(self, atomic_numbers: Iterable[int]) -> float:
        """What the table says of a composition; NaN with an element that it does not know."""
        counts = reduced_composition(atomic_numbers) if self.per == "formula" else composition(atomic_numbers)
        z = np.array(list(counts))
        weights = np.array(list(counts.values()), float)
        if self.per == "mass":
            weights = weights * np.array(MASSES)[z - 1]
        total = float(weights @ self.values[z])
        return total if self.per == "formula" else total / float(weights.sum())


def _rows(path: Path) -> list[tuple[int, str, str]]:
    """Line number, symbol and value of each row."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            header = list(reader.fieldnames or [])
            rows = [(reader.line_num, row) for row in reader]
    except (OSError, ValueError, csv.Error) as error:  # a ValueError is of the text's encoding, or the path's
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise InputError(f"{path} cannot be read ({reason}); give a CSV file with the columns element and value.") from error
    for name in ("element", "value"):
        if name not in header:
            raise InputError(f"{path} has no column '{name}'; it needs the columns element and value.")
        if header.count(name) > 1:
            raise InputError(f"{path} has {header.count(name)} columns '{name}'; keep one of them.")
    for line, row in rows:
        # Empty cells after the last column are what spreadsheets leave.
        if any(cell.strip() for cell in row.get(None, ())):
            raise InputError(
                f"{path}, line {line} has more cells than the header has columns; commas divide columns, so write decimals "
                "with a point and thousands without a comma."
            )
    return [(line, (row["element"] or "").strip(), (row["value"] or "").strip()) for line, row in rows]


def _number(text: str, place: str) -> float:
    try:
        value = math.nan if "_" in text else float(text)  # Python's own spelling of thousands
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{place}: '{text}' is not a finite number; write one, such as 30000 or 2.5.")
    return value
