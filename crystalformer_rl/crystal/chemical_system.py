"""The chemical system of a crystal: the elements that it is made of, by name."""

from __future__ import annotations

import re
from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc

from crystalformer_rl.crystal.elements import SYMBOLS


def chemical_system(elements: Iterable[int]) -> str:
    """`Ca-F`: the symbols of the elements in alphabetical order."""
    return "-".join(sorted(SYMBOLS[z - 1] for z in elements))


def chemical_systems(formulas: pa.ChunkedArray | pa.Array) -> pa.Array:
    """The chemical system of each formula; null for a null."""
    flat = formulas.combine_chunks() if isinstance(formulas, pa.ChunkedArray) else formulas
    encoded = pc.dictionary_encode(flat)
    found = ["-".join(sorted(set(re.findall("[A-Z][a-z]?", f)))) for f in encoded.dictionary.to_pylist()]
    return pa.array(found, pa.string()).take(encoded.indices)
