"""`crystalformer-rl propose`."""

from __future__ import annotations

from typing import Literal

import click

from crystalformer_rl.cli.console import progress, say, summarize
from crystalformer_rl.cli.options import json_option, out_option, reference_option, seed_option


@click.command("propose")
@click.argument("source", type=click.Choice(["screening", "substitution"]))
@reference_option
@click.option("--n", required=True, type=click.IntRange(min=1), help="How many crystals, at most.")
@click.option("--config", type=click.Path(), help="Configuration of a run; its section `constraints` is used.")
@click.option("--ionic", is_flag=True, help="Substitutions without those of metals alone, whose charges always balance.")
@seed_option
@out_option
@json_option
def command(
    source: Literal["screening", "substitution"],
    reference: str,
    n: int,
    config: str | None,
    ionic: bool,
    seed: int,
    out: str,
    as_json: bool,
) -> None:
    """Crystals to score that no policy drew, the first to be scored first.

    screening: those that the policy was trained on, in an order drawn by --seed. substitution: charge-balanced exchanges of elements in
    these, the likeliest first, by how often compounds of one prototype have the one element where others have the other; cells are
    scaled by the volumes of the elements.

    \b
    Example:
      crystalformer-rl propose substitution --reference reference.parquet --n 8000 --config config.yaml --out proposals.parquet
    """
    from crystalformer_rl.config.loading import load_config
    from crystalformer_rl.config.run import RunSettings
    from crystalformer_rl.stages.propose import propose
    from crystalformer_rl.tables.parquet import write_table
    from crystalformer_rl.tables.provenance import provenance

    run = load_config(config) if config else RunSettings()
    with progress(n, "propose") as bar:
        table = propose(source, reference, n, run.constraints, ionic=ionic, seed=seed, advance=bar.update)
    parameters = {
        "source": source,
        "n": n,
        "ionic": ionic,
        "seed": seed,
        "constraints": run.constraints.model_dump(mode="json"),
    }
    write_table(out, table, provenance("propose", parameters, [reference]))
    words = f"{table.num_rows} crystals by {source}. Table: {out}"
    say(summarize(table.column("status").to_pylist(), out), words, as_json)
