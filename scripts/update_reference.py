"""The embedded reference made complete: entries for the hull alone relaxed, and every composition that DFT knows beside them.

Entries that the embedded file holds relaxed stay as they are. Those that only hold the hull up are relaxed from the geometries
in CRYSTALS, in shards that a killed run takes up again. Labels of WBM, which are on the older scale of the Materials Project's
corrections, are mapped as `map_to_mp2020.py` maps the compositions. The last line is JSON.

    python scripts/update_reference.py structures.parquet mp_compositions.parquet --work work/hull --out reference.parquet
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from map_to_mp2020 import features, fitted, lowest, mapped, on_new_scale, reduced
from tqdm import tqdm

from crystalformer_rl.crystal.elements import parse_formula, reduced_formula
from crystalformer_rl.crystal.structure import crystals_from_table
from crystalformer_rl.potential import load
from crystalformer_rl.potential.protocol import Potential
from crystalformer_rl.potential.relax_settings import RelaxSettings
from crystalformer_rl.potential.shards import run_shards, shards_of
from crystalformer_rl.reading.inputs import read_crystals
from crystalformer_rl.reference.competing import EnergyFrom
from crystalformer_rl.reference.dft_completion import completed
from crystalformer_rl.reference.dft_rows import dft_rows
from crystalformer_rl.reference.file import write_reference
from crystalformer_rl.reference.formation_energy import by_number, formation_energy
from crystalformer_rl.reference.scale import MP2020_SCALE
from crystalformer_rl.tables.column import FLOAT, Column, make_table, table_of_rows
from crystalformer_rl.tables.energy_columns import REFERENCE
from crystalformer_rl.tables.parquet import read_table
from crystalformer_rl.tables.provenance import provenance, read_provenance
from crystalformer_rl.tables.status import OK

EMBEDDED = Path(__file__).resolve().parents[1] / "resources" / "embedded" / "reference.parquet"
SETTINGS = RelaxSettings(fmax=0.05, smax=0.5, max_evaluations=20)
SOURCE = "MP 2019-04 (Matbench)"

Row = dict[str, Any]


def relaxed_rows(
    wanted: set[str], crystals: pa.Table, potential: Potential, work: Path, processes: int, only_ready: bool
) -> dict[str, Row]:
    """Energy, status and evaluations of the wanted entries by id, relaxed with their space group kept."""
    found, statuses = crystals_from_table(crystals)
    ids = crystals.column("id").to_pylist()
    rows = [k for k, name in enumerate(ids) if name in wanted and statuses[k] == OK]
    results: dict[str, Row] = {}
    for source in ("mpts_52", "wbm"):  # known compounds first
        part = [k for k in rows if crystals.column("source")[k].as_py() == source]
        shards = shards_of("relaxed", part, ids, found, SETTINGS.model_dump(), potential.identity)
        if only_ready:
            shards = [shard for shard in shards if shard.path(work).is_file()]
        with tqdm(total=len(part), desc=f"relax {source}", unit="crystal", disable=not sys.stderr.isatty()) as bar:
            for shard, table in run_shards(shards, work, "chgnet", potential, processes):
                results |= {row["id"]: row for row in table.to_pylist()}
                bar.update(len(shard.rows))
    return results


def main() -> None:
    """Relax, map, complete, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("crystals", help="DFT geometries with id, source and dft_formation_energy")
    parser.add_argument("compositions", help="Parquet with formula and legacy_formation_energy")
    parser.add_argument("--work", required=True, type=Path, help="Folder for finished parts")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--only-ready", action="store_true", help="Relax nothing; take the parts that are finished.")
    parser.add_argument("--reference", default=str(EMBEDDED), help="whose relaxed entries stay")
    parser.add_argument("--out", required=True)
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)

    known = read_table(arguments.reference)
    record = read_provenance(arguments.reference)
    zero = by_number(record["elemental_energies"])
    crystals = read_crystals([arguments.crystals])
    hull_only = {
        i for i, role in zip(*(known.column(n).to_pylist() for n in ("id", "role")), strict=True) if role == "hull_only"
    }
    potential = load("chgnet")
    relaxed = relaxed_rows(hull_only, crystals, potential, arguments.work, arguments.processes, arguments.only_ready)

    old = lowest(
        read_table(arguments.compositions, [Column("legacy_formation_energy", FLOAT, "", "")]), "legacy_formation_energy"
    )
    new = on_new_scale(crystals)
    keys = [key for key in old if key in new]
    coefficients = fitted(np.stack([features(key) for key in keys]), np.array([new[key] - old[key] for key in keys]))

    rows = []
    for row in known.to_pylist():
        if str(row["id"]).startswith("dft-"):
            continue
        if row["role"] == "hull_only":
            row |= {"energy_from": EnergyFrom.SINGLE_POINT.value} | _relaxed(row, relaxed.get(row["id"]), zero)
        else:
            row["energy_from"] = EnergyFrom.RELAXED.value
        if row["source"] == "wbm" and row["dft_formation_energy"] is not None:
            change = float(features(reduced(row["formula"])) @ coefficients)
            row["dft_formation_energy"] = round(row["dft_formation_energy"] + change, 4)
        rows.append(row)
    energies = mapped(old, coefficients)
    dft = dft_rows(
        make_table(
            [c for c in REFERENCE if c.name in ("formula", "dft_formation_energy")],
            {
                "formula": [reduced_formula([z for z, n in key for _ in range(n)]) for key in energies],
                "dft_formation_energy": list(energies.values()),
            },
        ),
        SOURCE,
    )
    table, bias = completed(table_of_rows(REFERENCE, rows), dft, MP2020_SCALE)
    assert bias is not None  # 16,000 relaxed entries
    origins = {
        "pretraining and held_out": record["energies"]["pretraining and held_out"],
        "hull_only": f"relaxed from the geometries given with the space group kept, at most {SETTINGS.max_evaluations} "
        f"evaluations, to {SETTINGS.fmax} eV/Å and {SETTINGS.smax} GPa; or DFT formation energies alone (energy_from: dft)",
    }
    made_by = provenance(
        "reference",
        {"potential": "chgnet", "relaxed": SETTINGS.model_dump()},
        [arguments.crystals, arguments.compositions, arguments.reference],
        potential=potential.identity.as_record(),
        elemental_energies=record["elemental_energies"],
        energies=origins,
        bias=bias.as_record(),
    )
    write_reference(arguments.out, table, made_by)
    origin = table.column("energy_from").to_pylist()
    counts = {name: origin.count(name) for name in sorted({str(o) for o in origin})}
    size = Path(arguments.out).stat().st_size
    print(
        json.dumps(
            {"rows": table.num_rows, **counts, "bytes": size, "median": bias.residual_median, "q90": bias.residual_90}
        )
    )


def _relaxed(row: Row, found: Row | None, zero: dict[int, float]) -> Row:
    """What relaxation changes of an entry for the hull alone; its single point stays where relaxation failed."""
    if found is None or found["status"] != OK or row["status"] != OK:
        return {}
    formation = formation_energy(parse_formula(row["formula"]), found["energy"], zero)
    assert formation is not None  # the single point had one
    figures = {name: found[name] for name in ("energy", "evaluations", "force_max", "stress_max")}
    return figures | {"formation_energy": round(formation, 6), "energy_from": EnergyFrom.RELAXED.value}


if __name__ == "__main__":
    main()
