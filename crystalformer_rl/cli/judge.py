"""`crystalformer-rl judge`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from crystalformer_rl.cli.console import progress, say, summarize
from crystalformer_rl.cli.options import (
    device_option,
    given_stability,
    json_option,
    out_option,
    potential_corrections_option,
    potential_option,
    references_option,
    said_corrections,
    setting_option,
    stability_option,
)
from crystalformer_rl.discovery.discovery_settings import EvaluateSettings
from crystalformer_rl.potential.relax_settings import RelaxSettings

if TYPE_CHECKING:
    import pyarrow as pa


@click.command("judge")
@click.argument("crystals", nargs=-1, required=True, type=click.Path())
@potential_option("sevennet-0")
@references_option
@click.option("--samples", multiple=True, type=click.Path(),
              help="The same crystals as sampled, whose single points are wanted too; repeatable.")  # fmt: skip
@click.option(
    "--best", type=click.IntRange(1), help="Of a table of `rank`, judge so many of the best and no others, new ones first."
)
@setting_option(RelaxSettings, "max_evaluations")
@setting_option(RelaxSettings, "fmax")
@setting_option(RelaxSettings, "smax")
@potential_corrections_option
@stability_option
@device_option
@setting_option(EvaluateSettings, "stable_below")
@out_option
@json_option
def command(
    crystals: tuple[str, ...],
    potential_name: str,
    references: tuple[str, ...],
    samples: tuple[str, ...],
    best: int | None,
    max_evaluations: int,
    fmax: float,
    smax: float,
    potential_corrections: str | None,
    stability: str | None,
    device: str,
    stable_below: float,
    out: str,
    as_json: bool,
) -> None:
    """A second opinion: crystals relaxed by a potential that neither made nor relaxed them, on its own hull.

    A policy that is rewarded by a potential learns the potential's mistakes too. What a second potential, of another
    architecture, sees as well is not one of them. CRYSTALS are tables that `evaluate` or `rank` wrote. Relaxation begins at the
    geometries in them. The hull is that of the REFERENCE: its DFT energies and the judge's own bias, or a reference
    in the judge's potential.

    Out goes a row a crystal: judge_e_above_hull (eV/atom), its difference from the first potential's
    (judge_disagreement), p_stable_judged and p_on_hull_judged by both, judge_status.

    \b
    Examples:
      crystalformer-rl judge results/candidates.parquet --best 50 --potential sevennet-0 \\
          --reference resources/embedded/reference.parquet --out judged.parquet
      crystalformer-rl judge evaluation/crystals.parquet --samples samples.parquet --potential chgnet-r2scan \\
          --reference resources/embedded/judge.parquet --out judged.parquet
    """
    from crystalformer_rl.potential.client import PotentialWorker
    from crystalformer_rl.stages.judge import judge
    from crystalformer_rl.tables.parquet import write_table
    from crystalformer_rl.tables.provenance import provenance, record_of

    given, sampled = _read(crystals), _sampled(samples) if samples else None
    settings, learned = RelaxSettings(max_evaluations=max_evaluations, fmax=fmax, smax=smax), given_stability(stability)
    with PotentialWorker(potential_name, device=device) as worker, progress(best or given.num_rows, "judge") as bar:
        judged = judge(
            given, worker, references, samples=sampled, best=best, settings=settings,
            corrections=said_corrections(potential_corrections), stability=learned, stable_below=stable_below,
            advance=bar.update,
        )  # fmt: skip
    inputs = [*crystals, *samples, *references, *([learned] if learned else [])]
    more = {key: value for key, value in record_of(judged).items() if key != "stage"}
    parameters = {"potential": potential_name, "best": best, "stable_below": stable_below, **settings.model_dump()}
    write_table(out, judged, provenance("judge", parameters, inputs, **more))
    statuses = judged.column("judge_status").to_pylist()
    summary = summarize(statuses, out, potential=more["potential"], **_counts(given, judged, stable_below))
    say(summary, _words(summary, worker.identity.name), as_json)


def _read(paths: tuple[str, ...]) -> pa.Table:
    import pyarrow as pa

    from crystalformer_rl.stages.judge import NEEDED
    from crystalformer_rl.tables.parquet import read_table

    tables = [read_table(path, NEEDED) for path in paths]
    whole = pa.concat_tables([table.replace_schema_metadata(None) for table in tables], promote_options="permissive")
    return whole.replace_schema_metadata(tables[0].schema.metadata)


def _sampled(paths: tuple[str, ...]) -> pa.Table:
    import pyarrow as pa

    from crystalformer_rl.tables.crystal_columns import CRYSTALS, STATUS
    from crystalformer_rl.tables.parquet import read_table

    columns = (*CRYSTALS, STATUS)
    tables = [read_table(path, columns).select([column.name for column in columns]) for path in paths]
    return pa.concat_tables([table.replace_schema_metadata(None) for table in tables])


def _counts(given: pa.Table, judged: pa.Table, stable_below: float) -> dict[str, int]:
    """Crystals stable by the first potential, and those of them that the judge confirms."""
    key = ("policy", "id")
    first = {tuple(row[k] for k in key): row["e_above_hull"] for row in given.select([*key, "e_above_hull"]).to_pylist()}
    rows = judged.select([*key, "judge_e_above_hull"]).to_pylist()
    stable = [row for row in rows if (height := first[tuple(row[k] for k in key)]) is not None and height <= stable_below]
    confirmed = [
        row for row in stable if row["judge_e_above_hull"] is not None and row["judge_e_above_hull"] <= stable_below
    ]
    return {"stable": len(stable), "confirmed": len(confirmed)}


def _words(summary: dict[str, object], judge: str) -> str:
    return (
        f"{summary['out']}: {summary['n']} crystals judged by {judge}, which confirms {summary['confirmed']} of the "
        f"{summary['stable']} stable ones."
    )
