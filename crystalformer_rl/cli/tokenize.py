"""`crystalformer-rl tokenize`."""

from __future__ import annotations

from pathlib import Path

import click

from crystalformer_rl.cli.console import count_words, progress, say, summarize
from crystalformer_rl.cli.crystals_argument import read_told
from crystalformer_rl.cli.options import json_option, out_option
from crystalformer_rl.crystal.encode import SYMPREC


@click.command("tokenize")
@click.argument("crystals", nargs=-1, required=True, type=click.Path())
@out_option
@click.option("--max-atoms", type=click.IntRange(min=1), help="Leave out crystals with more atoms in the cell given.")
@click.option(
    "--max-e-above-hull",
    type=float,
    help="Leave out crystals above this, eV/atom, or without a value in (dft_)e_above_hull.",
)
@click.option("--symprec", default=SYMPREC, show_default=True, help="Å; how far atoms may be from their symmetric places.")
@json_option
def command(
    crystals: tuple[str, ...], out: str, max_atoms: int | None, max_e_above_hull: float | None, symprec: float, as_json: bool
) -> None:
    """Find space group, Wyckoff sites and conventional lattice of CRYSTALS: what a policy trains on.

    CRYSTALS: CIF, POSCAR, JSON, CSV, Parquet, extended XYZ, folders and archives of them, and what else ASE reads:
    docs/inputs.md.
    The result has one row a crystal that was not left out; one that cannot be described in
    20 sites keeps its row, with the reason in `status`.

    \b
    Example:
      crystalformer-rl tokenize my_crystals/ --out tokens.parquet
    """
    from crystalformer_rl.stages.tokenize import tokenize, within_limits
    from crystalformer_rl.tables.parquet import write_table
    from crystalformer_rl.tables.provenance import provenance

    table = read_told(crystals)
    read = table.num_rows
    table = within_limits(table, max_atoms, max_e_above_hull, ", ".join(crystals))
    with progress(table.num_rows, "tokenize") as bar:
        tokens = tokenize(table, symprec, advance=bar.update)
    parameters = {"max_atoms": max_atoms, "max_e_above_hull": max_e_above_hull, "symprec": symprec}
    files = [path for path in crystals if Path(path).is_file()]
    write_table(out, tokens, provenance("tokenize", parameters, files))
    statuses = tokens.column("status").to_pylist()
    left_out = read - table.num_rows
    summary = summarize(statuses, out, read=read, left_out=left_out)
    words = (
        f"{read} crystals read, {left_out} left out by the limits given; of the rest {count_words(statuses)}. Tokens: {out}"
    )
    say(summary, words, as_json)
