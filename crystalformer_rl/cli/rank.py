"""`crystalformer-rl rank`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from crystalformer_rl.cli.console import labelled, progress, say
from crystalformer_rl.cli.options import json_option, out_folder_option
from crystalformer_rl.discovery.discovery_settings import RankSettings

CIF_FILES = 20


@click.command()
@click.argument("evaluations", nargs=-1, required=True, type=click.Path(), metavar="DIR...")
@out_folder_option
@click.option("--by", default=RankSettings().by, show_default=True, help=RankSettings.model_fields["by"].description)
@click.option("--where", multiple=True, help="Condition on a column, such as 'band_gap between 1.2 and 1.6'; repeatable.")
@click.option("--exclude", multiple=True, default=tuple(RankSettings().exclude), show_default=True,
              help="Elements whose compounds stand last: symbols, noble_gases, no_stable_isotope, or nothing; repeatable, and in place of the default.")  # fmt: skip
@click.option("--also", multiple=True, type=click.Path(), metavar="DIR",
              help="Evaluated crystals that are candidates but no policy's sample; repeatable.")  # fmt: skip
@click.option("--judged", type=click.Path(), help="Table of `judge` on some of these crystals.")
@click.option("--config", type=click.Path(), help="Configuration of a run, whose reward --by reward counts.")
@json_option
def command(
    evaluations: tuple[str, ...],
    out: str,
    by: str,
    where: tuple[str, ...],
    exclude: tuple[str, ...],
    also: tuple[str, ...],
    judged: str | None,
    config: str | None,
    as_json: bool,
) -> None:
    """Rank the crystals of several policies and set their metrics side by side.

    DIR...: folders that `evaluate` wrote, one a policy, the base policy first.

    Writes to the folder --out: candidates.parquet, each structure once, best first, with the policies
    that found it, its figures (energies in eV/atom, gaps in eV), whether it is new, known by its formula, retrieved or
    rediscovered, and its CIF; crystals that --where or --exclude leave out come last and say why;
    metrics.parquet, a row a policy; and the best 20 as CIF files in candidates_cif/.

    \b
    Examples:
      crystalformer-rl rank results/evaluation/base results/evaluation/tuned --out results
      crystalformer-rl rank results/evaluation/base --by reward --config config.yaml --out ranked
    """
    from crystalformer_rl.config.loading import load_config
    from crystalformer_rl.config.run import RunSettings
    from crystalformer_rl.discovery.ranking import REWARD, Ranking
    from crystalformer_rl.rewards.algebra import Reward
    from crystalformer_rl.stages.rank import rank
    from crystalformer_rl.tables.discovery_columns import EVALUATED, JUDGED_CRYSTALS, METRICS
    from crystalformer_rl.tables.parquet import read_table, write_table
    from crystalformer_rl.tables.provenance import provenance, record_of

    ranking = Ranking.of(by, where, [name for name in exclude if name != "nothing"])

    def read(folder: str, name: str, columns: Any) -> Any:
        return read_table(Path(folder) / f"{name}.parquet", columns).select([column.name for column in columns])

    run = load_config(config) if config else RunSettings()
    found = [(read(place, "crystals", EVALUATED), read(place, "metrics", METRICS)) for place in evaluations]
    tables = dict(zip(labelled(evaluations), found, strict=True))
    more = [read(place, "crystals", EVALUATED) for place in also]
    opinions = read_table(judged, JUDGED_CRYSTALS) if judged else None
    by_reward = ranking.by.removeprefix("-") == REWARD
    reward = Reward.of(run.reward) if by_reward and config else None
    with progress(sum(crystals.num_rows for crystals in [*(c for c, _ in tables.values()), *more]), "rank") as bar:
        ranked, metrics = rank(tables, ranking, also=more, judged=opinions, reward=reward, advance=bar.update)
    folder = Path(out)
    crystals_files = [Path(place) / "crystals.parquet" for place in (*evaluations, *also)]
    metrics_files = [Path(place) / "metrics.parquet" for place in evaluations]
    parameters: dict[str, Any] = {"by": by, "where": list(where), "exclude": list(exclude), "rule": ranking.rule}
    if reward is not None:
        parameters["reward"] = run.reward.model_dump(mode="json")
    potential = record_of(ranked).get("potential")
    made_by = provenance("rank", parameters, [*crystals_files, *([judged] if judged else [])], potential=potential)
    write_table(folder / "candidates.parquet", ranked, made_by)
    write_table(folder / "metrics.parquet", metrics, provenance("rank", {}, metrics_files))
    _write_cifs(folder / "candidates_cif", ranked)
    rows = ranked.select(["verdict", "stable", "left_out"]).to_pylist()
    stable = [row["verdict"] for row in rows if row["stable"] and row["left_out"] is None]
    summary = {
        "n": ranked.num_rows,
        "stable": sum(bool(row["stable"]) for row in rows),
        "stable_left_in": len(stable),
        "stable_new": stable.count("new"),
        "stable_known_formula": stable.count("known_formula"),
        "stable_rediscovered": stable.count("rediscovered"),
        "stable_retrieved": stable.count("retrieved"),
        "out": str(folder / "candidates.parquet"),
    }
    say(summary, _words(summary), as_json)


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
        f"{summary['n']} distinct crystals, {summary['stable']} of them stable; of the {summary['stable_left_in']} that the ranking leaves in "
        f"{summary['stable_new']} are new, "
        f"{summary['stable_known_formula']} of a known formula, "
        f"{summary['stable_rediscovered']} rediscovered, {summary['stable_retrieved']} retrieved → {summary['out']}"
    )
