"""Relax many crystals with and without nonsense among them, and compare: no row lost, the same statuses and energies.

python scripts/nonsense_beside_crystals.py [--n 10000] [--atoms 6] [--potential chgnet]

A tenth of the crystals is nonsense of eleven kinds. The others are entries of the embedded reference, stretched by 3 %.
"""

from __future__ import annotations

import argparse
import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa

from crystalformer_rl.crystal.structure import Crystal, crystal_columns, crystals_from_table
from crystalformer_rl.potential import load
from crystalformer_rl.potential.relax_settings import RelaxSettings
from crystalformer_rl.reading.tables import checked_crystals
from crystalformer_rl.resources.registry import embedded_folder
from crystalformer_rl.stages.hull import hull
from crystalformer_rl.stages.relax import relax
from crystalformer_rl.tables.parquet import read_table

SEED = 0
EVALUATIONS = 4


def nonsense() -> dict[str, Callable[[Crystal], dict[str, Any]]]:
    """Ways to spoil a crystal: columns that replace its own."""

    def lattice(scale: float) -> Callable[[Crystal], dict[str, Any]]:
        return lambda c: {"lattice": (scale * c.lattice).ravel().tolist()}

    def elements(z: int) -> Callable[[Crystal], dict[str, Any]]:
        return lambda c: {"atomic_numbers": [z] * len(c)}

    return {
        "zero volume": lattice(0.0),
        "a cell of 10⁶ Å": lattice(1e6),
        "a lattice that is no number": lambda c: {"lattice": [math.nan] * 9},
        "coordinates that are no numbers": lambda c: {"frac_coords": [math.nan] * (3 * len(c))},
        "a coordinate too few": lambda c: {"frac_coords": c.frac_coords.ravel().tolist()[:-1]},
        "all atoms on one place": lambda c: {
            "frac_coords": [0.0] * (3 * len(c)),
            "lattice": (4 * np.eye(3)).ravel().tolist(),
        },
        "500 atoms": lambda c: {
            "atomic_numbers": [11] * 500,
            "frac_coords": np.random.default_rng(SEED).random(1500).tolist(),
            "lattice": (22 * np.eye(3)).ravel().tolist(),
        },
        "a noble gas": elements(10),
        "an element that the potential lacks": elements(100),
        "no element": elements(0),
        "no atoms": lambda c: {"atomic_numbers": [], "frac_coords": []},
    }


def crystals(n: int, most_atoms: int) -> list[dict[str, Any]]:
    """Rows of the embedded reference's small crystals, each stretched and strained a little."""
    reference = read_table(embedded_folder() / "reference.parquet")
    found, _ = crystals_from_table(reference.select(["id", "atomic_numbers", "frac_coords", "lattice"]))
    small = [c for c in found if c is not None and len(c) <= most_atoms]
    random = np.random.default_rng(SEED)
    chosen = [small[int(k)] for k in random.choice(len(small), n, replace=n > len(small))]
    made = [Crystal(c.atomic_numbers, c.frac_coords, 1.03 * c.lattice) for c in chosen]
    columns = crystal_columns(made)
    return [
        {name: values[k] for name, values in columns.items() if name != "formula"} | {"id": f"good-{k}"} for k in range(n)
    ]


def table(rows: list[dict[str, Any]]) -> pa.Table:
    names = ("id", "atomic_numbers", "frac_coords", "lattice")
    types = (pa.string(), pa.list_(pa.int64()), pa.list_(pa.float64()), pa.list_(pa.float64()))
    columns = {name: pa.array([row[name] for row in rows], kind) for name, kind in zip(names, types, strict=True)}
    return checked_crystals(pa.table(columns), "the crystals")


def energies(rows: list[dict[str, Any]], potential: Any) -> dict[str, dict[str, Any]]:
    """Status and energies of each row after a short relaxation and the hull."""
    relaxed = relax(table(rows), potential, RelaxSettings(max_evaluations=EVALUATIONS))
    distances = hull(relaxed, [embedded_folder() / "reference.parquet"])
    assert relaxed.column("id").to_pylist() == [row["id"] for row in rows], "a row is lost"
    heights = distances.select(["e_above_hull", "status"]).rename_columns(["e_above_hull", "hull_status"])
    kept = relaxed.select(["id", "status", "energy", "energy_initial"])
    joined = [a | b for a, b in zip(kept.to_pylist(), heights.to_pylist(), strict=True)]
    return {row["id"]: row for row in joined}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=10_000, help="crystals, nonsense included")
    parser.add_argument("--atoms", type=int, default=6, help="most atoms of a good crystal")
    parser.add_argument("--potential", default="chgnet")
    options = parser.parse_args()
    good = crystals(options.n - options.n // 10, options.atoms)
    kinds = list(nonsense().items())
    random = np.random.default_rng(SEED)
    mixed, kind_of = list(good), {}
    for k in range(options.n // 10):
        name, spoil = kinds[k % len(kinds)]
        row = dict(good[int(random.integers(len(good)))])
        points, vectors = np.reshape(row["frac_coords"], (-1, 3)), np.reshape(row["lattice"], (3, 3))
        crystal = Crystal(np.array(row["atomic_numbers"]), points, vectors)
        row |= spoil(crystal) | {"id": f"bad-{k}"}
        kind_of[row["id"]] = name
        mixed.insert(int(random.integers(len(mixed) + 1)), row)
    potential = load(options.potential)
    alone, beside = energies(good, potential), energies(mixed, potential)
    print(f"{len(mixed)} crystals in, {len(beside)} rows out; {len(kind_of)} of them nonsense")
    for name, _ in kinds:
        found = Counter(beside[k]["status"] for k, kind in kind_of.items() if kind == name)
        print(f"  {name}: {', '.join(f'{n} {status}' for status, n in found.items())}")
    print("the others:", dict(Counter(row["status"] for row in alone.values())))
    changed = [k for k in alone if any(alone[k][c] != beside[k][c] for c in ("status", "hull_status"))]
    print(f"with another status beside the nonsense: {len(changed)}")
    for name in ("energy", "energy_initial", "e_above_hull"):
        pairs = [(alone[k][name], beside[k][name]) for k in alone if alone[k][name] is not None]
        print(f"largest change of {name}: {max(abs(a - b) for a, b in pairs):.1e} eV/atom of {len(pairs)}")


if __name__ == "__main__":
    main()
