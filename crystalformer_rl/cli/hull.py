"""`crystalformer-rl hull`."""

from __future__ import annotations

from typing import Any

import click

from crystalformer_rl.cli.console import count_words, labelled, progress, say, summarize
from crystalformer_rl.cli.options import (
    given_stability,
    json_option,
    out_option,
    potential_corrections_option,
    references_option,
    said_corrections,
    setting_option,
    stability_option,
)
from crystalformer_rl.discovery.discovery_settings import EvaluateSettings


@click.command()
@click.argument("relaxed", nargs=-1, required=True, type=click.Path())
@references_option
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
@potential_corrections_option
@stability_option
@setting_option(EvaluateSettings, "stable_below")
@out_option
@json_option
def command(
    relaxed: tuple[str, ...],
    references: tuple[str, ...],
    assume_same_potential: bool,
    against_dft: bool,
    potential_corrections: str | None,
    stability: str | None,
    stable_below: float,
    out: str,
    as_json: bool,
) -> None:
    """Formation energy and energy above the convex hull of the REFERENCE for each row of RELAXED.

    RELAXED: tables of `relax`, or any Parquet with the columns id, atomic_numbers and energy (total
    energy, eV/atom); energy_initial (before relaxation) and status are used where there. Several
    tables become one.

    Energies of two scales must not be mixed. A reference holds energies of one potential and, besides, DFT energies on the
    scale that this potential learned; by the potential's bias, which the reference records, both stand on one hull. A table
    of another potential that learned the same scale (MP PBE+U, MP2020) is compared with the DFT energies alone; MP2020
    corrections are added where that potential predicts uncorrected energies. Any other table is refused, and so is one
    that names no potential, unless --assume-same-potential is given.

    Phases of your own join by further --reference: a table of `relax`, another reference, or JSON of computed entries.

    --against-dft permits one exception, which is common in publications: a potential's energies beside the DFT energies of
    a reference made with `reference --energies given`. MP2020 corrections are added to the potential's
    energies where the reference has them and the potential does not. What was done is recorded in the result. The
    potential's own errors then enter every distance in full, since nothing cancels.

    The result has one row for each crystal, in order: formation_energy and e_above_hull (eV/atom,
    negative below the hull), the same before relaxation, the competing phases with their atom
    fractions and where their energies come from (energy_from: relaxed, single_point, dft or given), e_above_hull_std,
    below_hull (where it is large, or hull_support small, the hull may be incomplete there), p_stable and p_on_hull, status. Rows that came with another status
    than ok keep it.

    p_stable is the probability that DFT puts the crystal at most --stable-below above the hull, p_on_hull at most 0. Where the
    errors of the potential were learned (--stability) they are calibrated on crystals with DFT labels; elsewhere they follow
    from the distance and its standard deviation. The record says which.

    \b
    Examples:
      crystalformer-rl hull relaxed.parquet --reference reference.parquet --out hull.parquet
      crystalformer-rl hull relaxed.parquet --reference reference.parquet --reference my_phases.json --out hull.parquet
      crystalformer-rl hull relaxed.parquet --reference dft.parquet --against-dft --out hull.parquet
    """
    from crystalformer_rl.stages.hull import NEEDED, hull
    from crystalformer_rl.tables.parquet import read_table, write_table
    from crystalformer_rl.tables.provenance import provenance, record_of

    _check_options(against_dft, assume_same_potential)
    tables = {name: read_table(path, NEEDED) for name, path in zip(labelled(relaxed), relaxed, strict=True)}
    corrections, learned = said_corrections(potential_corrections), given_stability(stability)
    with progress(sum(table.num_rows for table in tables.values()), "hull") as bar:
        table = hull(
            tables, references, assume_same_potential=assume_same_potential, against_dft=against_dft,
            potential_corrections=corrections, stability=learned, stable_below=stable_below, advance=bar.update,
        )  # fmt: skip
    parameters: dict[str, Any] = {"assume_same_potential": assume_same_potential}
    if against_dft:
        parameters["against_dft"] = True
    if potential_corrections:
        parameters["potential_corrections"] = potential_corrections
    more = {key: value for key, value in record_of(table).items() if key != "stage"}
    write_table(out, table, provenance("hull", parameters, [*relaxed, *references, *([learned] if learned else [])], **more))
    statuses = table.column("status").to_pylist()
    summary = summarize(statuses, out, **_figures(table))
    words = _words(summary, statuses)
    if "against_dft" in more:
        summary["against_dft"] = more["against_dft"]
        words += f"\n{more['against_dft']['statement']}"
    say(summary, words, as_json)


def _check_options(against_dft: bool, assume_same_potential: bool) -> None:
    from crystalformer_rl.errors import InputError

    if against_dft and assume_same_potential:
        raise InputError("--against-dft and --assume-same-potential contradict each other; give one of them.")


def _figures(table: Any) -> dict[str, Any]:
    import numpy as np

    from crystalformer_rl.hull.stability import FAR_BELOW, STABLE_BELOW, is_stable

    distances = np.array([x for x in table.column("e_above_hull").to_pylist() if x is not None])
    return {
        "stable_below": STABLE_BELOW,
        "stable": int(np.sum(is_stable(distances, STABLE_BELOW))),
        "median_e_above_hull": float(np.median(distances)) if len(distances) else None,
        "far_below_hull": int(np.sum(distances < -FAR_BELOW)),
        "far_below": FAR_BELOW,
    }


def _words(summary: dict[str, Any], statuses: list[str]) -> str:
    median = summary["median_e_above_hull"]
    return (
        f"{summary['n']} crystals ({count_words(statuses)}): {summary['stable']} stable, at most "
        f"{summary['stable_below']:g} eV/atom above the hull, "
        + (f"median {median:.3f} eV/atom, " if median is not None else "")
        + f"{summary['far_below_hull']} more than {summary['far_below']:g} eV/atom below it, where the hull may be incomplete "
        f"→ {summary['out']}"
    )
