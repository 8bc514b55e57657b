"""Distances to the hull against density-functional theory's, on crystals that the reference is made not to know.

Entries of a reference that the potential relaxed are taken for crystals to judge, one after the other: as they stand in the
reference; with their composition taken out of the relaxed entries, so that of it DFT's energy competes; and with it taken out
altogether. The label is the distance that DFT gives: `dft_e_above_hull` of the Materials Project's crystals, and for those of
WBM their DFT energy less the hull of the reference's DFT energies, without any of WBM. A line of JSON for each.

    python scripts/hull_against_dft.py [--reference reference.parquet] [--n 1500]
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import math
import sys
from collections.abc import Callable, Iterable
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from crystalformer_rl.crystal.elements import parse_formula
from crystalformer_rl.hull.convex_hull import Hull
from crystalformer_rl.reference.bias import Bias
from crystalformer_rl.reference.competing import EnergyFrom, Phase
from crystalformer_rl.reference.energies import ReferenceEnergies, read_energies
from crystalformer_rl.tables.column import pick
from crystalformer_rl.tables.energy_columns import REFERENCE
from crystalformer_rl.tables.parquet import read_table

EMBEDDED = Path(__file__).resolve().parents[1] / "resources" / "embedded" / "reference.parquet"
BOUNDS = (0.1, 0.025)
"""eV/atom above the hull, of the classification."""

_NAMES = ("id", "formula", "source", "role", "formation_energy", "dft_formation_energy", "dft_e_above_hull", "energy_from")

Edit = Callable[[list[Phase], dict[int, int]], list[Phase]]


def as_it_stands(phases: list[Phase], composition: dict[int, int]) -> list[Phase]:
    return phases


def without_relaxed(phases: list[Phase], composition: dict[int, int]) -> list[Phase]:
    """Of the composition DFT's energies alone."""
    return [dataclasses.replace(p, energy=math.nan, energy_from="dft") if same(p, composition) else p for p in phases]


def without(phases: list[Phase], composition: dict[int, int]) -> list[Phase]:
    """Nothing of the composition."""
    return [p for p in phases if not same(p, composition)]


EDITS: dict[str, Edit] = {"as it stands": as_it_stands, "without relaxed": without_relaxed, "without": without}


def same(phase: Phase, composition: dict[int, int]) -> bool:
    """Whether a phase is of a composition."""
    if phase.composition.keys() != composition.keys():
        return False
    return len({phase.composition[z] / n for z, n in composition.items()}) == 1


def local_hull(energies: ReferenceEnergies, composition: dict[int, int], edit: Edit, wbm: bool, bias: Bias | None) -> Hull:
    """The hull of a crystal's own chemical system."""
    elements = sorted(composition)
    subsets = (subset for size in range(1, len(elements) + 1) for subset in combinations(elements, size))
    phases = [p for subset in subsets for p in energies.phases.of(subset) if wbm or not p.id.startswith("wbm")]
    return Hull.of_phases(edit(phases, composition), energies.elemental_energies, energies.identity, bias)


def distance(hull: Hull, composition: dict[int, int], energy: float) -> tuple[float, float]:
    """eV/atom, and its standard deviation."""
    found = hull.distance([z for z, n in composition.items() for _ in range(n)], energy)
    return found.e_above_hull, found.std


def chosen(path: str, keep: Callable[[dict[str, Any]], bool], n: int) -> list[dict[str, Any]]:
    """`n` relaxed rows with a DFT energy that `keep` takes, by their ids' digests."""
    rows = read_table(path, optional=pick(REFERENCE, *_NAMES)).to_pylist()
    rows = [row for row in rows if row.get("energy_from", EnergyFrom.RELAXED) == EnergyFrom.RELAXED]
    rows = [row for row in rows if None not in (row["formation_energy"], row["dft_formation_energy"]) and keep(row)]
    return sorted(rows, key=lambda row: hashlib.sha256(row["id"].encode()).hexdigest())[:n]


def dft_only(phases: list[Phase], composition: dict[int, int]) -> list[Phase]:
    """DFT's energies of all phases."""
    return [dataclasses.replace(p, energy=math.nan) for p in phases]


def figures(predicted: np.ndarray, std: np.ndarray, label: np.ndarray) -> dict[str, float]:
    """Errors (eV/atom), the share of labels within 90 % intervals, the classification, and how many lie far below."""
    error = predicted - label
    found = {
        "n": len(label),
        "median_absolute_error": float(np.median(np.abs(error))),
        "mean_absolute_error": float(np.abs(error).mean()),
        "median_error": float(np.median(error)),
        "within_90_percent_interval": float((np.abs(error) <= 1.645 * std).mean()),
        "more_than_0.1_below": float((predicted < -0.1).mean()),
    }
    for bound in BOUNDS:
        said, true = predicted <= bound, label <= bound
        hits = int((said & true).sum())
        found |= {f"precision_{bound}": hits / max(int(said.sum()), 1), f"recall_{bound}": hits / max(int(true.sum()), 1)}
    return {name: round(value, 4) for name, value in found.items()}


def judged(
    energies: ReferenceEnergies, rows: Iterable[dict[str, Any]], edit: Edit, wbm: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Distances and standard deviations of rows by the potential."""
    found = []
    for row in tqdm(list(rows), unit="crystal", disable=not sys.stderr.isatty(), leave=False):
        composition = parse_formula(row["formula"])
        found.append(
            distance(local_hull(energies, composition, edit, wbm, energies.bias), composition, row["formation_energy"])
        )
    return np.array([d for d, _ in found]), np.array([s for _, s in found])


def main() -> None:
    """Judge, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", default=str(EMBEDDED))
    parser.add_argument("--n", type=int, default=1500)
    arguments = parser.parse_args()
    energies = read_energies(arguments.reference)
    mpts = [
        *chosen(arguments.reference, lambda r: r["source"] == "mpts_52" and (r["dft_e_above_hull"] or 0) > 0.1, arguments.n),
        *chosen(arguments.reference, lambda r: r["source"] == "mpts_52" and r["dft_e_above_hull"] <= 0.1, arguments.n),
    ]
    near = chosen(arguments.reference, lambda r: r["role"] == "held_out", arguments.n)
    wbm = chosen(arguments.reference, lambda r: r["source"] == "wbm", arguments.n)
    scale = Bias("") if energies.bias is None else Bias(energies.bias.scale)
    for row in wbm:
        composition = parse_formula(row["formula"])
        hull = local_hull(energies, composition, dft_only, False, scale)
        row["dft_e_above_hull"], _ = distance(hull, composition, row["dft_formation_energy"])
    for name, rows in (("held out", near), ("mpts_52, half of them above 0.1", mpts), ("wbm", wbm)):
        label = np.array([row["dft_e_above_hull"] for row in rows])
        for how, edit in EDITS.items():
            print(
                json.dumps(
                    {"crystals": name, "reference": how, **figures(*judged(energies, rows, edit, name != "wbm"), label)}
                )
            )


if __name__ == "__main__":
    main()
