"""The default run of several seeds as a table: figures before and after fine-tuning, one column a seed.

    snakemake --cores all --config seed=1 results=results/seed-1
    python scripts/default_runs.py results/seed-0 results/seed-1 results/seed-2

Times are of the jobs of fine-tuning alone, from the files that Snakemake leaves beside their logs.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from crystalformer_rl.crystal.coverage import ANIONS
from crystalformer_rl.formatting import percent, with_interval
from crystalformer_rl.intervals import odds_ratio

Row = dict[str, Any]
SHARES = {
    "stable_initial": "stable as sampled",
    "stable": "stable after relaxation",
    "sun": "S.U.N.",
    "sun_new_formula": "S.U.N. of a new formula",
    "sun_credible": "the same, credible",
    "unique": "unique",
}
KINDS = {
    "effective_templates": "Wyckoff templates",
    "effective_formulas": "anonymous formulas",
    "effective_elements": "elements",
}
CHEMISTRY = ("oxide", "halide", "chalcogenide", "intermetallic")


def figures(folder: Path) -> tuple[Row, Row]:
    """Metrics of the base and of the tuned policy, with the share of crystals that hold an anion."""
    found = []
    for policy in ("base", "tuned"):
        place = folder / "evaluation" / policy
        row = pq.read_table(place / "metrics.parquet").to_pylist()[0]
        atoms = pq.read_table(place / "crystals.parquet", columns=["atomic_numbers"]).column(0).to_pylist()
        found.append(row | {"anion_fraction": sum(bool(ANIONS & set(numbers or ())) for numbers in atoms) / len(atoms)})
    return found[0], found[1]


def seconds(folder: Path) -> str:
    """Wall time of all rounds."""
    times = [
        path.read_text(encoding="utf-8").splitlines()[1].split("\t")[0] for path in folder.glob("logs/finetune/tuned/*.tsv")
    ]
    return f"{sum(map(float, times)) / 60:.1f}" if times else "–"


def line(words: str, runs: list[tuple[Row, Row]], name: str, say: Callable[[float], str]) -> list[str]:
    return [words, *(f"{say(base[name])} → {say(tuned[name])}" for base, tuned in runs)]


def rows(runs: list[tuple[Row, Row]]) -> list[list[str]]:
    counted = [
        ((tuned["stable_initial_count"], tuned["n"]), (base["stable_initial_count"], base["n"])) for base, tuned in runs
    ]
    found = [line(words, runs, f"{name}_fraction", percent) for name, words in SHARES.items()]
    found.insert(1, ["its odds, × base", *(with_interval(odds_ratio(tuned, base), 2) for tuned, base in counted)])
    found += [line(f"effective number of {words}", runs, name, "{:.0f}".format) for name, words in KINDS.items()]
    chemistry = {"anion": "with an anion"} | {name: f"{name}s" for name in CHEMISTRY}
    return found + [line(words, runs, f"{name}_fraction", percent) for name, words in chemistry.items()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="+", type=Path, help="folders of finished runs")
    folders = parser.parse_args().results
    table = [
        ["", *(folder.name for folder in folders)],
        [":--", *["--:"] * len(folders)],
        *rows([figures(f) for f in folders]),
    ]
    table.append(["fine-tuning, minutes", *map(seconds, folders)])
    print("\n".join("| " + " | ".join(cells) + " |" for cells in table))


if __name__ == "__main__":
    main()
