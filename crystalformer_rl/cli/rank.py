"""`crystalformer-rl rank`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from crystalformer_rl.cli.console import progress, say
from crystalformer_rl.cli.options import json_option

CIF_FILES = 20


@click.command()
@click.argument("evaluations", nargs=-1, required=True, type=click.Path(), metavar="DIR...")
@click.option("--out", required=True, type=click.Path(), help="Folder to write to.")
@click.option(
    "--by",
    type=click.Choice(["e_above_hull", "fom", "fom_total"]),
    default="e_above_hull",
    show_default=True,
    help="e_above_hull: rising energy above hull. fom: stable crystals by falling figure of merit, then the others. "
    "fom_total: the same with the total dielectric constant. Suspect crystals stand last in all.",
)
@json_option
def command(evaluations: tuple[str, ...], out: str, by: str, as_json: bool) -> None:
    """Rank the crystals of several policies and set their metrics side by side.

    DIR...: folders that `evaluate` wrote, one a policy, the base policy first.

    Writes to the folder --out: candidates.parquet, each structure once, best first, with the policies
    that found it, its figures (energies in eV/atom, gaps in eV), whether it is new, retrieved or
    rediscovered, and its CIF; metrics.parquet, a row a policy; and the best 20 as CIF files in
    candidates_cif/.

    \b
    Example:
      crystalformer-rl rank results/evaluation/base results/evaluation/tuned --out results
    """
    import pyarrow as pa

    from crystalformer_rl.discovery.candidates import RULES, candidates
    from crystalformer_rl.tables.discovery_columns import EVALUATED, METRICS
    from crystalformer_rl.tables.parquet import read_table, write_table
    from crystalformer_rl.tables.provenance import provenance

    crystals_files = [Path(folder) / "crystals.parquet" for folder in evaluations]
    metrics_files = [Path(folder) / "metrics.parquet" for folder in evaluations]
    tables = [read_table(path, EVALUATED).select([c.name for c in EVALUATED]) for path in crystals_files]
    metrics = [read_table(path, METRICS).select([c.name for c in METRICS]) for path in metrics_files]
    _refuse_equal_names(evaluations, metrics)
    with progress(sum(table.num_rows for table in tables), "rank") as bar:
        ranked = candidates(tables, by, bar.update)
    folder = Path(out)
    made_by = provenance("rank", {"by": by, "rule": RULES[by]}, crystals_files)
    write_table(folder / "candidates.parquet", ranked, made_by)
    write_table(folder / "metrics.parquet", pa.concat_tables(metrics), provenance("rank", {}, metrics_files))
    _write_cifs(folder / "candidates_cif", ranked)
    rows = ranked.select(["verdict", "stable"]).to_pylist()
    stable = [row["verdict"] for row in rows if row["stable"]]
    summary = {
        "candidates": ranked.num_rows,
        "stable": len(stable),
        "stable_new": stable.count("new"),
        "stable_rediscovered": stable.count("rediscovered"),
        "stable_retrieved": stable.count("retrieved"),
        "out": str(folder / "candidates.parquet"),
    }
    say(summary, _words(summary), as_json)


def _refuse_equal_names(folders: tuple[str, ...], metrics: list[Any]) -> None:
    from crystalformer_rl.errors import InputError

    seen: dict[str, str] = {}
    for folder, table in zip(folders, metrics, strict=True):
        name = table.column("policy").to_pylist()[0]
        if name in seen:
            raise InputError(
                f"{seen[name]} and {folder} both name the policy '{name}'; evaluate one again with another --name."
            )
        seen[name] = folder


def _write_cifs(folder: Path, ranked: Any) -> None:
    """The best candidates as CIF files; files of an earlier ranking go."""
    from crystalformer_rl.tables.parquet import atomic_path

    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.cif"):
        old.unlink()
    for row in ranked.slice(0, CIF_FILES).select(["rank", "formula", "space_group", "cif"]).to_pylist():
        with atomic_path(folder / f"{row['rank']:02d}_{row['formula']}_{row['space_group']}.cif") as path:
            path.write_text(row["cif"], encoding="utf-8")


def _words(summary: dict[str, Any]) -> str:
    return (
        f"{summary['candidates']} distinct crystals, {summary['stable']} of them stable: {summary['stable_new']} new, "
        f"{summary['stable_rediscovered']} rediscovered, {summary['stable_retrieved']} retrieved → {summary['out']}"
    )
