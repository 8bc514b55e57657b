"""Potentials against density-functional theory: formation energies of labelled crystals, laws kept, and the time an evaluation takes.

Single points at the published geometries of rows of MP-20, the same ones for every potential, MP2020 corrections added where the potential
predicts uncorrected energies. A line of JSON for each: errors in eV/atom, milliseconds an evaluation with forces in batches
and one by one, and the laws of `potential.contract` that are broken.

    python scripts/potentials_against_dft.py [--potential chgnet --potential sevennet-0 --potential sevennet-l3i5] [--n 500]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from crystalformer_rl.crystal.elements import composition
from crystalformer_rl.crystal.structure import Crystal, crystals_from_table
from crystalformer_rl.potential import load
from crystalformer_rl.potential.contract import measure_laws
from crystalformer_rl.potential.protocol import Evaluation, Potential
from crystalformer_rl.reference.corrections import MP2020
from crystalformer_rl.reference.energies import read_energies
from crystalformer_rl.reference.formation_energy import by_number, formation_energy
from crystalformer_rl.reference.identity import Corrections

ROOT = Path(__file__).resolve().parents[1]
STRUCTURES = ROOT.parent / "shared" / "data" / "structures.parquet"
TIMED = 64
"""Crystals whose evaluations are timed."""


def labelled(n: int) -> tuple[list[Crystal], np.ndarray]:
    """Crystals of MP-20 with their DFT formation energies, by their ids' digests."""
    table = pq.read_table(STRUCTURES)
    table = table.filter(pc.equal(table.column("source"), "mp_20"))
    names = table.column("material_id").to_pylist()
    order = sorted(range(len(names)), key=lambda k: hashlib.sha256(names[k].encode()).hexdigest())[:n]
    part = table.take(pa.array(order))
    crystals, _ = crystals_from_table(part)
    return [c for c in crystals if c is not None], part.column("dft_formation_energy").to_numpy()


def seconds(potential: Potential, batches: list[list[Crystal]]) -> float:
    """Of evaluating all batches: the shorter of two times, after one that counts nothing."""
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        for batch in batches:
            potential.evaluate(batch)
        times.append(time.perf_counter() - begin)
    return min(times[1:])


def main() -> None:
    """Evaluate, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--potential", action="append")
    parser.add_argument("--n", type=int, default=500)
    arguments = parser.parse_args()
    crystals, label = labelled(arguments.n)
    elemental = by_number(read_energies(ROOT / "resources" / "embedded" / "reference.parquet").elemental_energies)
    scheme = MP2020()
    for name in arguments.potential or ("chgnet", "sevennet-0", "sevennet-l3i5"):
        potential = load(name)
        broken = measure_laws(potential, crystals[:3]).broken()
        errors = []
        for crystal, outcome, known in zip(crystals, potential.evaluate(crystals, forces=False), label, strict=True):
            if not isinstance(outcome, Evaluation):
                continue
            counts = composition(crystal.atomic_numbers.tolist())
            add = scheme.correction(counts, crystal) if potential.identity.corrections is Corrections.NONE else 0.0
            found = formation_energy(counts, outcome.energy + add, elemental)
            if found is not None:
                errors.append(found - known)
        timed = crystals[:TIMED]
        batched, alone = seconds(potential, [timed]), seconds(potential, [[crystal] for crystal in timed])
        absolute = np.abs(errors)
        line = {
            "potential": str(potential.identity),
            "n": len(errors),
            "median_absolute_error": round(float(np.median(absolute)), 4),
            "mean_absolute_error": round(float(absolute.mean()), 4),
            "median_error": round(float(np.median(errors)), 4),
            "mean_atoms": round(float(np.mean([len(c) for c in timed])), 1),
            "ms_in_batches": round(1e3 * batched / len(timed), 1),
            "ms_one_by_one": round(1e3 * alone / len(timed), 1),
            "laws_broken": broken,
        }
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
