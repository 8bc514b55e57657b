"""`crystalformer-rl evaluate`."""

from __future__ import annotations

import contextlib
import importlib
import sys
from pathlib import Path
from typing import Any

import click

from crystalformer_rl.cli.console import count_words, say, status_counts
from crystalformer_rl.cli.options import json_option


@click.command()
@click.argument("crystals", nargs=-1, required=True, type=click.Path())
@click.option(
    "--reference", required=True, type=click.Path(), help="Reference (Parquet): known structures and their energies."
)
@click.option("--out", required=True, type=click.Path(), help="Folder to write to.")
@click.option("--relaxed", multiple=True, type=click.Path(), help="Tables of `relax` on these crystals (may be repeated).")
@click.option("--hull", type=click.Path(), help="Table of `hull` on them.")
@click.option("--novelty", type=click.Path(), help="Table of `novelty` on them, relaxed.")
@click.option("--properties", type=click.Path(), help="Table of `properties` on them, relaxed.")
@click.option("--skip-properties", is_flag=True, help="Leave band gap and dielectric constants out.")
@click.option("--potential", default="chgnet", show_default=True, help="Potential for relaxation, as `relax` takes it.")
@click.option("--name", default="base", show_default=True, help="Name of the policy that made the crystals.")
@click.option(
    "--stable-below",
    type=click.FloatRange(0, 10),
    default=0.1,
    show_default=True,
    help="Largest energy above hull, eV/atom, that counts as stable.",
)
@json_option
def command(
    crystals: tuple[str, ...],
    reference: str,
    out: str,
    relaxed: tuple[str, ...],
    hull: str | None,
    novelty: str | None,
    properties: str | None,
    skip_properties: bool,
    potential: str,
    name: str,
    stable_below: float,
    as_json: bool,
) -> None:
    """Judge anybody's crystals: stability before and after relaxation, uniqueness, novelty, S.U.N.

    CRYSTALS: tables of `sample`, any Parquet with id, atomic_numbers, frac_coords and lattice (Å), CIF
    files or folders of them, a CSV with a `cif` column. Ids are unique over all files.

    Runs `relax`, `hull`, `novelty` and `properties`; a stage whose table is given is not run again. The
    tables of those that ran stay in the folder --out.

    Writes crystals.parquet, a row a crystal with all figures (none is dropped: what failed has its
    status), and metrics.parquet, one row: counts, fractions of all rows, and their 95 % intervals.
    S.U.N.: stable after relaxation, unique among these crystals, novel against the pretraining set.

    \b
    Example:
      crystalformer-rl evaluate samples.parquet --reference reference.parquet --out evaluation
    """
    from crystalformer_rl.crystal.readers import read_crystals
    from crystalformer_rl.discovery.evaluation import evaluated
    from crystalformer_rl.discovery.metrics import metrics
    from crystalformer_rl.errors import InputError
    from crystalformer_rl.tables.parquet import write_table
    from crystalformer_rl.tables.provenance import provenance, read_provenance

    if properties and skip_properties:
        raise InputError("--properties and --skip-properties exclude each other; give one of them.")
    sampled = read_crystals(crystals)
    given = {"relaxed": relaxed, "hull": (hull,), "novelty": (novelty,), "properties": (properties,)}
    tables = {stage: tuple(path for path in paths if path) for stage, paths in given.items()}
    _check_tables(sampled, tables, reference)
    if not tables["relaxed"]:
        _check_potential(potential, reference)
    folder = Path(out)
    tables = _run_missing(tables, folder, crystals, reference, potential, skip_properties)
    stages = _read_stages(tables)
    table = evaluated(sampled, stages, name, stable_below)
    row = metrics(table, stable_below)
    inputs = [*crystals, *(path for paths in tables.values() for path in paths), reference]
    energies = read_provenance(tables["hull"][0]).get("potential")
    made_by = provenance("evaluate", {"name": name, "stable_below": stable_below}, inputs, potential=energies)
    write_table(folder / "crystals.parquet", table, made_by)
    write_table(folder / "metrics.parquet", row, made_by)
    summary = _summary(row.to_pylist()[0], table.column("status").to_pylist()) | {"out": str(folder)}
    say(summary, _words(summary, table.column("status").to_pylist()), as_json)


def _check_tables(sampled: Any, tables: dict[str, tuple[str, ...]], reference: str) -> None:
    """Refuse, before any long work, tables of other crystals or of another reference."""
    from crystalformer_rl.discovery.evaluation import rows_in_order, unique_ids
    from crystalformer_rl.errors import InputError
    from crystalformer_rl.tables.energy_columns import REFERENCE
    from crystalformer_rl.tables.parquet import read_table
    from crystalformer_rl.tables.provenance import read_provenance, sha256

    ids = unique_ids(sampled, "the crystals")
    read_table(reference, [column for column in REFERENCE if column.name in ("id", "role")])
    for stage, paths in tables.items():
        if paths:
            rows_in_order(_read(stage, paths).select(["id"]), ids, stage)
    for stage in ("hull", "novelty"):
        for path in tables[stage]:
            recorded = read_provenance(path).get("inputs")
            if recorded and sha256(reference) not in recorded.values():
                raise InputError(
                    f"{path} was computed on another reference than {reference}; run `{stage}` again on this one."
                )


def _check_potential(name: str, reference: str) -> None:
    """Refuse, before relaxing with it, a potential that the reference's energies are not from."""
    from crystalformer_rl.hull import check_same_potential
    from crystalformer_rl.potential import load
    from crystalformer_rl.stages.reference import self_test
    from crystalformer_rl.tables.provenance import read_provenance

    potential = load(name)
    expected = read_provenance(reference).get("potential") or {}
    check_same_potential(f"the potential '{name}'", potential.identity, reference, expected)
    self_test(reference, potential)


def _run_missing(
    tables: dict[str, tuple[str, ...]],
    folder: Path,
    crystals: tuple[str, ...],
    reference: str,
    potential: str,
    skip_properties: bool,
) -> dict[str, tuple[str, ...]]:
    """Run the stages whose tables are not given; the paths of all stages' tables."""
    complete = dict(tables)

    def run(stage: str, command_name: str, inputs: tuple[str, ...], *options: str) -> None:
        if not complete[stage]:
            out = str(folder / f"{stage}.parquet")
            _run_command(command_name, [*inputs, *options, "--out", out])
            complete[stage] = (out,)

    run("relaxed", "relax", crystals, "--potential", potential)
    run("hull", "hull", complete["relaxed"], "--reference", reference)
    run("novelty", "novelty", complete["relaxed"], "--reference", reference)
    if not skip_properties:
        run("properties", "properties", complete["relaxed"])
    return complete


def _run_command(name: str, arguments: list[str]) -> None:
    """Run a sibling command in this process; what it says goes to standard error."""
    command = importlib.import_module(f"crystalformer_rl.cli.{name}").command
    with contextlib.redirect_stdout(sys.stderr):
        command.main(arguments, prog_name=f"crystalformer-rl {name}", standalone_mode=False)


def _read(stage: str, paths: tuple[str, ...]) -> Any:
    import pyarrow as pa

    from crystalformer_rl.tables.discovery_columns import NOVELTY
    from crystalformer_rl.tables.energy_columns import HULL, RELAXED
    from crystalformer_rl.tables.parquet import read_table
    from crystalformer_rl.tables.property_columns import PROPERTIES

    columns = {"relaxed": RELAXED, "hull": HULL, "novelty": NOVELTY, "properties": PROPERTIES}[stage]
    tables = [read_table(path, columns).select([column.name for column in columns]) for path in paths]
    return pa.concat_tables([table.replace_schema_metadata(None) for table in tables])


def _read_stages(tables: dict[str, tuple[str, ...]]) -> Any:
    from crystalformer_rl.discovery.evaluation import StageTables

    return StageTables(**{stage: _read(stage, paths) for stage, paths in tables.items() if paths})


def _summary(row: dict[str, Any], statuses: list[str]) -> dict[str, Any]:
    names = ("valid", "stable_initial", "stable", "suspect", "unique", "novel", "rediscovered", "sun_initial", "sun")
    counts = {name: row[f"{name}_count"] for name in names}
    return {"policy": row["policy"], "n": row["n"], "status": status_counts(statuses), **counts}


def _words(summary: dict[str, Any], statuses: list[str]) -> str:
    n = summary["n"]

    def share(name: str) -> str:
        return f"{summary[name]} ({100 * summary[name] / n:.1f} %)"

    return (
        f"{summary['policy']}: {n} crystals ({count_words(statuses)})\n"
        f"  valid {share('valid')}; stable as sampled {share('stable_initial')}, relaxed {share('stable')}\n"
        f"  unique {share('unique')}; novel {share('novel')}; S.U.N. {share('sun')} → {summary['out']}"
    )
