"""`crystalformer-rl recover`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from crystalformer_rl.cli.console import count_words, progress, say, summarize
from crystalformer_rl.cli.options import device_option, json_option, out_option, potential_option, setting_option
from crystalformer_rl.recovery.recover_settings import RecoverSettings

_FIELDS = (
    "candidates",
    "relaxed",
    "max_atoms",
    "max_evaluations",
    "accepted_from",
    "learned_from",
    "max_e_above_hull",
    "limit",
)


def _settings(command: Callable[..., None]) -> Callable[..., None]:
    for name in reversed(_FIELDS):
        command = setting_option(RecoverSettings, name)(command)
    return command


@click.command()
@click.argument("compositions", type=click.Path())
@click.option("--prototypes", "reference", required=True, type=click.Path(),
              help="REFERENCE whose pretraining entries are the prototypes, and whose DFT energies are met.")  # fmt: skip
@potential_option()
@click.option("--second", default=RecoverSettings().second, show_default=True,
              help="A second potential, whose energies decide too; `none` for none: far fewer are accepted then.")  # fmt: skip
@out_option
@_settings
@click.option(
    "--work", type=click.Path(), help="Folder for finished parts: a killed run goes on from there.  [default: OUT.parts]"
)
@click.option("--processes", default=1, show_default=True, type=click.IntRange(1), help="Processes, one thread each.")
@device_option
@json_option
def command(
    compositions: str,
    reference: str,
    potential_name: str,
    second: str,
    out: str,
    work: str | None,
    processes: int,
    device: str,
    as_json: bool,
    **chosen: Any,
) -> None:
    """Find structures for compositions whose energy is known.

    COMPOSITIONS is a Parquet with `formula`, and where they are known `dft_formation_energy` (eV/atom, on the reference's
    scale; else the reference's own), `n_entries` and `reserved`. Each composition takes the prototypes that have its stoichiometry,
    with their elements exchanged for its own; the potential's energy picks the lowest, which are relaxed; the structure is accepted
    where it is probably right: its energy meets the known one in both potentials, and its elements are known in such places. `weight` says how
    much it counts in pretraining.

    Every composition has a row: accepted (status ok) with crystal, tokens and p_right, or the reason why not. Held-out
    and reserved formulas are never attempted.

    \b
    Example:
      crystalformer-rl recover mp_compositions.parquet --prototypes resources/embedded/reference.parquet \\
          --processes 2 --out recovered.parquet
    """
    from crystalformer_rl.stages.recover import Plan, recover
    from crystalformer_rl.tables.parquet import read_table, write_table
    from crystalformer_rl.tables.provenance import provenance, read_provenance

    settings = RecoverSettings(compositions=compositions, second=None if second == "none" else second, **chosen)
    table = read_table(compositions)
    folder = Path(work or f"{out}.parts")
    folder.mkdir(parents=True, exist_ok=True)
    plan = Plan(reference, potential_name, device, settings)
    with progress(min(settings.limit, table.num_rows), "recover", "composition") as bar:
        found = recover(table, plan, folder, processes=processes, source=compositions, advance=bar.update)
    parameters = {**settings.model_dump(exclude={"compositions"}), "potential": potential_name}
    identity = read_provenance(reference).get("potential")
    write_table(out, found, provenance("recover", parameters, [compositions, reference], potential=identity))
    statuses = found.column("status").to_pylist()
    evaluations = sum(value or 0 for value in found.column("evaluations").to_pylist())
    weights = [weight for weight in found.column("weight").to_pylist() if weight]
    summary = summarize(statuses, out, evaluations=evaluations, learned=len(weights), weight=round(sum(weights), 1))
    words = (
        f"{out}: {len(statuses)} compositions ({count_words(statuses)}), {evaluations} evaluations of {potential_name}; "
        f"{len(weights)} structures count in pretraining, as much as {sum(weights):.0f} crystals."
    )
    say(summary, words, as_json)
