"""Where compounds of textbooks lie against the embedded hull, in their known structures, relaxed with CHGNet.

A line for each that lies outside −0.05 to +0.08 eV/atom; the last line is JSON, counted apart by where the energy of the compound's
own composition on the hull comes from.

    python scripts/textbook_distances.py [--reference reference.parquet]
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from crystalformer_rl.discovery.known_structures import KNOWN_COMPOUND, Known
from crystalformer_rl.discovery.novelty_table import symmetries
from crystalformer_rl.discovery.ordering import Forms
from crystalformer_rl.hull.convex_hull import Hull
from crystalformer_rl.potential import load
from crystalformer_rl.potential.relax_settings import RelaxSettings
from crystalformer_rl.potential.relaxation import relax

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from textbook_compounds import textbook_crystals  # noqa: E402

LOW, HIGH = -0.05, 0.08
"""eV/atom; the window that nine in ten should lie in."""


def main() -> None:
    """Relax, place, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", default=str(ROOT / "resources" / "embedded" / "reference.parquet"))
    arguments = parser.parse_args()
    hull, known = Hull.from_reference(arguments.reference), Known.from_reference(arguments.reference)
    given = [(kind, crystal) for kind, crystals in textbook_crystals().items() for crystal in crystals]
    results = relax(load("chgnet"), [crystal for _, crystal in given], RelaxSettings())
    counts: dict[str, dict[str, int]] = {}
    for (kind, crystal), result in zip(given, results, strict=True):
        z = crystal.atomic_numbers
        own = [e for e in hull.entries(tuple(sorted(set(z.tolist())))) if hull.formula(e.id) == crystal.formula]
        part = counts.setdefault(own[0].energy_from if own else "none", dict.fromkeys(("n", "within", "below", "new"), 0))
        level = known.knowledge(crystal, Forms.of(crystal), None, symmetries).level
        part["n"] += 1
        part["new"] += level not in KNOWN_COMPOUND
        if result.energy is None:
            print(f"{crystal.formula}, {kind}: {result.status}")
            continue
        found = hull.distance(z, hull.formation_energy(z, result.energy))
        part["within"] += LOW < found.e_above_hull < HIGH
        part["below"] += found.e_above_hull < -0.1
        if not LOW < found.e_above_hull < HIGH:
            print(f"{crystal.formula}, {kind}: {found.e_above_hull:+.3f} ± {found.std:.3f} eV/atom")
    print(json.dumps(counts))


if __name__ == "__main__":
    main()
