"""`crystalformer-rl hull`."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import click

from crystalformer_rl.cli.console import count_words, progress, say, status_counts
from crystalformer_rl.cli.options import json_option, out_option

if TYPE_CHECKING:
    import pyarrow as pa

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
@click.option(
    "--against-dft",
    is_flag=True,
    help="Compare a potential's energies with a REFERENCE of DFT energies, both brought to one scale.",
)
@click.option(
    "--potential-corrections",
    type=click.Choice(["mp2020", "none"]),
    help="With --against-dft: corrections in the potential's energies, where its identity does not say.",
)
@out_option
@json_option
def command(
    relaxed: tuple[str, ...],
    reference: str,
    assume_same_potential: bool,
    against_dft: bool,
    potential_corrections: str | None,
    out: str,
    as_json: bool,
) -> None:
    """Formation energy and energy above the convex hull of the REFERENCE for each row of RELAXED.

    RELAXED: tables of `relax`, or any Parquet with the columns id, atomic_numbers and energy (total
    energy, eV/atom); energy_initial (before relaxation) and status are used where there. Several
    tables become one.

    Energies of two potentials must not be mixed: a table whose potential is not the reference's is
    refused, and one that names none is too, unless --assume-same-potential is given.

    --against-dft permits one exception, which is common in publications: a potential's energies beside the DFT energies of
    a reference made with `reference --energies given`. MP2020 corrections are added to the potential's
    energies where the reference has them and the potential does not. What was done is recorded in the result. The
    potential's own errors then enter every distance in full, since nothing cancels.

    The result has one row for each crystal, in order: formation_energy and e_above_hull (eV/atom,
    negative below the hull), the same before relaxation, the competing phases with their atom
    fractions, hull_support (competing reference compositions; where this is small, the hull is poorly
    known), suspect (more than 0.1 eV/atom below the hull), status. Rows that came with another status
    than ok keep it.

    \b
    Examples:
      crystalformer-rl hull relaxed.parquet --reference reference.parquet --out hull.parquet
      crystalformer-rl hull relaxed.parquet --reference dft.parquet --against-dft --out hull.parquet
    """
    from crystalformer_rl.hull import Hull, hull_table
    from crystalformer_rl.tables.parquet import write_table
    from crystalformer_rl.tables.provenance import provenance, read_provenance

    _check_options(against_dft, assume_same_potential, potential_corrections)
    crystals = _read(relaxed, with_structures=against_dft)
    hull = Hull.from_reference(reference)
    found = {path: read_provenance(path).get("potential") for path in relaxed}
    parameters: dict[str, Any] = {"assume_same_potential": assume_same_potential}
    more: dict[str, Any] = {"potential": hull.identity}
    if against_dft:
        parameters |= {"against_dft": True, "potential_corrections": potential_corrections}
        crystals, more = _on_the_dft_scale(crystals, found, reference, hull.identity, potential_corrections)
    else:
        _check_potentials(found, reference, hull.identity, assume_same_potential)

    with progress(crystals.num_rows, "hull") as bar:
        table = hull_table(hull, crystals, bar.update)
    write_table(out, table, provenance("hull", parameters, [*relaxed, reference], **more))
    summary = _summary(table) | {"out": out}
    words = _words(summary, table.column("status").to_pylist())
    if against_dft:
        summary["against_dft"] = more["against_dft"]
        words += f"\n{more['against_dft']['statement']}"
    say(summary, words, as_json)


def _check_options(against_dft: bool, assume_same_potential: bool, potential_corrections: str | None) -> None:
    from crystalformer_rl.errors import InputError

    if against_dft and assume_same_potential:
        raise InputError("--against-dft and --assume-same-potential contradict each other; give one of them.")
    if potential_corrections and not against_dft:
        raise InputError("--potential-corrections has no effect without --against-dft; give both or neither.")


def _read(relaxed: tuple[str, ...], with_structures: bool) -> pa.Table:
    """What the hull needs of all tables, one after the other."""
    import pyarrow as pa

    from crystalformer_rl.crystal.readers import with_types
    from crystalformer_rl.errors import InputError
    from crystalformer_rl.tables.energy_columns import RELAXED
    from crystalformer_rl.tables.parquet import read_table

    columns = {column.name: column for column in RELAXED}
    used = ["id", "atomic_numbers", "energy", "energy_initial", "status"]
    used += ["frac_coords", "lattice"] if with_structures else []
    tables = []
    for path in relaxed:
        table = read_table(path, [columns[name] for name in used[:3]])
        table = with_types(table, [columns[name] for name in used[3:]], path)
        tables.append(table.select([name for name in used if name in table.column_names]))
    crystals = pa.concat_tables(tables, promote_options="permissive")
    names = crystals.column("id").to_pylist()
    if len(set(names)) < len(names):
        twice = next(name for name, n in Counter(names).items() if n > 1)
        raise InputError(f"{', '.join(relaxed)}: id '{twice}' occurs twice; give each crystal an id of its own.")
    return crystals


def _check_potentials(
    found: dict[str, dict[str, Any] | None], reference: str, expected: dict[str, Any], assume_same_potential: bool
) -> None:
    from crystalformer_rl.hull import check_same_potential
    from crystalformer_rl.reference.scale import is_dft

    remedy = "use a reference built with the same potential"
    if is_dft(expected):
        remedy += ", or pass --against-dft to compare a potential's energies with those of DFT all the same"
    for path, identity in found.items():
        if identity or not assume_same_potential:
            check_same_potential(path, identity, reference, expected, remedy)


def _on_the_dft_scale(
    crystals: pa.Table, found: dict[str, dict[str, Any] | None], reference: str, expected: dict[str, Any], said: str | None
) -> tuple[pa.Table, dict[str, Any]]:
    """The crystals with energies on the reference's scale, and what the provenance must say of it."""
    from crystalformer_rl.hull import check_same_potential, describe_identity
    from crystalformer_rl.reference.corrections import MP2020, corrected
    from crystalformer_rl.reference.scale import must_add_mp2020

    (first, identity), *others = found.items()
    add = must_add_mp2020(first, identity, reference, expected, said)
    for path, other in others:  # one table of distances is on one scale
        if identity or other:
            check_same_potential(path, other, first, identity or {}, "give tables of one potential")
    who = describe_identity(identity) if identity else "a potential that is not named"
    statement = f"energies of {who} against {describe_identity(expected)}: "
    if not add:
        statement += "nothing added to the potential's energies"
        return crystals, _more(identity, expected, "none", said, statement, {})
    with progress(crystals.num_rows, "corrections") as bar:
        crystals, counted = corrected(crystals, MP2020(), bar.update)
    statement += (
        "MP2020 corrections added to the potential's energies, before and after relaxation, by the relaxed structure for "
        f"{counted['structure']} crystals, by the composition for {counted['composition']}, not possible for "
        f"{counted['failed']}"
    )
    return crystals, _more(identity, expected, "MP2020", said, statement, counted)


def _more(
    identity: dict[str, Any] | None,
    expected: dict[str, Any],
    added: str,
    said: str | None,
    statement: str,
    counted: dict[str, int],
) -> dict[str, Any]:
    record = {
        "reference": expected,
        "corrections_added": added,
        "potential_corrections_by_user": said,
        "crystals": counted,
        "statement": statement,
    }
    return {"potential": identity, "against_dft": record}


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
