"""`crystalformer-rl select`."""

from __future__ import annotations

import click

from crystalformer_rl.cli.console import progress, say, summarize
from crystalformer_rl.cli.options import json_option, out_option


@click.command("select")
@click.argument("rollouts", nargs=-1, required=True, type=click.Path())
@click.option("--n", required=True, type=click.IntRange(min=1), help="How many crystals.")
@click.option("--offset", default=0, show_default=True, type=click.IntRange(min=0), help="Better ones to pass over.")
@click.option("--or-fewer", is_flag=True, help="Take all where there are fewer kinds than --n asks for.")
@out_option
@json_option
def command(rollouts: tuple[str, ...], n: int, offset: int, or_fewer: bool, out: str, as_json: bool) -> None:
    """The best of many sampled crystals by their reward, each kind once: best of N.

    ROLLOUTS: tables of `finetune`, which hold every crystal that was sampled with its reward. A kind is a composition
    with space group and Wyckoff letters; of one kind the best stands for all. Crystals of equal reward are taken in the
    order of their ids. Crystals that failed are not taken.

    Out goes a table as `sample` writes it, the best crystal first, with the ids that the crystals had. The Nth part of a
    ranking is had by --offset.

    \b
    Example:
      crystalformer-rl select round_1/rollouts.parquet round_2/rollouts.parquet --n 100 --out best.parquet
    """
    import pyarrow as pa

    from crystalformer_rl.stages.select import COLUMNS, select
    from crystalformer_rl.tables.parquet import read_table, write_table
    from crystalformer_rl.tables.provenance import provenance

    parts = []
    with progress(len(rollouts), "select", "table") as bar:
        for path in rollouts:
            parts.append(read_table(path, COLUMNS).select([column.name for column in COLUMNS]).replace_schema_metadata(None))
            bar.update(1)
    found = select(pa.concat_tables(parts), n, offset, or_fewer=or_fewer, source=", ".join(rollouts))
    write_table(out, found.table, provenance("select", {"n": n, "offset": offset, "or_fewer": or_fewer}, rollouts))
    best, least = found.rewards[0], found.rewards[-1]
    statuses = found.table.column("status").to_pylist()
    summary = summarize(statuses, out, sampled=found.sampled, kinds=found.kinds, reward_max=best, reward_min=least)
    words = (
        f"{found.table.num_rows} of {found.sampled} crystals, which are of {found.kinds} kinds; rewards from {best:.3f} to {least:.3f}. "
        f"Samples: {out}"
    )
    say(summary, words, as_json)
