"""`crystalformer-rl retrieve`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from crystalformer_rl.cli.console import say
from crystalformer_rl.cli.options import json_option, out_option, reference_option
from crystalformer_rl.hull.stability import STABLE_BELOW


@click.command("retrieve")
@click.argument("results", type=click.Path())
@reference_option
@click.option("--only", multiple=True, help="Only these policies, such as ppo-0; repeatable.  [default: all]")
@click.option(
    "--truth",
    type=click.Path(),
    help="Screened pretraining entries with their true rewards (rollouts.parquet of `score`): the best of them are what there is to retrieve.",
)
@click.option(
    "--top",
    default=0.05,
    show_default=True,
    type=click.FloatRange(0, 1, min_open=True),
    help="Share of the truth that counts as best.",
)
@click.option("--k", "numbers", multiple=True, default=(100, 1000), show_default=True, type=click.IntRange(min=1),
              help="Best kinds that are taken, beside all; repeatable.")  # fmt: skip
@click.option("--base", help="Arm of the unmoved policy, from which enrichment counts, such as best_of_n.")
@click.option(
    "--stable-below", default=STABLE_BELOW, show_default=True, type=click.FloatRange(0), help="eV/atom above the hull."
)
@out_option
@json_option
def command(
    results: str,
    reference: str,
    only: tuple[str, ...],
    truth: str | None,
    top: float,
    numbers: tuple[int, ...],
    base: str | None,
    stable_below: float,
    out: str,
    as_json: bool,
) -> None:
    """Whether what a run found was retrieved from what the policy had seen, or lies beyond it.

    RESULTS: the folder of a run; read are finetune/POLICY/round_…/. Out goes a row for each policy, round and number of best kinds taken (equal kinds
    share composition, space group and Wyckoff letters): how many are of a kind of the pretraining set, of its formulas alone, or of a formula that it has
    not; and with --truth recall, precision and enrichment of the best pretraining entries.

    \b
    Example:
      crystalformer-rl retrieve results --reference reference.parquet --out retrieval.parquet
    """
    from crystalformer_rl.retrieval.pool_reader import SCORED, read_pools
    from crystalformer_rl.scoring.known_kinds import known_kinds
    from crystalformer_rl.stages.retrieve import retrieve
    from crystalformer_rl.tables.parquet import read_table, write_table
    from crystalformer_rl.tables.provenance import provenance

    pools, files = read_pools(results, only, known_kinds(reference), stable_below)
    scored = None if truth is None else read_table(truth, SCORED)
    table = retrieve(pools, scored, top=top, numbers=numbers, base=base, source=truth or "")
    parameters = {"top": top, "k": list(numbers), "base": base, "stable_below": stable_below}
    inputs: list[str | Path] = [*files, reference, *([truth] if truth else [])]
    write_table(out, table, provenance("retrieve", parameters, inputs))
    rows = [row for row in table.to_pylist() if row["k"] is None]
    last = {row["policy"]: row for row in rows}
    say({"policies": last, "out": out}, "\n".join([*map(_words, last.values()), f"Table: {out}"]), as_json)


def _words(row: dict[str, Any]) -> str:
    words = f"{row['policy']}: {row['scored']} crystals scored, {row['n']} kinds"
    if row["n"]:
        words += (
            f", of which {row['known_structure_fraction']:.1%} retrieved, {row['known_formula_fraction']:.1%} of a known formula and "
            f"{row['new_formula_fraction']:.1%} of a new one"
        )
    if row["targets"] is not None:
        words += f"; {row['found']} of {row['targets']} targets found ({row['recall']:.1%})"
    return words + "."
