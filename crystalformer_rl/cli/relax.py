"""`crystalformer-rl relax`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from crystalformer_rl.cli.console import count_words, progress, say, summarize
from crystalformer_rl.cli.crystals_argument import read_told
from crystalformer_rl.cli.options import (
    device_option,
    given_stability,
    json_option,
    out_option,
    potential_option,
    setting_option,
    stability_option,
)
from crystalformer_rl.crystal.encode import SYMPREC
from crystalformer_rl.potential.relax_settings import BATCH_SIZE, BATCH_SIZE_GPU, RelaxSettings

if TYPE_CHECKING:
    import pyarrow as pa


@click.command()
@click.argument("crystals", nargs=-1, required=True, type=click.Path())
@potential_option()
@out_option
@setting_option(RelaxSettings, "max_evaluations")
@setting_option(RelaxSettings, "fmax")
@setting_option(RelaxSettings, "smax")
@setting_option(RelaxSettings, "free")
@click.option("--symprec", default=SYMPREC, show_default=True, type=click.FloatRange(0, min_open=True),
              help="Å; tolerance of the symmetry search, for crystals that come without tokens.")  # fmt: skip
@click.option("--batch-size", type=click.IntRange(1), help="Crystals relaxed at a time.  [default: 16, on a GPU 1024]")
@stability_option
@device_option
@json_option
def command(
    crystals: tuple[str, ...],
    potential_name: str,
    out: str,
    max_evaluations: int,
    fmax: float,
    smax: float,
    free: bool,
    symprec: float,
    batch_size: int | None,
    stability: str | None,
    device: str,
    as_json: bool,
) -> None:
    """Relax cell and positions, keeping the space group.

    CRYSTALS are tables of crystals, files, folders or archives of them (docs/inputs.md). What moves is what the
    symmetry leaves free: the sites' free coordinates and the lattice's free parameters. A table of
    samples brings its symmetry along; for other crystals it is searched, and where none is
    found the crystal relaxes without (space group 1).

    Out goes a table with the primitive cell of each relaxed crystal and its tokens, the energy (eV/atom)
    before and after, what DFT is expected to add to it where that was learned of the potential, and the force (eV/Å) and
    stress (GPa) that remain. Every row stays; what cannot be relaxed has a status.

    \b
    Example:
      crystalformer-rl relax samples.parquet --potential chgnet --out relaxed.parquet
    """
    from crystalformer_rl.potential import load
    from crystalformer_rl.stages.relax import relax
    from crystalformer_rl.tables.parquet import write_table
    from crystalformer_rl.tables.provenance import provenance

    table, batch_size = read_told(crystals), batch_size or (BATCH_SIZE if device == "cpu" else BATCH_SIZE_GPU)
    potential = load(potential_name, device=device)
    settings = RelaxSettings(fmax=fmax, smax=smax, max_evaluations=max_evaluations, free=free)
    source, learned = ", ".join(crystals), given_stability(stability)
    with progress((1 + free) * table.num_rows, "relax") as bar:
        relaxed = relax(
            table,
            potential,
            settings,
            symprec=symprec,
            batch_size=batch_size,
            stability=learned,
            source=source,
            advance=bar.update,
        )
    parameters = {"potential": potential_name, **settings.model_dump(), "symprec": symprec, "batch_size": batch_size}
    identity = potential.identity
    write_table(
        out,
        relaxed,
        provenance("relax", parameters, [*crystals, *([learned] if learned else [])], potential=identity.as_record()),
    )
    _report(out, relaxed, identity.name, as_json)


def _report(out: str, relaxed: pa.Table, potential: str, as_json: bool) -> None:
    statuses = relaxed.column("status").to_pylist()
    converged = sum(1 for value in relaxed.column("converged").to_pylist() if value)
    evaluations = sum(value or 0 for value in relaxed.column("evaluations").to_pylist())
    changed = _changed(relaxed)
    summary = summarize(statuses, out, converged=converged, evaluations=evaluations)
    words = (
        f"{out}: {len(statuses)} crystals ({count_words(statuses)}), {converged} converged, "
        f"{evaluations} evaluations of {potential}"
    )
    if changed is not None:
        summary["changed_when_free"] = changed
        words += (
            f"; without symmetry {changed['crystals']} ended lower, {changed['other_space_group']} in another space group"
        )
    say(summary, words + ".", as_json)


def _changed(relaxed: pa.Table) -> dict[str, int] | None:
    """How many crystals a free relaxation changed; None where there was none."""
    rows = relaxed.select(["energy", "energy_kept", "space_group", "space_group_kept"]).to_pylist()
    rows = [row for row in rows if row["energy_kept"] is not None]
    if not rows:
        return None
    return {
        "crystals": sum(row["energy"] < row["energy_kept"] for row in rows),
        "other_space_group": sum(row["space_group"] != row["space_group_kept"] for row in rows),
    }
