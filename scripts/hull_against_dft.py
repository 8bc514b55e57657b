"""The whole chain of energies against density-functional theory, on entries that no policy was trained on.

Held-out entries with a DFT label (`dft_e_above_hull`) are relaxed from their DFT geometries with the reference's potential; their
distance to the reference's hull is compared with the label, and so is the classification at 0.05 eV/atom. The entries
themselves stay in the reference, as their DFT energies stay in the hull that the labels were made with.

    python scripts/hull_against_dft.py structures.parquet [--n 500]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path

import numpy as np
from tqdm import tqdm

from crystalformer_rl.crystal.readers import read_crystals
from crystalformer_rl.crystal.structure import Crystal, crystals_from_table
from crystalformer_rl.hull.convex_hull import Hull
from crystalformer_rl.potential import load
from crystalformer_rl.potential.relax_settings import RelaxSettings
from crystalformer_rl.potential.relaxation import relax
from crystalformer_rl.reference.compatibility import check_same_potential
from crystalformer_rl.tables.crystal_columns import ID
from crystalformer_rl.tables.parquet import read_table

EMBEDDED = Path(__file__).resolve().parents[1] / "resources" / "embedded" / "reference.parquet"
STABLE = 0.05
"""eV/atom above the hull, the bound of the classification."""


def labelled(path: str, reference: str, role: str, n: int) -> tuple[list[Crystal], np.ndarray]:
    """`n` crystals of that role in the reference, chosen by their ids' digests, and their labels (n,) eV/atom."""
    known = read_table(reference, [ID])
    of_role = {i for i, r in zip(known.column("id").to_pylist(), known.column("role").to_pylist(), strict=True) if r == role}
    table = read_crystals([path])
    crystals, _ = crystals_from_table(table)
    rows = zip(table.column("id").to_pylist(), crystals, table.column("dft_e_above_hull").to_pylist(), strict=True)
    found = [(i, c, label) for i, c, label in rows if i in of_role and c is not None and label is not None]
    found.sort(key=lambda row: hashlib.sha256(row[0].encode()).hexdigest())
    return [c for _, c, _ in found[:n]], np.array([label for _, _, label in found[:n]])


def figures(predicted: np.ndarray, label: np.ndarray) -> dict[str, float]:
    """Errors (eV/atom) and the classification at `STABLE`, positive where stable."""
    said, true = predicted <= STABLE, label <= STABLE
    hits = int((said & true).sum())
    precision, recall = hits / max(said.sum(), 1), hits / max(true.sum(), 1)
    return {
        "mae": float(np.abs(predicted - label).mean()),
        "mean_error": float((predicted - label).mean()),
        "median_absolute_error": float(np.median(np.abs(predicted - label))),
        "stable_by_dft": int(true.sum()),
        "stable_by_us": int(said.sum()),
        "precision": precision,
        "recall": recall,
        "f1": 2 * precision * recall / max(precision + recall, 1e-12),
        "balanced_accuracy": float((recall + (~said & ~true).sum() / max((~true).sum(), 1)) / 2),
    }


def main() -> None:
    """Relax, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("crystals", help="DFT geometries with id and dft_e_above_hull")
    parser.add_argument("--reference", default=str(EMBEDDED))
    parser.add_argument("--potential", default="chgnet")
    parser.add_argument("--role", default="held_out", help="held_out, pretraining or hull_only")
    parser.add_argument("--n", type=int, default=500)
    arguments = parser.parse_args()

    potential = load(arguments.potential)
    hull = Hull.from_reference(arguments.reference)
    check_same_potential(f"the potential {arguments.potential}", potential.identity, arguments.reference, hull.identity)
    crystals, label = labelled(arguments.crystals, arguments.reference, arguments.role, arguments.n)
    with tqdm(total=len(crystals), desc="relax", unit="crystal", disable=not sys.stderr.isatty()) as bar:
        results = relax(potential, crystals, RelaxSettings(), advance=bar.update)
    ok = np.array([r.energy is not None for r in results])

    def distances(energies: list[float | None]) -> np.ndarray:
        pairs = [(c.atomic_numbers, e) for c, e in zip(crystals, energies, strict=True) if e is not None]
        return np.array([hull.distance(z, hull.formation_energy(z, e)).e_above_hull for z, e in pairs])

    relaxed = distances([r.energy for r in results])
    single = distances([r.energy_initial if r.energy is not None else None for r in results])
    print("single points on the DFT geometries:", json.dumps(figures(single, label[ok])))
    print(json.dumps({"crystals": len(crystals), "failed": int((~ok).sum()), **figures(relaxed, label[ok])}))


if __name__ == "__main__":
    main()
