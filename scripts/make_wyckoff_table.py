"""Make `crystalformer_rl/crystal/wyckoff.npz` from PyXtal's tables (a development dependency).

The table holds the operations of every Wyckoff position of the 230 space groups
in the standard setting of the International Tables (unique axis b, hexagonal
axes, origin choice 2), translations in 24ths.

    python scripts/make_wyckoff_table.py [OUT]
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from pyxtal.symmetry import Group

OUT = Path(__file__).resolve().parent.parent / "crystalformer_rl" / "crystal" / "wyckoff.npz"
LETTERS = "abcdefghijklmnopqrstuvwxyzA"


def make_table() -> dict[str, np.ndarray]:
    """Arrays `first` (231, 28) offset of each position's operations, and the operations themselves."""
    offsets = np.zeros((231, 29), np.int32)
    rotations: list[np.ndarray] = []
    translations: list[np.ndarray] = []
    count = 0
    for g in range(1, 231):
        positions = {p.letter: p for p in Group(g).Wyckoff_positions}
        offsets[g, :2] = count
        for w, letter in enumerate(LETTERS, start=1):
            for operation in positions[letter].ops if letter in positions else ():
                matrix = np.asarray(operation.affine_matrix)
                rotations.append(np.rint(matrix[:3, :3]).astype(np.int8))
                shift = matrix[:3, 3] * 24
                if not np.allclose(shift, np.rint(shift), atol=1e-3) or not np.allclose(matrix[:3, :3], rotations[-1]):
                    raise ValueError(f"space group {g}, position {letter}: an operation is not in 24ths")
                translations.append(np.rint(shift).astype(np.int8))
                count += 1
            offsets[g, w + 1] = count
    return {"offsets": offsets, "rotations": np.array(rotations), "translations": np.array(translations)}


if __name__ == "__main__":
    table = make_table()
    np.savez_compressed(
        Path(sys.argv[1]) if len(sys.argv) > 1 else OUT,
        offsets=table["offsets"],
        rotations=table["rotations"],
        translations=table["translations"],
    )
