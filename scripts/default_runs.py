"""docs/default-run.md from finished default runs of several seeds: figures before and after fine-tuning, one column a seed.

    for seed in 0 1 2; do snakemake --cores all --config seed=$seed results=results/seed-$seed; done
    python scripts/default_runs.py results/seed-0 results/seed-1 results/seed-2

Nothing is written there by hand.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from crystalformer_rl.formatting import percent, with_interval
from crystalformer_rl.intervals import odds_ratio
from crystalformer_rl.tables.chemistry_columns import CHEMISTRY_WORDS

ROOT = Path(__file__).resolve().parents[1]
INTRODUCTION = """# The default run, seed by seed

Made by `python scripts/default_runs.py` from {n} runs of the default configuration, `snakemake --cores all --config seed=…`, each with {scored:,} crystals scored
in fine-tuning. Before and after are {sampled} crystals each, drawn by the base and by the fine-tuned policy of the run; the base policy is the same in all, so
its figures differ by chance alone. Odds have 95 % intervals. Stable means at most {threshold:g} eV/atom above the hull; S.U.N. is stable after relaxation, unique and novel.
"""
CLOSING = """A share of {sampled} crystals is uncertain by about four points, and the base policy's own columns show what chance does to effective
numbers. S.U.N. of a new formula counts formulas that the reference does not know; credible ones are besides charge balanced, of elements
that have stable isotopes and are no noble gases. Anions are N, O, F, S, Cl, Se, Br and I.
"""
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


def figures(folder: Path) -> tuple[Row, Row]:
    """Metrics of the base and of the tuned policy."""
    base, tuned = (pq.read_table(folder / "evaluation" / policy / "metrics.parquet") for policy in ("base", "tuned"))
    return base.to_pylist()[0], tuned.to_pylist()[0]


def scored(folder: Path) -> int:
    """Crystals scored in all rounds."""
    return sum(pq.read_metadata(path).num_rows for path in folder.glob("finetune/tuned/round_*/rollouts.parquet"))


def line(words: str, runs: list[tuple[Row, Row]], name: str, say: Callable[[float], str]) -> list[str]:
    return [words, *(f"{say(base[name])} → {say(tuned[name])}" for base, tuned in runs)]


def rows(runs: list[tuple[Row, Row]]) -> list[list[str]]:
    counted = [
        ((tuned["stable_initial_count"], tuned["n"]), (base["stable_initial_count"], base["n"])) for base, tuned in runs
    ]
    found = [line(words, runs, f"{name}_fraction", percent) for name, words in SHARES.items()]
    found.insert(1, ["its odds, × base", *(with_interval(odds_ratio(tuned, base), 2) for tuned, base in counted)])
    found += [line(f"effective number of {words}", runs, name, "{:.0f}".format) for name, words in KINDS.items()]
    return found + [line(words, runs, f"{name}_fraction", percent) for name, words in CHEMISTRY_WORDS.items()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="+", type=Path, help="folders of finished runs")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "default-run.md")
    arguments = parser.parse_args()
    folders = arguments.results
    runs = [figures(folder) for folder in folders]
    table = [["", *(folder.name for folder in folders)], [":--", *["--:"] * len(folders)], *rows(runs)]
    base = runs[0][0]
    facts = {"n": len(runs), "scored": scored(folders[0]), "sampled": base["n"], "threshold": base["stability_threshold"]}
    text = "\n".join("| " + " | ".join(cells) + " |" for cells in table)
    arguments.out.write_text(f"{INTRODUCTION.format(**facts)}\n{text}\n\n{CLOSING.format(**facts)}", encoding="utf-8")


if __name__ == "__main__":
    main()
