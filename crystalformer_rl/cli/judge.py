"""`crystalformer-rl judge`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from crystalformer_rl.cli.console import count_words, progress, say, summarize
from crystalformer_rl.cli.options import json_option, out_option, potential_option, reference_option

if TYPE_CHECKING:
    import pyarrow as pa


@click.command("judge")
@click.argument("samples", nargs=-1, required=True, type=click.Path())
@click.option("--relaxed", multiple=True, required=True, type=click.Path(), help="Table of `relax` on them; repeatable.")
@potential_option("chgnet-r2scan")
@reference_option
@out_option
@json_option
def command(
    samples: tuple[str, ...], relaxed: tuple[str, ...], potential_name: str, reference: str, out: str, as_json: bool
) -> None:
    """Energies above the hull in a potential that no reward has seen, of crystals that another one made and relaxed.

    A policy that is rewarded by a potential learns the potential's mistakes too. What it gained on crystals is what a
    second potential sees as well. Nothing is relaxed here: single points on the crystals as sampled (SAMPLES) and on
    their relaxed geometries (--relaxed), against the hull of a REFERENCE in this very potential.

    Out goes a table as `hull` writes it, a row a crystal of SAMPLES: e_above_hull_initial as sampled, e_above_hull at
    the relaxed geometry (eV/atom), decomposition, status. Rows that failed before keep their status.

    \b
    Example:
      crystalformer-rl judge samples.parquet --relaxed relaxed.parquet --potential chgnet-r2scan \\
          --reference resources/embedded/judge.parquet --out judged.parquet
    """
    from crystalformer_rl.potential import load
    from crystalformer_rl.stages.judge import judge
    from crystalformer_rl.tables.parquet import write_table
    from crystalformer_rl.tables.provenance import provenance, record_of

    sampled, geometries = _read(samples), _read(relaxed)
    potential = load(potential_name)
    with progress(2 * sampled.num_rows, "judge") as bar:
        judged = judge(sampled, geometries, potential, reference, advance=bar.update)
    inputs, identity = [*samples, *relaxed, reference], record_of(judged)["potential"]
    write_table(out, judged, provenance("judge", {"potential": potential_name}, inputs, potential=identity))
    statuses = judged.column("status").to_pylist()
    words = f"{out}: {len(statuses)} crystals ({count_words(statuses)}) judged by {potential.identity.name}."
    say(summarize(statuses, out, potential=identity), words, as_json)


def _read(paths: tuple[str, ...]) -> pa.Table:
    import pyarrow as pa

    from crystalformer_rl.tables.crystal_columns import CRYSTALS, STATUS
    from crystalformer_rl.tables.parquet import read_table

    columns = (*CRYSTALS, STATUS)
    tables = [read_table(path, columns).select([column.name for column in columns]) for path in paths]
    return pa.concat_tables([table.replace_schema_metadata(None) for table in tables])
