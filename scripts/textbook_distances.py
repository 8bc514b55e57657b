"""Where compounds of textbooks lie against the embedded hull, in their known structures, relaxed with CHGNet or another potential.

A line for each that lies outside −0.05 to +0.08 eV/atom; then JSON, counted apart by whether the reference has
an energy of the compound's composition in its own potential, or DFT's alone; then how many are probably stable.

    python scripts/textbook_distances.py [--reference reference.parquet] [--potential sevennet-0]
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq

import crystalformer_rl as cf
from crystalformer_rl.tables.discovery_columns import KNOWN_COMPOUND

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from textbook_compounds import textbook_crystals  # noqa: E402

LOW, HIGH = -0.05, 0.08
"""eV/atom; the window that nine in ten should lie in."""


def main() -> None:
    """Relax, place, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", default=str(ROOT / "resources" / "embedded" / "reference.parquet"))
    parser.add_argument("--potential", default="chgnet")
    arguments = parser.parse_args()
    entries = pq.read_table(arguments.reference, columns=["formula", "energy"])
    relaxed = set(entries.filter(pc.is_valid(entries.column("energy"))).column("formula").to_pylist())
    given = [(kind, crystal) for kind, crystals in textbook_crystals().items() for crystal in crystals]
    table = cf.evaluate(
        [crystal for _, crystal in given], reference=arguments.reference, potential=arguments.potential, models=None
    )
    counts: dict[str, dict[str, int]] = {}
    for (kind, crystal), row in zip(given, table.to_dict("records"), strict=True):
        source = "relaxed" if crystal.formula in relaxed else "dft"
        part = counts.setdefault(source, dict.fromkeys(("n", "within", "below", "new"), 0))
        part["n"] += 1
        part["new"] += row["known_level"] not in KNOWN_COMPOUND
        if row["status"] != "ok":
            print(f"{crystal.formula}, {kind}: {row['status']}")
            continue
        height = row["e_above_hull"]
        part["within"] += LOW < height < HIGH
        part["below"] += height < -0.1
        if not LOW < height < HIGH:
            print(f"{crystal.formula}, {kind}: {height:+.3f} ± {row['e_above_hull_std']:.3f} eV/atom")
    print(json.dumps(counts))
    chances = table["p_stable"].dropna()
    print(json.dumps({"p_stable_above_half": int((chances > 0.5).sum()), "p_stable_mean": round(float(chances.mean()), 3)}))


if __name__ == "__main__":
    main()
