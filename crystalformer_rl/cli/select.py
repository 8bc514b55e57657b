"""`crystalformer-rl select`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from crystalformer_rl.cli.console import progress, say
from crystalformer_rl.cli.options import json_option, out_option

if TYPE_CHECKING:
    import pyarrow as pa


@click.command("select")
@click.argument("rollouts", nargs=-1, required=True, type=click.Path())
@click.option("--n", required=True, type=click.IntRange(min=1), help="How many crystals.")
@click.option("--offset", default=0, show_default=True, type=click.IntRange(min=0), help="Better ones to pass over.")
@out_option
@json_option
def command(rollouts: tuple[str, ...], n: int, offset: int, out: str, as_json: bool) -> None:
    """The best of many sampled crystals by their reward, each kind once: best of N.

    ROLLOUTS: tables of `finetune`, which hold every crystal that was sampled with its reward. A kind is a composition
    with space group and Wyckoff letters; of one kind the best stands for all. Crystals of equal reward are taken in the
    order of their ids. Crystals that failed are not taken, nor are suspects, more than 0.1 eV/atom below the hull: their
    energies are not to be believed, and they count as stable nowhere.

    Out goes a table as `sample` writes it, the best crystal first, with the ids that the crystals had. The Nth part of a
    ranking is had by --offset.

    \b
    Example:
      crystalformer-rl select round_1/rollouts.parquet round_2/rollouts.parquet --n 100 --out best.parquet
    """
    from crystalformer_rl.errors import InputError
    from crystalformer_rl.tables.crystal_columns import SAMPLES
    from crystalformer_rl.tables.parquet import write_table
    from crystalformer_rl.tables.provenance import provenance

    with progress(len(rollouts), "select", "table") as bar:
        ranked, sampled = best_of_kinds(rollouts, bar.update)
    if ranked.num_rows < offset + n:
        passed = f" after the {offset} best" if offset else ""
        raise InputError(
            f"{', '.join(rollouts)}: of {sampled} crystals, without failed and suspect ones, only {ranked.num_rows} are of "
            f"different kinds, but {n}{passed} are asked for; ask for fewer, or sample more."
        )
    chosen = ranked.slice(offset, n)
    parameters = {"n": n, "offset": offset}
    write_table(out, chosen.select([column.name for column in SAMPLES]), provenance("select", parameters, rollouts))
    rewards = chosen.column("reward").to_pylist()
    summary = {"n": n, "sampled": sampled, "kinds": ranked.num_rows, "reward_max": rewards[0], "reward_min": rewards[-1]}
    words = (
        f"{n} of {sampled} crystals, which are of {ranked.num_rows} kinds; rewards from {rewards[0]:.3f} to "
        f"{rewards[-1]:.3f}. Samples: {out}"
    )
    say(summary | {"out": out}, words, as_json)


def best_of_kinds(paths: tuple[str, ...], advance: object = None) -> tuple[pa.Table, int]:
    """The best crystal of each kind, best first, neither failed nor suspect; and how many crystals were sampled."""
    import pyarrow as pa

    from crystalformer_rl.comparison.selection import best_first
    from crystalformer_rl.crystal.prototype import kind
    from crystalformer_rl.errors import InputError
    from crystalformer_rl.tables.column import Column
    from crystalformer_rl.tables.crystal_columns import SAMPLES
    from crystalformer_rl.tables.energy_columns import HULL
    from crystalformer_rl.tables.parquet import read_table

    suspect = next(column for column in HULL if column.name == "suspect")
    columns = (*SAMPLES, suspect, Column("reward", pa.float64(), "", "what the crystal earned, in its own unit"))
    tables = []
    for path in paths:
        tables.append(read_table(path, columns).select([column.name for column in columns]))
        if callable(advance):
            advance(1)
    table = pa.concat_tables([part.replace_schema_metadata(None) for part in tables])
    rows = table.select(["id", "space_group", "wyckoff", "elements", "suspect", "reward", "status"]).to_pylist()
    ids = {row["id"] for row in rows}
    if len(ids) < len(rows):
        raise InputError(f"{', '.join(paths)}: ids occur twice; give the tables of one run, each round once.")
    seen, best = set(), []
    for k in best_first(rows):
        this = kind(rows[k]["space_group"], rows[k]["wyckoff"], rows[k]["elements"])
        if this not in seen:
            seen.add(this)
            best.append(k)
    return table.take(pa.array(best, pa.int64())), table.num_rows
