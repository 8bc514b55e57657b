"""`crystalformer-rl report`."""

from __future__ import annotations

from pathlib import Path

import click

from crystalformer_rl.cli.console import progress, say
from crystalformer_rl.cli.options import json_option, out_folder_option


@click.command()
@click.argument("results", type=click.Path())
@out_folder_option
@json_option
def command(results: str, out: str, as_json: bool) -> None:
    """A self-contained HTML page from a folder of results, and the outcome in words.

    RESULTS: the folder of a whole run, or one that `evaluate` wrote. What it lacks (fine-tuning,
    properties, a second policy) is left out of the page.

    Writes index.html, which needs no network: key figures, stability as histograms, reward and KL over
    updates, gap against dielectric constant, the best 50 candidates with their CIFs, metrics, failures,
    caveats, and how each table was made; and summary.txt, the sentences that this command prints.

    \b
    Example:
      crystalformer-rl report results --out results/report
    """
    from crystalformer_rl.report.results import read_results
    from crystalformer_rl.stages.report import report
    from crystalformer_rl.tables.parquet import atomic_path

    with progress(0, "report") as bar:
        found = read_results(results, bar.update)
    page, sentences = report(found)
    folder = Path(out)
    places = [f"Report: {folder / 'index.html'}"]
    places += [f"Candidates: {path}" for path in [Path(results) / "candidates.parquet"] if path.is_file()]
    places += [f"CIF files of the best: {path}" for path in [Path(results) / "candidates_cif"] if path.is_dir()]
    places += [f"Metrics: {path}" for path in [Path(results) / "metrics.parquet"] if path.is_file()]
    words = "\n".join([*sentences, *places])
    for name, text in (("index.html", page), ("summary.txt", words + "\n")):
        with atomic_path(folder / name) as path:
            path.write_text(text, encoding="utf-8")
    say({"policies": found.policies, "findings": sentences, "out": str(folder / "index.html")}, words, as_json)
