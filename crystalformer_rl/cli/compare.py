"""`crystalformer-rl compare`."""

from __future__ import annotations

from pathlib import Path

import click

from crystalformer_rl.cli.console import progress, say
from crystalformer_rl.cli.options import json_option, out_folder_option


@click.command("compare")
@click.argument("results", type=click.Path())
@out_folder_option
@click.option(
    "--only",
    multiple=True,
    help="Only these, such as ppo-0; repeatable. The base policy is always there.  [default: all]",
)
@json_option
def command(results: str, out: str, only: tuple[str, ...], as_json: bool) -> None:
    """Ways to fine-tune side by side at the same number of scored crystals: one table, one picture.

    RESULTS: the folder of a run with `arms.policies`. Read are finetune/ARM-SEED/, evaluation/POLICY/ and, where there
    is a judge, judge/POLICY.parquet. All must be finished, and have one reward, stability threshold and number of crystals
    sampled in fine-tuning; seeds of an arm must have the same settings.

    Writes to the folder --out: arms.parquet, a row a policy, with counts and fractions of stable and of stable, unique and
    novel crystals, their ratios to the base policy, what a second potential says of them, and rewards; curves.parquet, a
    row an update; top.parquet, the best 50 crystals by figure of merit, where there are predictions;
    comparison.svg, the curves against the number of evaluations; and comparison.md, all of it in words.

    \b
    Example:
      crystalformer-rl compare results/ehull-small --out comparison
    """
    from crystalformer_rl.comparison.run_reader import read_runs
    from crystalformer_rl.stages.compare import compare
    from crystalformer_rl.tables.parquet import atomic_path, write_table
    from crystalformer_rl.tables.provenance import provenance

    with progress(0, "compare", "policy") as bar:
        runs = read_runs(results, only, bar.update)
    found = compare(runs)
    made_by = provenance("compare", {"policies": [run.policy for run in runs]}, [p for run in runs for p in run.inputs])
    folder = Path(out)
    for name, table in found.tables.items():
        write_table(folder / f"{name}.parquet", table, made_by)
    for name, text in {"comparison.md": found.document, "comparison.svg": found.picture}.items():
        with atomic_path(folder / name) as path:
            path.write_text(text, encoding="utf-8")
    summary = {"arms": {name: arm.as_json() for name, arm in found.arms.items()}, "out": str(folder / "comparison.md")}
    sentences = [arm.sentence() for arm in found.arms.values()]
    say(summary, "\n".join([*sentences, f"Comparison: {folder / 'comparison.md'}"]), as_json)
