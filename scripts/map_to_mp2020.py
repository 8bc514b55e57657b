"""Formation energies with the Materials Project's older corrections, brought to the scale of today's (MP2020).

The two scales differ by amounts that are linear in the composition: for each species that the corrections know, as the most
electronegative element of its compound or not, and for the metals that have a Hubbard U beside oxygen or fluorine. Their
coefficients are fitted, robustly, on the compositions that a table of crystals has on the new scale, and validated on
compositions left out in five parts. Where the two tables' lowest entries are different polymorphs, a residual says so and no
map can mend it. The last line is JSON.

    python scripts/map_to_mp2020.py mp_compositions.parquet structures.parquet --out dft_energies.parquet
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
from scipy.optimize import least_squares

from crystalformer_rl.crystal.elements import ATOMIC_NUMBERS, SYMBOLS, electronegativity_rank, reduced_formula
from crystalformer_rl.reference.dft_rows import COLUMNS
from crystalformer_rl.tables.column import Column, make_table
from crystalformer_rl.tables.parquet import read_table, write_table
from crystalformer_rl.tables.provenance import provenance

SPECIES = ["H", "C", "N", "O", "F", "Si", "P", "S", "Cl", "Ge", "As", "Se", "Br", "Sb", "Te", "I", "Bi", "B"]
WITH_U = ["Co", "Cr", "Fe", "Mn", "Mo", "Ni", "V", "W"]
NAMES = tuple(f"{a} {place}" for a in SPECIES for place in ("as the anion", "beside another anion")) + tuple(
    f"{m} beside {a}" for m in WITH_U for a in ("O", "F")
)
_PLACE = {name: k for k, name in enumerate(NAMES)}
_SCALE = 0.01  # eV/atom; residuals beyond it count by their logarithm
_RIDGE = 1e-3
_FOLDS = 5

Composition = tuple[tuple[int, int], ...]


def reduced(formula: str) -> Composition:
    """The reduced composition of a formula, parentheses included."""
    from pymatgen.core import Composition as Parsed

    counts = {ATOMIC_NUMBERS[str(e)]: round(n) for e, n in Parsed(formula).items()}
    divisor = math.gcd(*counts.values())
    return tuple(sorted((z, n // divisor) for z, n in counts.items()))


def features(key: Composition) -> np.ndarray:
    """Atom fractions of the species that corrections know, by their place in the compound; zero for an element."""
    row = np.zeros(len(NAMES))
    if len(key) == 1:
        return row
    total = sum(n for _, n in key)
    fraction = {SYMBOLS[z - 1]: n / total for z, n in key}
    anion = SYMBOLS[max((z for z, _ in key), key=electronegativity_rank) - 1]
    for a in SPECIES:
        if a in fraction:
            row[_PLACE[f"{a} {'as the anion' if a == anion else 'beside another anion'}"]] = fraction[a]
    if anion in ("O", "F"):
        for m in WITH_U:
            if m in fraction:
                row[_PLACE[f"{m} beside {anion}"]] = fraction[m]
    return row


def fitted(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Coefficients by least squares with Cauchy's loss, since different polymorphs are outliers."""
    found = least_squares(
        lambda b: np.concatenate([x @ b - y, _RIDGE * b]), np.zeros(x.shape[1]), loss="cauchy", f_scale=_SCALE
    )
    return np.asarray(found.x)


def cross_validated(x: np.ndarray, y: np.ndarray, keys: Sequence[Composition]) -> np.ndarray:
    """Residuals (eV/atom) of compositions left out."""
    fold = np.array([int(hashlib.sha256(repr(key).encode()).hexdigest(), 16) % _FOLDS for key in keys])
    residual = np.empty(len(y))
    for part in range(_FOLDS):
        residual[fold == part] = (x @ fitted(x[fold != part], y[fold != part]) - y)[fold == part]
    return residual


def lowest(table: pa.Table, energies: str) -> dict[Composition, float]:
    """The lowest energy of each composition in a table."""
    found: dict[Composition, float] = {}
    for formula, energy in zip(table.column("formula").to_pylist(), table.column(energies).to_pylist(), strict=True):
        if energy is not None:
            key = reduced(formula)
            found[key] = min(energy, found.get(key, math.inf))
    return found


def on_new_scale(crystals: pa.Table) -> dict[Composition, float]:
    """The lowest energies of the crystals that come from the Materials Project itself, which are on its scale of today."""
    rows = [k for k, name in enumerate(crystals.column("source").to_pylist()) if name != "wbm"]
    return lowest(crystals.take(rows), "dft_formation_energy")


def mapped(old: Mapping[Composition, float], coefficients: np.ndarray) -> dict[Composition, float]:
    """The energies on the new scale."""
    return {key: energy + float(features(key) @ coefficients) for key, energy in old.items()}


def main() -> None:
    """Fit, validate, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("compositions", help="Parquet with formula and legacy_formation_energy")
    parser.add_argument("crystals", help="Parquet with formula, source and dft_formation_energy on the new scale")
    parser.add_argument("--out", required=True, help="Parquet with formula and dft_formation_energy")
    arguments = parser.parse_args()

    energy = Column("legacy_formation_energy", pa.float64(), "eV/atom", "formation energy with the older corrections")
    old = lowest(read_table(arguments.compositions, [COLUMNS[0], energy]), energy.name)
    new = on_new_scale(read_table(arguments.crystals, COLUMNS))
    keys = [key for key in old if key in new]
    x = np.stack([features(key) for key in keys])
    y = np.array([new[key] - old[key] for key in keys])
    residual = cross_validated(x, y, keys)
    coefficients = fitted(x, y)
    for name, value in zip(NAMES, coefficients, strict=True):
        if abs(value) > 0.005:
            print(f"{name}: {value:+.3f} eV per atom of it")
    found = mapped(old, coefficients)
    data = {
        "formula": [reduced_formula([z for z, n in key for _ in range(n)]) for key in found],
        "dft_formation_energy": [round(value, 4) for value in found.values()],
    }
    figures = {
        "compositions": len(old),
        "in_both": len(keys),
        "before_median": float(np.median(np.abs(y))),
        "residual_median": float(np.median(np.abs(residual))),
        "residual_5_percent": float(np.quantile(residual, 0.05)),
        "residual_95_percent": float(np.quantile(residual, 0.95)),
    }
    inputs = [arguments.compositions, arguments.crystals]
    write_table(arguments.out, make_table(COLUMNS, data), provenance("map_to_mp2020", {}, inputs, cross_validation=figures))
    print(json.dumps({name: round(value, 5) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
