"""Which crystals the embedded policy is trained on: small ones near the hull, by DFT where it says so, else by DFT's energy on our hull and the potential's.

    python scripts/training_crystals.py structures.parquet --reference resources/embedded/reference.parquet --out training.parquet

Of crystals without a `dft_e_above_hull` (WBM), those count whose energies both lie at most 0.1 eV/atom above the reference's hull: the potential's,
and DFT's moved by the potential's bias. Of these, formulas that are held out are left out: they would be no test of what is known.
"""

from __future__ import annotations

import argparse
from collections import Counter

import pyarrow as pa

from crystalformer_rl.crystal.elements import parse_formula, reduced_formula
from crystalformer_rl.crystal.split import held_out
from crystalformer_rl.hull.convex_hull import Hull, NoReferenceEnergyError
from crystalformer_rl.reference.energies import read_energies
from crystalformer_rl.tables.parquet import read_table, write_table
from crystalformer_rl.tables.provenance import provenance

NEAR, MOST_ATOMS = 0.1, 20


def heights(reference: str) -> dict[str, float]:
    """{id: eV/atom above the hull}, the higher of the potential's and DFT's, of entries without a DFT label of their own."""
    energies = read_energies(reference)
    hull, bias = Hull.of(energies), energies.bias
    assert bias is not None
    names = ("id", "formula", "formation_energy", "dft_formation_energy", "dft_e_above_hull", "status")
    table = read_table(reference)
    found = {}
    for name, formula, own, dft, label, status in zip(*(table.column(n).to_pylist() for n in names), strict=True):
        if label is not None or None in (own, dft) or status != "ok":
            continue
        counts = parse_formula(formula)
        numbers = [z for z, n in counts.items() for _ in range(n)]
        try:
            found[name] = max(hull.distance(numbers, e).e_above_hull for e in (own, dft + bias.of(counts)))
        except NoReferenceEnergyError:
            continue
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("crystals")
    parser.add_argument("--reference", required=True)
    parser.add_argument("--out", required=True)
    arguments = parser.parse_args()
    table, found = read_table(arguments.crystals), heights(arguments.reference)
    name = "material_id" if "material_id" in table.column_names else "id"
    rows = zip(*(table.column(n).to_pylist() for n in (name, "atomic_numbers", "dft_e_above_hull")), strict=True)
    kept, above = [], []
    for identity, numbers, label in rows:
        height = found.get(identity) if label is None else label
        new = label is None and held_out(reduced_formula(numbers))
        above.append(height)
        kept.append(height is not None and height <= NEAR and len(numbers) <= MOST_ATOMS and not new)
    table = table.append_column("e_above_hull", pa.array(above, pa.float64())).filter(pa.array(kept))
    write_table(arguments.out, table, provenance("training crystals", {}, [arguments.crystals, arguments.reference]))
    print(f"{table.num_rows} crystals: {dict(Counter(table.column('source').to_pylist()))}")


if __name__ == "__main__":
    main()
