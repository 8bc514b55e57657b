"""Encode and decode every crystal of a table and compare by StructureMatcher; print what cannot be encoded, and why.

python scripts/check_roundtrip.py CRYSTALS.parquet [EVERY]
"""

from __future__ import annotations

import sys
from collections import Counter

from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Structure
from tqdm import tqdm

from crystalformer_rl.crystal.encode import encode
from crystalformer_rl.crystal.structure import Crystal, crystals_from_table
from crystalformer_rl.crystal.tokens import decode, primitive
from crystalformer_rl.reading.inputs import read_crystals


def as_structure(crystal: Crystal) -> Structure:
    return Structure(crystal.lattice, crystal.atomic_numbers.tolist(), crystal.frac_coords)


def main(path: str, every: int = 1) -> None:
    table = read_crystals([path])
    table = table.take(list(range(0, table.num_rows, every)))
    crystals, statuses = crystals_from_table(table)
    matcher = StructureMatcher(ltol=0.02, stol=0.05, angle_tol=0.5, scale=False)
    counts: Counter[str] = Counter()
    for name, crystal, given in zip(table.column("id").to_pylist(), tqdm(crystals), statuses, strict=True):
        if crystal is None or given != "ok":
            counts[given] += 1
            continue
        sites, status = encode([crystal])[0]
        if sites is None:
            counts[status] += 1
        # The matcher's own reduction takes a slight distortion for none; then the primitive cell decides.
        elif any(matcher.fit(as_structure(crystal), as_structure(cell(sites))) for cell in (decode, primitive)):
            counts["the same crystal"] += 1
        else:
            counts["another crystal"] += 1
            print(f"another crystal: {name}")
    print(dict(counts))


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
