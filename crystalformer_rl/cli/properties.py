"""`crystalformer-rl properties`."""

from __future__ import annotations

from typing import Any

import click

from crystalformer_rl.cli.console import count_words, progress, say, summarize
from crystalformer_rl.cli.crystals_argument import read_told
from crystalformer_rl.cli.options import device_option, json_option, models_option, out_option


@click.command()
@click.argument("crystals", nargs=-1, required=True, type=click.Path())
@models_option
@device_option
@out_option
@json_option
def command(crystals: tuple[str, ...], models: str | None, device: str, out: str, as_json: bool) -> None:
    """Predict band gap, dielectric constants and their product, each with a standard deviation.

    CRYSTALS: tables of `relax`, or any Parquet with the columns id, atomic_numbers, frac_coords, lattice
    (Å), CIF files, folders of them, or what ASE reads. Several make one table, in the order given.

    The result has a row for each crystal: band_gap (eV, as PBE would give; 0 for a metal),
    eps_electronic and eps_total (trace/3), the figures of merit fom = eps_electronic · band_gap and
    fom_total = eps_total · band_gap (eV), each with _std such that mean ± 1.645 std holds the truth nine
    times in ten; insulator_probability at equal prior odds; applicability, the distance to the dielectric
    training data, about 1 at its edge: larger is extrapolation; soft_mode, the family of a crystal whose
    eps_total is known to come out too small; eps_electronic_1, _2 and _3, the tensor's principal values;
    in_training, whether the models learned from a crystal of the same formula. A metal has no dielectric
    constants and figures of merit of 0. Rows that came with another status than ok keep it.

    The models want relaxed crystals: they learned from those; the card says how wrong they are on others.

    \b
    Example:
      crystalformer-rl properties relaxed.parquet --out properties.parquet
    """
    from crystalformer_rl.resources.registry import embedded_folder
    from crystalformer_rl.stages.properties import properties
    from crystalformer_rl.tables.parquet import write_table
    from crystalformer_rl.tables.provenance import provenance, record_of

    models_path = models or str(embedded_folder() / "properties.safetensors")
    crystals_table = read_told(crystals)
    with progress(crystals_table.num_rows, "properties") as bar:
        table = properties(crystals_table, models_path, device=device, advance=bar.update)
    embedding = record_of(table)["embedding"]
    write_table(out, table, provenance("properties", {}, [*crystals, models_path], embedding=embedding))
    statuses = table.column("status").to_pylist()
    summary = summarize(statuses, out, **_figures(table))
    say(summary, _words(summary, statuses), as_json)


def _figures(table: Any) -> dict[str, Any]:
    rows = [row for row in table.to_pylist() if row["status"] == "ok"]
    best = max(rows, key=lambda row: (row["fom"], row["id"]), default=None)
    return {
        "insulators": sum(row["insulator_probability"] >= 0.5 for row in rows),
        "extrapolated": sum(row["applicability"] > 1.5 for row in rows),
        "best_fom": None if best is None else {name: best[name] for name in ("id", "fom", "fom_std")},
    }


def _words(summary: dict[str, Any], statuses: list[str]) -> str:
    best = summary["best_fom"]
    return (
        f"{summary['n']} crystals ({count_words(statuses)}): {summary['insulators']} insulators, "
        f"{summary['extrapolated']} far from the training data"
        + (f", best figure of merit {best['fom']:.1f} ± {best['fom_std']:.1f} eV ({best['id']})" if best else "")
        + f" → {summary['out']}"
    )
