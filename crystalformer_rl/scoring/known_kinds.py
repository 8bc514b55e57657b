"""Which kinds of crystals the policy was shown: those of the reference's entries that it was trained on."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from crystalformer_rl.crystal.prototype import Kind, kind
from crystalformer_rl.crystal.tokens import Sites
from crystalformer_rl.crystal.wyckoff import wyckoff_table
from crystalformer_rl.tables.energy_columns import REFERENCE
from crystalformer_rl.tables.parquet import read_table
from crystalformer_rl.tables.role import TRAINED

_NEEDED = ("role", "space_group", "wyckoff", "elements")

_Sketch = tuple[int, tuple[tuple[int, int], ...]]
"""Space group, and each element with the number of its sites: what crystals of one kind share whatever the letters."""


Formula = tuple[tuple[int, int], ...]
"""Atomic numbers with their counts in the reduced formula."""


class KnownKinds:
    """A set of kinds (`crystal.prototype.kind`), and of the formulas that they have.

    Canonical letters are dear in some space groups, so they are worked out for those crystals alone whose elements and
    numbers of sites are asked for.
    """

    def __init__(self, rows: Iterable[tuple[int, list[int], list[int]]]) -> None:
        """`rows`: space group, Wyckoff letters and elements of the sites."""
        self._waiting: dict[_Sketch, set[tuple[tuple[int, int], ...]]] = {}
        self._kinds: dict[_Sketch, set[Kind]] = {}
        self._formulas: set[Formula] = set()
        for group, letters, elements in rows:
            pairs = tuple(sorted(zip(letters, elements, strict=True)))
            self._waiting.setdefault(_sketch(group, elements), set()).add(pairs)
            self._formulas.add(_formula(group, letters, elements))

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def __contains__(self, asked: object) -> bool:
        if not isinstance(asked, tuple) or len(asked) != 2:
            return False
        group, elements = asked
        return asked in self._of((group, tuple((element, len(letters)) for element, letters in elements)))

    def has(self, sites: Sites) -> bool:
        """Whether a crystal of the same kind is known."""
        sketch = _sketch(sites.space_group, sites.elements.tolist())
        return sketch in self._waiting and kind(sites.space_group, sites.wyckoff, sites.elements) in self._of(sketch)

    def has_formula(self, sites: Sites) -> bool:
        """Whether a crystal of the same reduced formula is known."""
        return _formula(sites.space_group, sites.wyckoff.tolist(), sites.elements.tolist()) in self._formulas

    def has_formula_of(self, asked: Kind) -> bool:
        """The same of a kind."""
        group, occupied = asked
        pairs = [(letter, element) for element, letters in occupied for letter in letters]
        return _formula(group, [letter for letter, _ in pairs], [element for _, element in pairs]) in self._formulas

    def _of(self, sketch: _Sketch) -> set[Kind]:
        if sketch not in self._kinds:
            rows = self._waiting.get(sketch, set())
            self._kinds[sketch] = {kind(sketch[0], *zip(*pairs, strict=True)) for pairs in rows}
        return self._kinds[sketch]


def _sketch(group: int, elements: list[int]) -> _Sketch:
    return group, tuple(sorted(Counter(elements).items()))


def _formula(group: int, letters: list[int], elements: list[int]) -> Formula:
    multiplicities = wyckoff_table().multiplicities[group].tolist()
    counts: Counter[int] = Counter()
    for letter, element in zip(letters, elements, strict=True):
        counts[element] += multiplicities[letter]
    divisor = math.gcd(*counts.values())
    return tuple(sorted((z, n // divisor) for z, n in counts.items()))


def known_kinds(reference: str | Path) -> KnownKinds:
    """The kinds of the entries of a REFERENCE file that a policy was trained on; entries without tokens have none."""
    columns = {column.name: column for column in REFERENCE}
    table = read_table(reference, [columns[name] for name in _NEEDED])
    rows = zip(*(table.column(name).to_pylist() for name in _NEEDED), strict=True)
    return KnownKinds((g, w, z) for role, g, w, z in rows if role in TRAINED and g and w and z)
