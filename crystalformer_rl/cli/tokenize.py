"""`crystalformer-rl tokenize`."""

from __future__ import annotations

from pathlib import Path

import click

from crystalformer_rl.cli.console import count_words, progress, say, status_counts
from crystalformer_rl.cli.options import json_option, out_option
from crystalformer_rl.errors import InputError


@click.command("tokenize")
@click.argument("crystals", nargs=-1, required=True, type=click.Path())
@out_option
@click.option("--max-atoms", type=click.IntRange(min=1), help="Leave out crystals with more atoms in the cell given.")
@click.option(
    "--max-e-above-hull",
    type=float,
    help="Leave out crystals above this, eV/atom, or without a value in (dft_)e_above_hull.",
)
@click.option("--symprec", default=0.01, show_default=True, help="Å; how far atoms may be from their symmetric places.")
@json_option
def command(
    crystals: tuple[str, ...], out: str, max_atoms: int | None, max_e_above_hull: float | None, symprec: float, as_json: bool
) -> None:
    """Find space group, Wyckoff sites and conventional lattice of CRYSTALS: what a policy trains on.

    CRYSTALS: Parquet tables, CIF files, folders of them, CSV with a `cif` column, anything ASE reads.
    The result has one row a crystal that was not left out; one that cannot be described in
    20 sites keeps its row, with the reason in `status`.

    \b
    Example:
      crystalformer-rl tokenize my_crystals/ --out tokens.parquet
    """
    from crystalformer_rl.crystal.encode import encode
    from crystalformer_rl.crystal.readers import read_crystals
    from crystalformer_rl.crystal.structure import crystals_from_table
    from crystalformer_rl.crystal.tokens import token_columns
    from crystalformer_rl.tables.column import make_table
    from crystalformer_rl.tables.crystal_columns import STATUS, TOKENS
    from crystalformer_rl.tables.parquet import write_table
    from crystalformer_rl.tables.provenance import provenance

    table = read_crystals(crystals)
    read = table.num_rows
    table = _select(table, max_atoms, max_e_above_hull, ", ".join(crystals))
    parsed, statuses = crystals_from_table(table)
    with progress(len(parsed), "tokenize") as bar:
        encoded = encode([c if s == "ok" else None for c, s in zip(parsed, statuses, strict=True)], symprec, bar.update)
    sites = [s for s, _ in encoded]
    statuses = [given if given != "ok" else found for given, (_, found) in zip(statuses, encoded, strict=True)]
    columns = {"id": table.column("id").to_pylist(), **token_columns(sites), "status": statuses}
    parameters = {"max_atoms": max_atoms, "max_e_above_hull": max_e_above_hull, "symprec": symprec}
    files = [path for path in crystals if Path(path).is_file()]
    write_table(out, make_table((*TOKENS, STATUS), columns), provenance("tokenize", parameters, files))
    summary = {
        "read": read,
        "left_out": read - table.num_rows,
        "rows": table.num_rows,
        "status": status_counts(statuses),
        "out": out,
    }
    words = f"{read} crystals read, {read - table.num_rows} left out by the limits given; of the rest {count_words(statuses)}. Tokens: {out}"
    say(summary, words, as_json)


def _select(table, max_atoms: int | None, max_e_above_hull: float | None, source: str):  # type: ignore[no-untyped-def]
    """The rows within the limits."""
    import pyarrow.compute as pc

    if max_atoms is not None:
        table = table.filter(pc.less_equal(pc.list_value_length(table.column("atomic_numbers")), max_atoms))
    if max_e_above_hull is not None:
        name = next((n for n in ("e_above_hull", "dft_e_above_hull") if n in table.column_names), None)
        if name is None:
            raise InputError(f"{source}: --max-e-above-hull needs a column e_above_hull or dft_e_above_hull; there is none.")
        table = table.filter(pc.less_equal(table.column(name), max_e_above_hull))
    if table.num_rows == 0:
        raise InputError(f"{source}: no crystal is within the limits given; raise them.")
    return table
