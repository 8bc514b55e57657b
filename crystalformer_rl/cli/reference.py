"""`crystalformer-rl reference`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from crystalformer_rl.cli.console import count_words, progress, say, status_counts
from crystalformer_rl.cli.crystals_argument import read_told
from crystalformer_rl.cli.options import chosen_flags, device_option, json_option, out_option
from crystalformer_rl.reference.identity import FUNCTIONALS

if TYPE_CHECKING:
    import pyarrow as pa

#: Options that mean something only with energies of the one kind, by their parameters' names.
_POTENTIAL_ONLY = ("potential_name", "pretraining_max_atoms", "pretraining_max_e_above_hull", "max_evaluations", "fmax",
                   "smax", "single_points", "dft_energies", "work", "processes", "hull_only")  # fmt: skip
_GIVEN_ONLY = ("corrections", "functional")
_LOWEST = "lowest"


@click.command()
@click.argument("crystals", nargs=-1, required=True, type=click.Path())
@click.option("--energies", type=click.Choice(["potential", "given"]), default="potential", show_default=True,
              help="Compute energies with the potential, or take the DFT energies that computed entries give.")  # fmt: skip
@click.option("--potential", "potential_name", default="chgnet", show_default=True,
              help="chgnet, chgnet-r2scan, mace:FILE or ase:package.module:Class.")  # fmt: skip
@click.option("--elemental-energies", type=click.Path(),
              help="JSON {symbol: eV/atom}: the zero of formation energy, on the scale of the energies. With given energies "
                   "it may be left out: the lowest elemental entries are taken. With a potential's, `lowest` takes those, "
                   "and for elements without an entry the lowest of common structures relaxed with it.")  # fmt: skip
@click.option("--corrections", type=click.Choice(["mp2020", "none", "as-given"]), default="mp2020", show_default=True,
              help="Given energies: with MP2020 corrections by pymatgen, uncorrected, or with what the entries carry.")  # fmt: skip
@click.option("--functional", type=click.Choice(FUNCTIONALS),
              help="Given energies: take entries of this functional only. By default that of the entries' run types, or "
                   "PBE where they name none.")  # fmt: skip
@out_option
@click.option("--pretraining-max-atoms", default=20, show_default=True, type=click.IntRange(1),
              help="Larger cells only support the hull.")  # fmt: skip
@click.option("--pretraining-max-e-above-hull", default=0.1, show_default=True, type=float,
              help="eV/atom by dft_e_above_hull; entries above it, or without it, only support the hull.")  # fmt: skip
@click.option("--hull-only", is_flag=True,
              help="All entries support the hull alone: single points on the geometries given, formula and energy kept.")  # fmt: skip
@click.option("--max-evaluations", default=5, show_default=True, type=click.IntRange(1),
              help="Evaluations of the potential an entry.")  # fmt: skip
@click.option("--fmax", default=0.05, show_default=True, type=click.FloatRange(0, min_open=True),
              help="Relaxed when no force exceeds this, eV/Å …")  # fmt: skip
@click.option("--smax", default=0.5, show_default=True, type=click.FloatRange(0, min_open=True),
              help="… and no stress component this, GPa.")  # fmt: skip
@click.option("--single-points", type=click.Path(),
              help="Parquet with material_id (or id) and chgnet_energy (or energy), eV/atom, in this very potential: "
                   "used for entries that are not relaxed; spot-checked.")  # fmt: skip
@click.option("--dft-energies", type=click.Path(),
              help="Parquet with formula and dft_formation_energy, eV/atom, PBE(+U) with MP2020 corrections: compositions that DFT "
                   "knows, for the hull alone. The potential's bias against them is measured.")  # fmt: skip
@click.option("--work", type=click.Path(), help="Folder for finished parts: a killed run goes on from there.")
@click.option("--processes", default=1, show_default=True, type=click.IntRange(1), help="Processes, one thread each.")
@device_option
@json_option
@click.pass_context
def command(
    context: click.Context,
    crystals: tuple[str, ...],
    energies: str,
    potential_name: str,
    device: str,
    elemental_energies: str | None,
    corrections: Any,
    functional: str | None,
    out: str,
    pretraining_max_atoms: int,
    pretraining_max_e_above_hull: float,
    hull_only: bool,
    max_evaluations: int,
    fmax: float,
    smax: float,
    single_points: str | None,
    dft_energies: str | None,
    work: str | None,
    processes: int,
    as_json: bool,
) -> None:
    """Build a reference: crystals, tokens and energies, all in one potential; or DFT energies as given.

    CRYSTALS are tables, files, folders or archives of crystals (docs/inputs.md), or JSON of pymatgen's computed entries with
    structures (.json, .json.gz, .json.bz2; the Materials Project's, Alexandria's). Entries whose column
    dft_e_above_hull is at most 0.1 eV/atom in cells of at most 20 atoms are relaxed
    with their space group kept and stored with crystal and tokens (a twentieth of
    the formulas as held_out); all others are stored as formula and energy, for the hull alone.

    With --energies given nothing is computed with a potential: CRYSTALS are JSON of computed entries, and their DFT
    energies become a reference for the hull alone. Compare a potential's energies with it by `hull --against-dft`.

    The file records the identity of its energies; `hull` refuses energies of another.

    \b
    Examples:
      crystalformer-rl reference structures.parquet --elemental-energies elements.json \\
          --single-points points.parquet --work work/reference --out reference.parquet
      crystalformer-rl reference structures.parquet --potential chgnet-r2scan --elemental-energies lowest \\
          --hull-only --out judge.parquet
      crystalformer-rl reference convex_hull_pbe.json.bz2 --energies given --out dft.parquet
    """
    _check_options(context, energies, elemental_energies)
    if energies == "given":
        _given(crystals, elemental_energies, corrections, functional, out, as_json)
        return
    from crystalformer_rl.potential.relax_settings import RelaxSettings
    from crystalformer_rl.potential.shards import work_folder
    from crystalformer_rl.reference.dft_rows import COLUMNS
    from crystalformer_rl.reference.file import read_elemental_energies, write_reference
    from crystalformer_rl.stages import reference as stage
    from crystalformer_rl.tables.parquet import read_table
    from crystalformer_rl.tables.provenance import provenance

    assert elemental_energies is not None
    lowest = elemental_energies == _LOWEST
    elements = None if lowest else read_elemental_energies(elemental_energies)
    points = _single_points(single_points) if single_points else None
    table = read_told(crystals)
    settings = RelaxSettings(fmax=fmax, smax=smax, max_evaluations=max_evaluations)
    selection = stage.Selection(pretraining_max_atoms, pretraining_max_e_above_hull, hull_only)
    with work_folder(work) as folder, progress(table.num_rows, "reference") as bar:
        built, record = stage.reference(
            table, potential_name, elements, folder, device=device, settings=settings, selection=selection, single_points=points,
            dft_energies=read_table(dft_energies, COLUMNS) if dft_energies else None, processes=processes, advance=bar.update,
        )  # fmt: skip
    evaluations = _evaluations(built)
    if hull_only:
        built = stage.compact(built)
    parameters = {
        "potential": potential_name,
        "hull_only": hull_only,
        "pretraining_max_atoms": pretraining_max_atoms,
        "pretraining_max_e_above_hull": pretraining_max_e_above_hull,
        "max_evaluations": max_evaluations,
        "fmax": fmax,
        "smax": smax,
    }
    inputs = [
        *crystals,
        *([] if lowest else [elemental_energies]),
        *([single_points] if single_points else []),
        *([dft_energies] if dft_energies else []),
    ]
    write_reference(out, built, provenance("reference", parameters, inputs, **record))
    statuses, roles = built.column("status").to_pylist(), built.column("role").to_pylist()
    counts = {role: roles.count(role) for role in ("pretraining", "held_out", "hull_only")}
    say(
        {"out": out, "statuses": status_counts(statuses), "roles": counts, "evaluations": evaluations},
        f"{out}: {built.num_rows} entries ({count_words(statuses)}); {counts['pretraining']} for pretraining, "
        f"{counts['held_out']} held out, {counts['hull_only']} for the hull alone; "
        f"{evaluations} evaluations of {record['potential']['name']}.",
        as_json,
    )


def _check_options(context: click.Context, energies: str, elemental_energies: str | None) -> None:
    """Refuse options that would have no effect, and a potential's energies without a zero."""
    from crystalformer_rl.errors import InputError

    idle = _POTENTIAL_ONLY if energies == "given" else _GIVEN_ONLY
    for flag in chosen_flags(context, idle):
        raise InputError(f"{flag} has no effect with --energies {energies}; leave one of the two out.")
    if energies == "potential" and elemental_energies is None:
        raise InputError(
            "--elemental-energies is missing; give a JSON file {symbol: eV/atom} in the potential's scale, `lowest`, or take "
            "the DFT energies of computed entries with --energies given."
        )


def _given(
    paths: tuple[str, ...], elemental_energies: str | None, corrections: Any, functional: str | None, out: str, as_json: bool
) -> None:
    """The reference of DFT energies that computed entries give."""
    from crystalformer_rl.errors import InputError
    from crystalformer_rl.reading.entries import read_entries
    from crystalformer_rl.reading.files import stem
    from crystalformer_rl.reference.file import read_elemental_energies, write_reference
    from crystalformer_rl.reference.given import SeveralFunctionalsError, given_reference
    from crystalformer_rl.tables.provenance import digest_json, provenance, sha256

    for path in paths:
        if not Path(path).is_file():
            raise InputError(f"{path} is not a file; give JSON of computed entries (.json, .json.gz or .json.bz2).")
    given = elemental_energies if elemental_energies != _LOWEST else None
    elements = read_elemental_energies(given) if given else None
    digests = [sha256(path) for path in paths]
    with progress(sum(Path(path).stat().st_size for path in paths), "entries", unit="B") as bar:
        try:
            built, record = given_reference(
                read_entries(paths, bar.update),
                digest=digests[0] if len(digests) == 1 else digest_json(digests),
                source=", ".join(stem(Path(path).name) for path in paths),
                corrections=corrections,
                functional=functional,
                elemental_energies=elements,
            )
        except SeveralFunctionalsError as error:
            raise InputError(f"{str(error).removesuffix('.')} with --functional.") from error
    parameters = {"energies": "given", "corrections": corrections, "functional": functional}
    inputs = [*paths, *([given] if given else [])]
    write_reference(out, built, provenance("reference", parameters, inputs, **record))
    statuses, identity = built.column("status").to_pylist(), record["potential"]
    say(
        {
            "out": out,
            "statuses": status_counts(statuses),
            "energies": identity,
            "elements": len(record["elemental_energies"]),
        },
        f"{out}: {built.num_rows} entries ({count_words(statuses)}) for the hull alone; {identity['name']}, corrections: "
        f"{identity['corrections']}; {len(record['elemental_energies'])} elements.",
        as_json,
    )


def _evaluations(table: pa.Table) -> int:
    return sum(value or 0 for value in table.column("evaluations").to_pylist())


def _single_points(path: str) -> dict[str, float]:
    """{id: eV/atom} from the table of single points; null energies are left out."""
    from crystalformer_rl.errors import InputError
    from crystalformer_rl.tables.crystal_columns import ID
    from crystalformer_rl.tables.parquet import read_table

    table = read_table(path, [ID])
    name = next((n for n in ("chgnet_energy", "energy") if n in table.column_names), None)
    if name is None:
        there = ", ".join(table.column_names)
        raise InputError(f"{path} has no column 'chgnet_energy' or 'energy' (eV/atom), only {there}; name it so.")
    pairs = zip(table.column("id").to_pylist(), table.column(name).to_pylist(), strict=True)
    return {i: float(energy) for i, energy in pairs if energy is not None}
