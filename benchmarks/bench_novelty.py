"""Novelty of crystals against many entries: time, memory, growth, and agreement with StructureMatcher on all pairs.

    python benchmarks/bench_novelty.py [--entries 600000] [--crystals 10000]

Entries beyond those of the embedded reference are made by substitution: the same structures with elements exchanged for others
of their class, at random. Half of the crystals are entries in disguise (other cell, origin and rotation, atoms moved by 0.03 Å),
half are structures with other elements still. Each size runs in a process of its own, so that its memory is its own. For the
agreement 500 crystals meet 5,000 entries: pymatgen compares every pair whose compositions it does not tell apart at once, and
20,000 of the others. The last line is JSON; `ratio`: the time of twice the crystals and twice the entries over the time of once.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from crystalformer_rl.crystal.chemical_system import chemical_systems
from crystalformer_rl.crystal.elements import SYMBOLS, reduced_formula
from crystalformer_rl.crystal.structure import Crystal, crystal_columns, crystals_from_table
from crystalformer_rl.discovery.known_structures import Known
from crystalformer_rl.discovery.novelty_table import novelty_table

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from discovery_examples import disguised  # noqa: E402

CLASSES = (
    "Li Na K Rb Cs Ag Tl", "Be Mg Ca Sr Ba Zn Cd Eu Yb Pb", "Al Ga In Sc Y Bi Sb As P N B",
    "La Ce Pr Nd Sm Gd Tb Dy Ho Er Tm Lu U Th", "Ti Zr Hf Nb Ta V Mo W Si Ge Sn C", "Cr Mn Fe Co Ni Cu Ru Rh Pd Os Ir Pt Au Re",
    "F Cl Br I H", "O S Se Te",
)  # fmt: skip
COLUMNS = (
    "id",
    "formula",
    "chemical_system",
    "atomic_numbers",
    "frac_coords",
    "lattice",
    "role",
    "space_group",
    "wyckoff",
    "elements",
)
LIMIT_S, LIMIT_GB = 600, 8


def exchange(random: np.random.Generator) -> np.ndarray:
    """(119,) a permutation of the elements within their classes."""
    table = np.arange(119)
    for names in CLASSES:
        members = [SYMBOLS.index(name) + 1 for name in names.split()]
        table[members] = random.permutation(members)
    return table


def exchanged(column: pa.ChunkedArray, table: np.ndarray) -> pa.Array:
    """A column of lists of atomic numbers with the elements exchanged."""
    lists = column.combine_chunks()
    return pa.ListArray.from_arrays(lists.offsets, pa.array(table[lists.values.to_numpy()], lists.type.value_type))


def enlarged(base: pa.Table, n: int) -> pa.Table:
    """N entries: those of `base`, then the same with elements exchanged."""
    parts, have, copy = [], 0, 0
    while have < n:
        part, random = base.slice(0, min(base.num_rows, n - have)), np.random.default_rng(copy)
        if copy:
            table = exchange(random)
            numbers = exchanged(part.column("atomic_numbers"), table)
            formulas = pa.array([reduced_formula(z) for z in numbers.to_pylist()])
            new = {
                "id": pa.array([f"{name}-{copy}" for name in part.column("id").to_pylist()]),
                "formula": formulas,
                "chemical_system": chemical_systems(formulas),
                "atomic_numbers": numbers,
                "elements": exchanged(part.column("elements"), table),
            }
            part = pa.table({name: new.get(name, part.column(name)) for name in COLUMNS})
        parts.append(part)
        have, copy = have + part.num_rows, copy + 1
    return pa.concat_tables([part.cast(parts[0].schema) for part in parts])


def crystals_of(entries: pa.Table, n: int) -> pa.Table:
    """N crystals: entries in disguise, and structures with other elements, by turns."""
    random = np.random.default_rng(1)
    rows = random.choice(entries.num_rows, n, replace=False)
    found, _ = crystals_from_table(entries.select(["atomic_numbers", "frac_coords", "lattice"]).take(rows))
    other = exchange(np.random.default_rng(10**6))
    made = []
    for k, c in enumerate(found):
        assert c is not None
        made.append(disguised(c, k, noise=0.03) if k % 2 else Crystal(other[c.atomic_numbers], c.frac_coords, c.lattice))
    return pa.table({"id": [f"c{k}" for k in range(n)], **crystal_columns(made)})


def base_entries(reference: str) -> pa.Table:
    """The entries of a reference that have a geometry and tokens."""
    table = pq.read_table(reference, columns=list(COLUMNS))
    usable = [
        bool(z) and bool(w)
        for z, w in zip(table.column("atomic_numbers").to_pylist(), table.column("wyckoff").to_pylist(), strict=True)
    ]
    return table.filter(pa.array(usable)).combine_chunks()


def measure(entries: str, crystals: str) -> None:
    """One size: seconds and peak memory as a line of JSON."""
    start = time.perf_counter()
    known = Known.from_reference(entries)
    read = time.perf_counter()
    table = novelty_table(pq.read_table(crystals), known)
    end = time.perf_counter()
    levels: dict[str, int] = {}
    for level in table.column("known_level").to_pylist():
        levels[str(level)] = levels.get(str(level), 0) + 1
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    print(json.dumps({"read_s": read - start, "verdicts_s": end - read, "gb": memory, "levels": levels}))


def run(entries: Path, crystals: Path) -> dict:
    """`measure` in a process of its own."""
    command = [sys.executable, __file__, "--measure", str(entries), str(crystals)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    return json.loads(done.stdout.splitlines()[-1])


def agreement(base: pa.Table, n_crystals: int = 500, n_entries: int = 5000) -> dict[str, int]:
    """Verdicts `novel` and `unique` against StructureMatcher on all pairs."""
    from pymatgen.analysis.structure_matcher import StructureMatcher

    from crystalformer_rl.discovery.matching import to_structure

    random = np.random.default_rng(2)
    entries = base.take(np.sort(random.choice(base.num_rows, n_entries, replace=False)))
    entries = entries.set_column(COLUMNS.index("role"), "role", pa.array(["pretraining"] * n_entries))
    crystals = crystals_of(entries, n_crystals)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "entries.parquet"
        pq.write_table(entries, path)
        ours = novelty_table(crystals, Known.from_reference(path)).column("novel").to_pylist()
    matcher = StructureMatcher()
    theirs = [
        to_structure(c) for c in crystals_from_table(entries.select(["atomic_numbers", "frac_coords", "lattice"]))[0] if c
    ]
    hashes = [matcher._comparator.get_hash(s.composition) for s in theirs]
    compared = found = wrong = 0
    novel = []
    for c in crystals_from_table(crystals)[0]:
        assert c is not None
        structure = to_structure(c)
        mine = matcher._comparator.get_hash(structure.composition)
        same = [s for s, h in zip(theirs, hashes, strict=True) if h == mine]
        novel.append(not any(matcher.fit(structure, s) for s in same))
        compared += len(same)
        others = [theirs[k] for k in random.choice(n_entries, 40, replace=False) if hashes[k] != mine]
        found += sum(matcher.fit(structure, s) for s in others)
    wrong = sum(a != b for a, b in zip(ours, novel, strict=True))
    return {
        "pairs": n_crystals * n_entries,
        "compared": compared,
        "novel": sum(novel),
        "disagreements": wrong,
        "matches_of_others": found,
    }


def main() -> None:
    """Make, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", default=str(ROOT / "resources" / "embedded" / "reference.parquet"))
    parser.add_argument("--entries", type=int, default=600_000)
    parser.add_argument("--crystals", type=int, default=10_000)
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(*arguments.measure)
        return
    base = base_entries(arguments.reference)
    agreed = agreement(base)
    print(
        f"{agreed['pairs']:,} pairs: {agreed['disagreements']} verdicts differ from StructureMatcher's; {agreed['novel']} of 500 novel"
    )
    sizes = [(arguments.entries // k, arguments.crystals // k) for k in (4, 2, 1)]
    sizes += [(arguments.entries // 4, arguments.crystals), (arguments.entries, arguments.crystals // 4)]
    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        entries, crystals = Path(folder) / "entries.parquet", Path(folder) / "crystals.parquet"
        whole = enlarged(base, arguments.entries)
        for n, m in sizes:
            pq.write_table(whole.slice(0, n), entries)
            pq.write_table(crystals_of(whole.slice(0, n), m), crystals)
            figures[n, m] = f = run(entries, crystals)
            seconds = f["read_s"] + f["verdicts_s"]
            print(
                f"{m:6,} crystals, {n:7,} entries: {seconds:5.0f} s (read {f['read_s']:.0f} s), {f['gb']:.1f} GB; {f['levels']}",
                flush=True,
            )
    total = {key: f["read_s"] + f["verdicts_s"] for key, f in figures.items()}
    largest = figures[sizes[2]]
    print(
        json.dumps(
            {"ratio": total[sizes[2]] / total[sizes[1]], "seconds": total[sizes[2]], "gb": largest["gb"],
             "within_limits": total[sizes[2]] <= LIMIT_S and largest["gb"] <= LIMIT_GB, **agreed}
        )
    )  # fmt: skip


if __name__ == "__main__":
    main()
