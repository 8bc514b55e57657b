"""The embedded reference with all that the embedded policy is trained on: crystals that stood in it by their energy alone, and recovered structures.

    python scripts/trained_reference.py training.parquet recovered.parquet --work work/trained --out reference.parquet

TRAINING is what `training_crystals.py` wrote. Those of its crystals that the reference holds for the hull alone are relaxed from their geometries as these
entries were, in shards that a killed run takes up again, and become pretraining entries with crystal and tokens; their energies must be
those that stood there, to a few meV/atom. Then come the structures of RECOVERED. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from update_reference import EMBEDDED, SETTINGS, relaxed_rows

from crystalformer_rl.crystal.elements import parse_formula
from crystalformer_rl.potential import load
from crystalformer_rl.reading.inputs import read_crystals
from crystalformer_rl.reference.competing import EnergyFrom
from crystalformer_rl.reference.file import write_reference
from crystalformer_rl.reference.formation_energy import by_number, formation_energy
from crystalformer_rl.stages.extend import extend
from crystalformer_rl.tables.column import table_of_rows
from crystalformer_rl.tables.energy_columns import REFERENCE
from crystalformer_rl.tables.parquet import read_table, write_table
from crystalformer_rl.tables.provenance import provenance, read_provenance
from crystalformer_rl.tables.role import Role
from crystalformer_rl.tables.status import OK

_KEPT = {"id", "formula", "role", "source", "chemical_system", "dft_formation_energy", "dft_e_above_hull", "dft_band_gap"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("training")
    parser.add_argument("recovered")
    parser.add_argument("--work", required=True, type=Path, help="Folder for finished parts")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--reference", default=str(EMBEDDED))
    parser.add_argument("--out", required=True)
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)

    known, record = read_table(arguments.reference, REFERENCE), read_provenance(arguments.reference)
    crystals = read_crystals([arguments.training])
    trained = set(crystals.column("id").to_pylist())
    waiting = {
        str(i)
        for i, role in zip(*(known.column(n).to_pylist() for n in ("id", "role")), strict=True)
        if role == Role.HULL_ONLY and i in trained
    }
    relaxed = relaxed_rows(waiting, crystals, load("chgnet"), arguments.work, arguments.processes, only_ready=False)
    zero, failed = by_number(record["elemental_energies"]), 0
    rows: list[dict[str, Any]] = []
    changes: list[float] = []
    for row in known.to_pylist():
        found = relaxed.get(row["id"])
        if found is not None and found["status"] == OK and found["wyckoff"]:
            formation = formation_energy(parse_formula(row["formula"]), found["energy"], zero)
            assert formation is not None
            changes.append(formation - row["formation_energy"])
            row |= {name: value for name, value in found.items() if name not in _KEPT}
            row |= {
                "role": Role.PRETRAINING,
                "energy_from": EnergyFrom.RELAXED.value,
                "formation_energy": round(formation, 6),
            }
        failed += row["id"] in waiting and row["role"] == Role.HULL_ONLY
        rows.append(row)
    kept = {key: record[key] for key in ("potential", "elemental_energies", "energies", "bias")}
    kept["energies"]["pretraining, of WBM"] = kept["energies"]["hull_only"].partition(";")[0]
    kept["energies"]["recovered"] = (
        f"relaxed with the space group kept, to {SETTINGS.fmax} eV/Å and {SETTINGS.smax} GPa; on no hull"
    )
    base = arguments.work / "reference.parquet"
    write_table(base, table_of_rows(REFERENCE, rows), {})
    table = extend(base, arguments.recovered)
    inputs = [arguments.training, arguments.recovered, arguments.reference]
    write_reference(arguments.out, table, provenance("reference", {"relaxed": SETTINGS.model_dump()}, inputs, **kept))
    print(
        json.dumps(
            {
                "roles": dict(Counter(table.column("role").to_pylist())),
                "relaxed anew": len(changes),
                "without tokens": failed,
                "largest change, eV/atom": round(float(np.abs(changes).max(initial=0)), 4),
                "bytes": Path(arguments.out).stat().st_size,
            }
        )
    )


if __name__ == "__main__":
    main()
