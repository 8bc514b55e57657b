"""`crystalformer-rl relax`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from crystalformer_rl.cli.console import count_words, progress, say, status_counts
from crystalformer_rl.cli.options import json_option, out_option

if TYPE_CHECKING:
    import pyarrow as pa


@click.command()
@click.argument("crystals", nargs=-1, required=True, type=click.Path())
@click.option("--potential", "potential_name", default="chgnet", show_default=True,
              help="chgnet, chgnet-r2scan, mace:FILE or ase:package.module:Class.")  # fmt: skip
@out_option
@click.option("--max-evaluations", default=25, show_default=True, type=click.IntRange(1),
              help="Evaluations of the potential a crystal; the best geometry found is returned.")  # fmt: skip
@click.option("--fmax", default=0.05, show_default=True, type=click.FloatRange(0, min_open=True),
              help="Converged when no force exceeds this, eV/Å …")  # fmt: skip
@click.option("--smax", default=0.5, show_default=True, type=click.FloatRange(0, min_open=True),
              help="… and no stress component this, GPa.")  # fmt: skip
@click.option("--free", is_flag=True,
              help="Afterwards relax without symmetry too, and report what that changed.")  # fmt: skip
@click.option("--symprec", default=0.01, show_default=True, type=click.FloatRange(0, min_open=True),
              help="Å; tolerance of the symmetry search, for crystals that come without tokens.")  # fmt: skip
@click.option("--batch-size", default=16, show_default=True, type=click.IntRange(1), help="Crystals relaxed at a time.")
@json_option
def command(
    crystals: tuple[str, ...],
    potential_name: str,
    out: str,
    max_evaluations: int,
    fmax: float,
    smax: float,
    free: bool,
    symprec: float,
    batch_size: int,
    as_json: bool,
) -> None:
    """Relax cell and positions, keeping the space group.

    CRYSTALS are crystals tables, CIF files or folders of them. What moves is what the
    symmetry leaves free: the sites' free coordinates and the lattice's free parameters. A table of
    samples brings its symmetry along; for other crystals it is searched, and where none is
    found the crystal relaxes without (space group 1).

    Out goes a table with the primitive cell of each relaxed crystal and its tokens, the energy (eV/atom)
    before and after, and the force (eV/Å) and stress (GPa) that remain. Every row stays; what cannot be
    relaxed has a status.

    \b
    Example:
      crystalformer-rl relax samples.parquet --potential chgnet --out relaxed.parquet
    """
    from crystalformer_rl.crystal.readers import read_crystals
    from crystalformer_rl.potential import load
    from crystalformer_rl.potential.free import relax_freely
    from crystalformer_rl.potential.relaxation import relax, relaxed_columns
    from crystalformer_rl.potential.walker import Settings
    from crystalformer_rl.tables.column import make_table
    from crystalformer_rl.tables.energy_columns import RELAXED
    from crystalformer_rl.tables.parquet import write_table
    from crystalformer_rl.tables.provenance import provenance

    table = read_crystals(crystals)
    items = _items(table, ", ".join(crystals))
    potential = load(potential_name)
    settings = Settings(fmax=fmax, smax=smax, max_evaluations=max_evaluations)
    with progress(len(items), "relax") as bar:
        results = relax(potential, items, settings, batch_size=batch_size, symprec=symprec, advance=bar.update)
    if free:
        with progress(len(items), "relax freely") as bar:
            results = relax_freely(potential, results, settings, batch_size=batch_size, advance=bar.update)
    columns = relaxed_columns(results) | {"id": table.column("id").to_pylist()}
    # A failed crystal has no relaxed geometry, but it keeps what it is made of, which its first energy needs.
    for name in ("formula", "atomic_numbers"):
        columns[name] = [new or old for new, old in zip(columns[name], table.column(name).to_pylist(), strict=True)]
    relaxed = make_table(RELAXED, columns)
    parameters = {
        "potential": potential_name,
        "max_evaluations": max_evaluations,
        "fmax": fmax,
        "smax": smax,
        "free": free,
        "symprec": symprec,
        "batch_size": batch_size,
    }
    write_table(out, relaxed, provenance("relax", parameters, crystals, potential=potential.identity))
    _report(out, relaxed, potential.identity["name"], as_json)


def _items(table: pa.Table, source: str) -> list[Any]:
    """What to relax in each row: tokens where the table has them, else the crystal, else the row's status."""
    from crystalformer_rl.crystal.structure import crystals_from_table
    from crystalformer_rl.crystal.tokens import sites_from_table

    crystals, statuses = crystals_from_table(table)
    carries = {"space_group", "wyckoff", "elements", "site_frac_coords", "lattice_parameters"} <= set(table.column_names)
    sites = sites_from_table(table, source) if carries else [None] * table.num_rows
    rows = zip(sites, crystals, statuses, strict=True)
    return [status if status != "ok" else s if s is not None else c for s, c, status in rows]


def _report(out: str, relaxed: pa.Table, potential: str, as_json: bool) -> None:
    statuses = relaxed.column("status").to_pylist()
    converged = sum(1 for value in relaxed.column("converged").to_pylist() if value)
    evaluations = sum(value or 0 for value in relaxed.column("evaluations").to_pylist())
    changed = _changed(relaxed)
    summary = {"out": out, "statuses": status_counts(statuses), "converged": converged, "evaluations": evaluations}
    words = (
        f"{out}: {len(statuses)} crystals ({count_words(statuses)}), {converged} converged, "
        f"{evaluations} evaluations of {potential}"
    )
    if changed is not None:
        summary["changed_when_free"] = changed
        words += (
            f"; without symmetry {changed['crystals']} ended lower, {changed['other_space_group']} in another space group"
        )
    say(summary, words + ".", as_json)


def _changed(relaxed: pa.Table) -> dict[str, int] | None:
    """How many crystals a free relaxation changed; None where there was none."""
    rows = relaxed.select(["energy", "energy_kept", "space_group", "space_group_kept"]).to_pylist()
    rows = [row for row in rows if row["energy_kept"] is not None]
    if not rows:
        return None
    return {
        "crystals": sum(row["energy"] < row["energy_kept"] for row in rows),
        "other_space_group": sum(row["space_group"] != row["space_group_kept"] for row in rows),
    }
