"""Whether the ground states of held-out compounds are found: by the policy, by substitution, and by both.

    python benchmarks/bench_predict.py [--policy POLICY] [--n 200] [--compounds 60] [--without-prototype] [--work work/bench-predict]

The compounds are entries of the embedded reference that were held out of training, the lowest of their formula, of at most 20
atoms and at most 0.03 eV/atom above DFT's hull; a hash of their ids chooses. No compound of their formulas is a prototype. Found is what
pymatgen's StructureMatcher (its defaults) calls the structure of the entry, both at rest in the potential. The generators share no
work: each has its own candidates, first steps and relaxations, so that `both` costs what the two cost. With --without-prototype the
compounds are those whose prototype no other known compound has: substitution cannot make them, and only the policy is asked.

A table a compound stays in the folder --work, in a folder named by policy, reference and settings, and a killed run goes on from
there. The last line is JSON.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from crystalformer_rl.crystal.prototype import kind
from crystalformer_rl.crystal.structure import Crystal
from crystalformer_rl.discovery.matching import to_structure
from crystalformer_rl.formatting import percent_interval, signed
from crystalformer_rl.intervals import fraction
from crystalformer_rl.potential.client import PotentialWorker
from crystalformer_rl.prediction.common_types import common_types
from crystalformer_rl.prediction.predict_settings import Generator, PredictSettings
from crystalformer_rl.recovery.prototypes import Prototypes
from crystalformer_rl.resources.registry import embedded_folder
from crystalformer_rl.stages.questions import RELAX
from crystalformer_rl.tables.energy_columns import RELAXED
from crystalformer_rl.tables.parquet import atomic_path, read_table, write_table
from crystalformer_rl.tables.provenance import digest_json, provenance, sha256
from crystalformer_rl.tables.status import OK, Status

NEAR_HULL = 0.03  # eV/atom
AS_LOW = 0.010  # eV/atom
MAKERS = {"policy alone": ("policy",), "substitution alone": ("substitution",), "both": ("policy", "substitution")}

Row = dict[str, Any]


def compounds(reference: Path, n: int, most_atoms: int, known: Prototypes | None = None) -> pa.Table:
    """Rows of the reference: the compounds of the benchmark; known: those of which no compound may be."""
    table = read_table(reference)
    columns = ("id", "formula", "role", "n_atoms", "energy", "dft_e_above_hull", "space_group", "wyckoff", "elements")
    rows = [row | {"place": k} for k, row in enumerate(table.select(columns).to_pylist()) if row["role"] == "held_out"]
    lowest: dict[str, Row] = {}
    for row in rows:
        if row["energy"] is not None and row["energy"] < lowest.get(row["formula"], {"energy": np.inf})["energy"]:
            lowest[row["formula"]] = row
    able = [
        row
        for row in lowest.values()
        if row["n_atoms"] <= most_atoms and (row["dft_e_above_hull"] is not None and row["dft_e_above_hull"] <= NEAR_HULL)
    ]
    if known is not None:
        able = [row for row in able if not known.has(row["space_group"], row["wyckoff"], row["elements"])]
    able.sort(key=lambda row: hashlib.sha256(f"predict{row['id']}".encode()).hexdigest())
    return table.take(pa.array([row["place"] for row in able[:n]]))


def crystal_of(row: Row) -> Crystal:
    lattice, coords = np.reshape(row["lattice"], (3, 3)), np.reshape(row["frac_coords"], (-1, 3))
    return Crystal(np.array(row["atomic_numbers"]), coords, lattice)


def judged(rows: list[Row], entry: Row) -> dict[str, Row]:
    """Of each choice of generators: whether the entry's kind was among its candidates, whether the entry was found, and how far above it the lowest lies."""
    from pymatgen.analysis.structure_matcher import StructureMatcher

    matcher, known = StructureMatcher(), to_structure(crystal_of(entry))
    own = kind(entry["space_group"], entry["wyckoff"], entry["elements"])
    rest = [row for row in rows if row["energy"] is not None and row["status"] in (OK, Status.DUPLICATE)]
    same = {row["id"] for row in rest if matcher.fit(known, to_structure(crystal_of(row)))}
    made = {row["id"] for row in rows if row["wyckoff"] and kind(row["space_group"], row["wyckoff"], row["elements"]) == own}
    found = {}
    for name, makers in MAKERS.items():
        ours = [row for row in rest if row["id"].split("-")[0] in makers]
        lowest = min(ours, key=lambda row: float(row["energy"]), default=None)
        own_energy = min((float(row["energy"]) for row in ours if row["id"] in same), default=np.inf)
        found[name] = {
            "kind": any(one.split("-")[0] in makers for one in made),
            "found": any(row["id"] in same for row in ours),
            "near": lowest is not None and own_energy <= lowest["energy"] + AS_LOW,
            "lowest": lowest is not None and lowest["id"] in same,
            "above": None if lowest is None else lowest["energy"] - entry["energy"],
            "evaluations": sum(row["evaluations"] or 0 for row in rows if row["id"].split("-")[0] in makers),
        }
    return found


def run(options: argparse.Namespace, settings: PredictSettings, say: Callable[[str], None] = print) -> list[Row]:
    """A row a compound."""
    reference = Path(options.reference or embedded_folder() / "reference.parquet")
    policy = Path(options.policy or embedded_folder() / "policy.safetensors")
    content = [sha256(policy), sha256(reference), settings.model_dump(), options.seed]
    folder = Path(options.work) / digest_json(content)[:12]
    folder.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(options.work) / "jax"))

    from crystalformer_rl.policy.checkpoint import load_policy
    from crystalformer_rl.policy.space_group_weights import space_group_weights
    from crystalformer_rl.stages.predict import Means, predict

    known = Prototypes.from_reference(reference, settings.max_atoms, common_types()) if options.without_prototype else None
    chosen = compounds(reference, options.compounds, settings.max_atoms, known)
    network, card = load_policy(policy)
    trained = space_group_weights(card, str(policy), table=None if "space_group_counts" in card else reference)
    found = []
    with PotentialWorker("chgnet") as worker:
        entries = worker.map(RELAX, chosen, RELAXED, settings=settings.to_rest.model_dump()).to_pylist()
        means = Means.of(reference, worker, network, trained, settings.max_atoms)
        for entry in entries:
            path, started = folder / f"{entry['id']}.parquet", time.perf_counter()
            seconds = folder / f"{entry['id']}.json"
            if not (path.is_file() and seconds.is_file()):
                predicted = predict(entry["formula"], means, settings, seed=options.seed)
                write_table(path, predicted.table, provenance("bench predict", {"formula": entry["formula"]}))
                with atomic_path(seconds) as temporary:
                    temporary.write_text(json.dumps(time.perf_counter() - started))
            verdict = judged(read_table(path).to_pylist(), entry)
            row = {"id": entry["id"], "formula": entry["formula"], "space_group": entry["space_group"]}
            found.append(row | {"seconds": json.loads(seconds.read_text()), **verdict})
            say(line(found[-1]))
    return found


def line(row: Row) -> str:
    """A compound in a line: what each choice of generators found."""
    words = [f"{row['formula']:14s} {row['space_group']:3d} {row['seconds']:6.0f} s"]
    for name in MAKERS:
        one = row[name]
        word = "found" if one["found"] else "made" if one["kind"] else "–"
        words.append(f"{name}: {word:5s} {signed(None if one['above'] is None else 1000 * one['above'], 0):>5s}")
    return "   ".join(words)


def main() -> None:
    """Print a line a compound, the fractions with their 95 % intervals, and JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policy", help="by default the embedded one")
    parser.add_argument("--reference", help="by default the embedded one")
    parser.add_argument("--n", type=int, default=PredictSettings().n, help="candidates of the policy a compound")
    parser.add_argument("--compounds", type=int, default=60)
    parser.add_argument("--without-prototype", action="store_true", help="compounds that substitution cannot make")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", default="work/bench-predict")
    options = parser.parse_args()
    by: Generator = "policy" if options.without_prototype else "both"
    rows = run(options, PredictSettings(n=options.n, by=by))
    n, summary = len(rows), {}
    print(f"{n} held-out compounds, {options.n} samples of the policy each")
    for name in MAKERS if by == "both" else ["policy alone"]:
        counts = {
            "made in the entry's kind": sum(row[name]["kind"] for row in rows),
            "ground state found": sum(row[name]["found"] for row in rows),
            "ground state found, at most 10 meV/atom above the lowest": sum(row[name]["near"] for row in rows),
            "ground state found, and ranked first": sum(row[name]["lowest"] for row in rows),
            "best at most 10 meV/atom above the entry": sum(
                row[name]["above"] is not None and row[name]["above"] <= AS_LOW for row in rows
            ),
            "best more than 10 meV/atom below the entry": sum(
                row[name]["above"] is not None and row[name]["above"] < -AS_LOW for row in rows
            ),
        }
        print(name)
        for what, count in counts.items():
            print(f"  {what}: {percent_interval(fraction(count, n))}")
        evaluations = float(np.mean([row[name]["evaluations"] for row in rows]))
        print(f"  evaluations of the potential a compound: {evaluations:.0f}")
        summary[name] = counts | {"evaluations": evaluations}
    seconds = float(np.median([row["seconds"] for row in rows]))
    print(f"seconds a compound, median: {seconds:.0f}")
    print(json.dumps({"compounds": n, "n": options.n, "seconds": seconds, **summary}))


if __name__ == "__main__":
    main()
