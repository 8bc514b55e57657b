"""Distance to the hull against pymatgen: agreement, time a crystal, growth with crystals and entries.

    python benchmarks/bench_hull.py [--reference REFERENCE] [--crystals 1000]

The crystals have 1 to 6 elements in equal parts: half of them compositions of the
reference (points of the hull, or degenerate on its facets), half of them others in
the same chemical systems. pymatgen builds a phase diagram of the entries of the
crystal's elements for each crystal, as published code does. The last line is JSON
with the key `ratio`: pymatgen's processor time over ours.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from crystalformer_rl.crystal.elements import SYMBOLS
from crystalformer_rl.hull.convex_hull import Hull
from crystalformer_rl.reference.competing import Entry, Phase

if TYPE_CHECKING:
    from pymatgen.analysis.phase_diagram import PDEntry

ROOT = Path(__file__).resolve().parents[1]


def entries_of(hull: Hull) -> list[Entry]:
    """All entries that may compete."""
    return [entry for system in hull.phases.systems for entry in hull.entries(system)]


def crystals(entries: list[Entry], n: int, seed: int = 0) -> list[np.ndarray]:
    """Atomic numbers of n crystals of 1 to 6 elements."""
    random = np.random.default_rng(seed)
    pools = [[e for e in entries if len(e.composition) == k] for k in range(1, 7)]
    chosen = []
    for i in range(n):
        pool = pools[i % 6]
        composition = pool[random.integers(len(pool))].composition
        counts = np.array(list(composition.values()))
        if i % 12 >= 6:
            counts = counts + random.integers(0, 3, len(counts))
        chosen.append(np.repeat(list(composition), counts))
    return chosen


def pymatgen_distance(
    entries: dict[tuple[int, ...], list[PDEntry]], elemental: dict[int, PDEntry], numbers: np.ndarray
) -> tuple[float, dict[str, float]]:
    """Hull energy (eV/atom) and decomposition by pymatgen."""
    from pymatgen.analysis.phase_diagram import PhaseDiagram
    from pymatgen.core import Composition

    elements = set(numbers.tolist())
    inside = [entry for key, members in entries.items() if elements.issuperset(key) for entry in members]
    diagram = PhaseDiagram(inside + [elemental[z] for z in sorted(elements)])
    composition = Composition({SYMBOLS[z - 1]: int(np.sum(numbers == z)) for z in elements})
    parts = diagram.get_decomposition(composition)
    return diagram.get_hull_energy_per_atom(composition), {
        str(getattr(entry, "name", "")): float(x) for entry, x in parts.items()
    }


def as_pymatgen(entries: list[Entry]) -> dict[tuple[int, ...], list[PDEntry]]:
    """The entries as pymatgen's, by their elements."""
    from pymatgen.analysis.phase_diagram import PDEntry
    from pymatgen.core import Composition

    found: dict[tuple[int, ...], list[PDEntry]] = {}
    for e in entries:
        composition = Composition({SYMBOLS[z - 1]: n for z, n in e.composition.items()})
        entry = PDEntry(composition, e.formation_energy * composition.num_atoms, name=e.id)
        found.setdefault(tuple(sorted(e.composition)), []).append(entry)
    return found


def milliseconds(hull: Hull, targets: list[np.ndarray]) -> float:
    """Processor time a crystal, with nothing cached."""
    fresh = Hull(hull.phases, {SYMBOLS[z - 1]: e for z, e in hull.elemental_energies.items()}, bias=hull.bias)
    start = time.process_time()
    for numbers in targets:
        fresh.distance(numbers, 0.0)
    return 1e3 * (time.process_time() - start) / len(targets)


def main() -> None:
    """Run the comparison and print it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--reference", default=str(ROOT / "resources" / "embedded" / "reference.parquet"))
    parser.add_argument("--crystals", type=int, default=1000)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")

    start = time.process_time()
    hull = Hull.from_reference(arguments.reference)
    print(f"{hull.n_entries} entries read in {time.process_time() - start:.2f} s")
    entries = entries_of(hull)
    targets = crystals(entries, arguments.crystals)
    ours = [hull.distance(numbers, 0.0) for numbers in targets]
    time_ours = milliseconds(hull, targets)

    theirs = as_pymatgen(entries)
    elemental = {entry.composition.elements[0].Z: entry for entry in _elemental(hull)}
    start = time.process_time()
    expected = [pymatgen_distance(theirs, elemental, numbers) for numbers in targets]
    time_theirs = 1e3 * (time.process_time() - start) / len(targets)

    worst = max(abs(-a.e_above_hull - energy) for a, (energy, _) in zip(ours, expected, strict=True))
    same = sum(_same(a.decomposition, b) for a, (_, b) in zip(ours, expected, strict=True))
    for k in range(1, 7):
        part = [numbers for numbers in targets if len(set(numbers.tolist())) == k]
        print(f"{k} elements: {milliseconds(hull, part):.3f} ms a crystal")
    for share in (8, 4, 2, 1):
        phases = [Phase(e.id, e.composition, e.formation_energy) for e in entries[::share]]
        fewer = Hull.of_phases(phases, {SYMBOLS[z - 1]: 0.0 for z in hull.elemental_energies})
        print(f"{len(entries[::share])} compositions: {milliseconds(fewer, targets):.3f} ms a crystal")
        print(f"{len(targets) // share} crystals: {milliseconds(hull, targets[: len(targets) // share]):.3f} ms a crystal")
    print(f"pymatgen {time_theirs:.1f} ms a crystal, ours {time_ours:.3f}; largest difference {worst:.1e} eV/atom;")
    print(f"decomposition equal within 1e-6 on {same} of {len(targets)}")
    result = {
        "ratio": round(time_theirs / time_ours, 1),
        "ms_per_crystal": round(time_ours, 4),
        "ms_per_crystal_pymatgen": round(time_theirs, 2),
        "crystals": len(targets),
        "entries": hull.n_entries,
        "largest_difference_ev_per_atom": float(f"{worst:.2e}"),
        "same_decomposition": same,
    }
    print(json.dumps(result))


def _elemental(hull: Hull) -> list[PDEntry]:
    from pymatgen.analysis.phase_diagram import PDEntry
    from pymatgen.core import Composition

    corners = [hull.entries((z,))[0] for z in sorted(hull.elemental_energies)]
    return [
        PDEntry(Composition(SYMBOLS[z - 1]), entry.formation_energy, name=entry.id)
        for entry in corners
        for z in entry.composition
    ]


def _same(ours: dict[str, float], theirs: dict[str, float]) -> bool:
    return ours.keys() == theirs.keys() and all(abs(ours[name] - theirs[name]) < 1e-6 for name in ours)


if __name__ == "__main__":
    main()
