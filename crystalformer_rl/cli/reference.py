"""`crystalformer-rl reference`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from crystalformer_rl.cli.console import count_words, json_option, out_option, progress, say, status_counts

if TYPE_CHECKING:
    import pyarrow as pa


@click.command()
@click.argument("crystals", nargs=-1, required=True, type=click.Path())
@click.option("--potential", "potential_name", default="chgnet", show_default=True,
              help="chgnet, chgnet-r2scan, mace:FILE or ase:package.module:Class.")  # fmt: skip
@click.option("--elemental-energies", required=True, type=click.Path(),
              help="JSON {symbol: eV/atom}: the zero of formation energy, in this potential's scale.")  # fmt: skip
@out_option
@click.option("--pretraining-max-atoms", default=20, show_default=True, type=click.IntRange(1),
              help="Larger cells only support the hull.")  # fmt: skip
@click.option("--pretraining-max-e-above-hull", default=0.1, show_default=True, type=float,
              help="eV/atom by dft_e_above_hull; entries above it, or without it, only support the hull.")  # fmt: skip
@click.option("--max-evaluations", default=5, show_default=True, type=click.IntRange(1),
              help="Evaluations of the potential an entry.")  # fmt: skip
@click.option("--fmax", default=0.05, show_default=True, type=click.FloatRange(0, min_open=True),
              help="Relaxed when no force exceeds this, eV/Å …")  # fmt: skip
@click.option("--smax", default=0.5, show_default=True, type=click.FloatRange(0, min_open=True),
              help="… and no stress component this, GPa.")  # fmt: skip
@click.option("--single-points", type=click.Path(),
              help="Parquet with material_id (or id) and chgnet_energy (or energy), eV/atom, in this very potential: "
                   "used for entries that are not relaxed; spot-checked.")  # fmt: skip
@click.option("--work", type=click.Path(), help="Folder for finished parts: a killed run goes on from there.")
@click.option("--processes", default=1, show_default=True, type=click.IntRange(1), help="Processes, one thread each.")
@json_option
def command(
    crystals: tuple[str, ...],
    potential_name: str,
    elemental_energies: str,
    out: str,
    pretraining_max_atoms: int,
    pretraining_max_e_above_hull: float,
    max_evaluations: int,
    fmax: float,
    smax: float,
    single_points: str | None,
    work: str | None,
    processes: int,
    as_json: bool,
) -> None:
    """Build a reference: crystals, tokens and energies, all in one potential.

    CRYSTALS are crystals tables, CIF files or folders of them. Entries whose column
    dft_e_above_hull is at most 0.1 eV/atom in cells of at most 20 atoms are relaxed
    with their space group kept and stored with crystal and tokens (a twentieth of
    the formulas as held_out); all others are stored as formula and energy, for the hull alone.

    The file records the potential's identity; `hull` refuses energies of another.

    \b
    Example:
      crystalformer-rl reference structures.parquet --elemental-energies elements.json \\
          --single-points points.parquet --work work/reference --out reference.parquet
    """
    from crystalformer_rl import artifacts
    from crystalformer_rl.crystal.readers import read_crystals
    from crystalformer_rl.potential import reference as stage
    from crystalformer_rl.potential.relax import Settings

    energies = stage.read_elemental_energies(elemental_energies)
    points = _single_points(single_points) if single_points else None
    table = read_crystals(crystals)
    settings = Settings(fmax=fmax, smax=smax, max_evaluations=max_evaluations)
    selection = stage.Selection(pretraining_max_atoms, pretraining_max_e_above_hull)
    with stage.work_folder(work) as folder, progress(table.num_rows, "reference") as bar:
        built, record = stage.build_reference(
            table, potential_name, energies, folder, settings=settings, selection=selection, single_points=points,
            processes=processes, advance=bar.update,
        )  # fmt: skip
    parameters = {
        "potential": potential_name,
        "pretraining_max_atoms": pretraining_max_atoms,
        "pretraining_max_e_above_hull": pretraining_max_e_above_hull,
        "max_evaluations": max_evaluations,
        "fmax": fmax,
        "smax": smax,
    }
    inputs = [*crystals, elemental_energies, *([single_points] if single_points else [])]
    stage.write_reference(out, built, artifacts.provenance("reference", parameters, inputs, **record))
    statuses, roles = built.column("status").to_pylist(), built.column("role").to_pylist()
    counts = {role: roles.count(role) for role in ("pretraining", "held_out", "hull_only")}
    say(
        {"out": out, "statuses": status_counts(statuses), "roles": counts, "evaluations": _evaluations(built)},
        f"{out}: {built.num_rows} entries ({count_words(statuses)}); {counts['pretraining']} for pretraining, "
        f"{counts['held_out']} held out, {counts['hull_only']} for the hull alone; "
        f"{_evaluations(built)} evaluations of {record['potential']['name']}.",
        as_json,
    )


def _evaluations(table: pa.Table) -> int:
    return sum(value or 0 for value in table.column("evaluations").to_pylist())


def _single_points(path: str) -> dict[str, float]:
    """{id: eV/atom} from the table of single points; null energies are left out."""
    from crystalformer_rl import artifacts
    from crystalformer_rl.errors import InputError

    table = artifacts.read_table(path, [artifacts.ID])
    name = next((n for n in ("chgnet_energy", "energy") if n in table.column_names), None)
    if name is None:
        there = ", ".join(table.column_names)
        raise InputError(f"{path} has no column 'chgnet_energy' or 'energy' (eV/atom), only {there}; name it so.")
    pairs = zip(table.column("id").to_pylist(), table.column(name).to_pylist(), strict=True)
    return {i: float(energy) for i, energy in pairs if energy is not None}
