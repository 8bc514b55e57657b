"""`crystalformer-rl hull`."""

from __future__ import annotations

from collections import Counter
from typing import Any

import click

from crystalformer_rl.cli.console import count_words, json_option, out_option, progress, say, status_counts

STABLE = 0.1  # eV/atom


@click.command()
@click.argument("relaxed", nargs=-1, required=True, type=click.Path())
@click.option(
    "--reference", required=True, type=click.Path(), help="Reference (Parquet) with energies of the same potential."
)
@click.option(
    "--assume-same-potential",
    is_flag=True,
    help="Take RELAXED that names no potential for energies of the reference's.",
)
@out_option
@json_option
def command(relaxed: tuple[str, ...], reference: str, assume_same_potential: bool, out: str, as_json: bool) -> None:
    """Formation energy and energy above the convex hull of the REFERENCE for each row of RELAXED.

    RELAXED: tables of `relax`, or any Parquet with the columns id, atomic_numbers and energy (total
    energy, eV/atom); energy_initial (before relaxation) and status are used where there. Several
    tables become one.

    Energies of two potentials must not be mixed: a table whose potential is not the reference's is
    refused, and one that names none is too, unless --assume-same-potential is given.

    The result has one row for each crystal, in order: formation_energy and e_above_hull (eV/atom,
    negative below the hull), the same before relaxation, the competing phases with their atom
    fractions, hull_support (competing reference compositions; where this is small, the hull is poorly
    known), suspect (more than 0.1 eV/atom below the hull), status. Rows that came with another status
    than ok keep it.

    \b
    Example:
      crystalformer-rl hull relaxed.parquet --reference reference.parquet --out hull.parquet
    """
    import pyarrow as pa

    from crystalformer_rl.artifacts import RELAXED, provenance, read_provenance, read_table, write_table
    from crystalformer_rl.errors import InputError
    from crystalformer_rl.hull import Hull, check_same_potential, hull_table

    columns = {column.name: column for column in RELAXED}
    used = ("id", "atomic_numbers", "energy", "energy_initial", "status")
    tables = []
    for path in relaxed:
        table = read_table(path, [columns[name] for name in used[:3]])
        tables.append(table.select([name for name in used if name in table.column_names]))
    crystals = pa.concat_tables(tables, promote_options="permissive")
    names = crystals.column("id").to_pylist()
    if len(set(names)) < len(names):
        twice = next(name for name, n in Counter(names).items() if n > 1)
        raise InputError(f"{', '.join(relaxed)}: id '{twice}' occurs twice; give each crystal an id of its own.")
    hull = Hull.from_reference(reference)
    for path in relaxed:
        found = read_provenance(path).get("potential")
        if found or not assume_same_potential:
            check_same_potential(path, found, reference, hull.identity)

    with progress(len(names), "hull") as bar:
        table = hull_table(hull, crystals, bar.update)
    made_by = provenance(
        "hull", {"assume_same_potential": assume_same_potential}, [*relaxed, reference], potential=hull.identity
    )
    write_table(out, table, made_by)
    summary = _summary(table) | {"out": out}
    say(summary, _words(summary, table.column("status").to_pylist()), as_json)


def _summary(table: Any) -> dict[str, Any]:
    import numpy as np

    distances = np.array([x for x in table.column("e_above_hull").to_pylist() if x is not None])
    return {
        "crystals": table.num_rows,
        "status": status_counts(table.column("status").to_pylist()),
        "stable": int(np.sum(distances <= STABLE)),
        "median_e_above_hull": float(np.median(distances)) if len(distances) else None,
        "suspect": sum(x is True for x in table.column("suspect").to_pylist()),
    }


def _words(summary: dict[str, Any], statuses: list[str]) -> str:
    median = summary["median_e_above_hull"]
    return (
        f"{summary['crystals']} crystals ({count_words(statuses)}): {summary['stable']} at most {STABLE} eV/atom "
        "above the hull, "
        + (f"median {median:.3f} eV/atom, " if median is not None else "")
        + f"{summary['suspect']} suspiciously far below it → {summary['out']}"
    )
