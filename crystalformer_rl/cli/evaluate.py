"""`crystalformer-rl evaluate`."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from crystalformer_rl.cli.console import StageProgress, count_words, say, summarize
from crystalformer_rl.cli.crystals_argument import read_told
from crystalformer_rl.cli.options import (
    chosen_flags,
    device_option,
    given_stability,
    json_option,
    out_folder_option,
    potential_corrections_option,
    potential_option,
    references_option,
    said_corrections,
    setting_option,
    stability_option,
)
from crystalformer_rl.crystal.encode import SYMPREC
from crystalformer_rl.potential.relax_settings import BATCH_SIZE, RelaxSettings
from crystalformer_rl.tables.chemistry_columns import CHEMISTRY_WORDS


@click.command()
@click.argument("crystals", nargs=-1, required=True, type=click.Path())
@references_option
@out_folder_option
@click.option("--relaxed", multiple=True, type=click.Path(), help="Tables of `relax` on these crystals (may be repeated).")
@click.option("--hull", type=click.Path(), help="Table of `hull` on them.")
@click.option("--novelty", type=click.Path(), help="Table of `novelty` on them, relaxed.")
@click.option("--properties", type=click.Path(), help="Table of `properties` on them, relaxed.")
@click.option("--skip-properties", is_flag=True, help="Leave band gap and dielectric constants out.")
@potential_option()
@click.option("--judge", help="A second potential, such as sevennet-0, that relaxes the crystals too.")
@setting_option(RelaxSettings, "max_evaluations")
@setting_option(RelaxSettings, "fmax")
@setting_option(RelaxSettings, "smax")
@setting_option(RelaxSettings, "free")
@potential_corrections_option
@stability_option
@device_option
@click.option("--name", default="crystals", show_default=True, help="Name of the policy that made the crystals.")
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
    references: tuple[str, ...],
    out: str,
    relaxed: tuple[str, ...],
    hull: str | None,
    novelty: str | None,
    properties: str | None,
    skip_properties: bool,
    potential_name: str,
    judge: str | None,
    max_evaluations: int,
    fmax: float,
    smax: float,
    free: bool,
    potential_corrections: str | None,
    stability: str | None,
    device: str,
    name: str,
    stable_below: float,
    as_json: bool,
) -> None:
    """Judge anybody's crystals: stability before and after relaxation, uniqueness, novelty, S.U.N.

    CRYSTALS: tables of `sample`, CIF, POSCAR, JSON, CSV and Parquet of others, extended XYZ, folders and archives of
    them, and what else ASE reads: docs/inputs.md. Ids are unique over all files.

    Runs `relax`, `hull`, `novelty` and `properties`; a stage whose table is given is not run again. The
    tables of those that ran stay in the folder --out. A crystal that is not at rest after
    --max-evaluations has `converged` false, and is judged by the energy that it has reached.

    Writes crystals.parquet, a row a crystal with all figures (none is dropped: what failed has its
    status), the same as crystals.csv for spreadsheets, and metrics.parquet, one row: counts, fractions of all rows, and
    their 95 % intervals. Prints a line a crystal.
    S.U.N.: stable after relaxation, unique among these crystals, novel against the pretraining set. p_stable, p_on_hull:
    the probabilities that DFT calls the crystal stable, or on the hull; with --judge by both potentials (p_stable_judged).

    \b
    Example:
      crystalformer-rl evaluate samples.parquet --reference reference.parquet --out evaluation
    """
    from crystalformer_rl.errors import InputError
    from crystalformer_rl.potential.client import PotentialWorker
    from crystalformer_rl.report.crystal_lines import crystal_lines, spreadsheet
    from crystalformer_rl.resources.registry import embedded_folder
    from crystalformer_rl.stages.evaluate import COLUMNS, evaluate
    from crystalformer_rl.tables.parquet import atomic_path, read_table, write_table
    from crystalformer_rl.tables.provenance import provenance, record_of

    if relaxed and not judge:
        _refuse_idle(click.get_current_context())
    if properties and skip_properties:
        raise InputError("--properties and --skip-properties exclude each other; give one of them.")
    settings = RelaxSettings(max_evaluations=max_evaluations, fmax=fmax, smax=smax, free=free)
    reference, *phases = references
    sampled = read_told(crystals)
    options = {"relaxed": relaxed, "hull": (hull,), "novelty": (novelty,), "properties": (properties,)}
    paths = {stage: [path for path in found if path] for stage, found in options.items()}
    given = {stage: {path: read_table(path, COLUMNS[stage]) for path in found} for stage, found in paths.items()}
    learned = given_stability(stability)
    models = None if skip_properties else embedded_folder() / "properties.safetensors"
    with ExitStack() as stack:
        worker = None
        if not paths["relaxed"] or (models is not None and not paths["properties"]):
            worker = stack.enter_context(PotentialWorker(potential_name, device=device))
        judging = stack.enter_context(PotentialWorker(judge, device=device)) if judge else None
        bars = stack.enter_context(StageProgress(sampled.num_rows))
        result = evaluate(
            sampled, reference, worker, judge=judging, phases=phases, given=given, models=models, settings=settings, policy=name,
            corrections=said_corrections(potential_corrections), stability=learned,
            stable_below=stable_below, progress=bars,
        )  # fmt: skip
    folder = Path(out)
    for stage, table in result.stages.items():
        if not paths.get(stage):
            path = folder / f"{stage}.parquet"
            more = [learned] if learned and stage in ("relaxed", "hull", "judged") else []
            read = {"relaxed": list(crystals), "judged": list(crystals), "properties": [*paths["relaxed"], str(models)]}
            inputs = read.get(stage, [*paths["relaxed"], reference, *(phases if stage == "hull" else ())]) + more
            record = {key: value for key, value in record_of(table).items() if key != "stage"}
            parameters = _PARAMETERS.get(stage, {})
            if stage == "hull":
                parameters = parameters | {"stable_below": stable_below}
            if stage == "judged":
                parameters = {
                    "potential": judge,
                    "best": None,
                    "stable_below": stable_below,
                    **settings.model_dump(exclude={"free"}),
                }
            if stage == "relaxed":
                parameters = {
                    **settings.model_dump(),
                    "symprec": SYMPREC,
                    "batch_size": BATCH_SIZE,
                    "potential": potential_name,
                }
            write_table(path, table, provenance(_COMMANDS.get(stage, stage), parameters, inputs, **record))
            paths[stage] = [str(path)]
    energies = record_of(result.stages["hull"]).get("potential")
    inputs = [*crystals, *(path for found in paths.values() for path in found), *references]
    made_by = provenance("evaluate", {"name": name, "stable_below": stable_below}, inputs, potential=energies)
    write_table(folder / "crystals.parquet", result.crystals, made_by)
    write_table(folder / "metrics.parquet", result.metrics, made_by)
    with atomic_path(folder / "crystals.csv") as path:
        path.write_text(spreadsheet(result.crystals), encoding="utf-8-sig")
    statuses = result.crystals.column("status").to_pylist()
    row = result.metrics.to_pylist()[0]
    numbers = {name: row[name] for name in ("effective_templates", "effective_elements")}
    counts = {name: row[f"{name}_count"] for name in _COUNTS}
    summary = summarize(statuses, str(folder), policy=row["policy"], **counts, **numbers)
    lines = crystal_lines(result.crystals.to_pylist())
    say(summary, "\n".join([*lines, "", _words(summary, statuses)]), as_json)


_COMMANDS = {"relaxed": "relax", "judged": "judge"}
"""Stages whose commands have another name than their tables."""

_OF_RELAXATION = ("max_evaluations", "fmax", "smax", "free")
_PARAMETERS: dict[str, dict[str, Any]] = {
    "hull": {"assume_same_potential": False},
}
"""What the commands of the stages record of themselves, run with their defaults as here."""

_COUNTS = (
    "valid",
    *CHEMISTRY_WORDS,
    "stable_initial",
    "stable",
    "far_below_hull",
    "unique",
    "novel",
    "rediscovered",
    "sun_initial",
    "sun",
    "sun_new_formula",
    "sun_credible",
)


def _words(summary: dict[str, Any], statuses: list[str]) -> str:
    n = summary["n"]

    def share(name: str) -> str:
        return f"{summary[name]} ({100 * summary[name] / n:.1f} %)"

    return (
        f"{summary['policy']}: {n} crystals ({count_words(statuses)})\n"
        f"  valid {share('valid')}; stable as sampled {share('stable_initial')}, relaxed {share('stable')}\n"
        f"  unique {share('unique')}; novel {share('novel')}; S.U.N. {share('sun')}, of a new formula "
        f"{share('sun_new_formula')}, credible {share('sun_credible')}\n"
        f"  {', '.join(f'{words} {share(name)}' for name, words in CHEMISTRY_WORDS.items())}; effective number of Wyckoff templates "
        f"{summary['effective_templates']:.0f}, of elements {summary['effective_elements']:.0f} → {summary['out']}"
    )


def _refuse_idle(context: click.Context) -> None:
    """Settings of a relaxation, where none is made."""
    from crystalformer_rl.errors import InputError

    for flag in chosen_flags(context, _OF_RELAXATION):
        raise InputError(f"{flag} has no effect on crystals that --relaxed gives; leave one of the two out.")
