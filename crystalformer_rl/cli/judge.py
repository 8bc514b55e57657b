"""`crystalformer-rl judge`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from crystalformer_rl.cli.console import count_words, progress, say, status_counts
from crystalformer_rl.cli.options import json_option, out_option

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

    from crystalformer_rl.crystal.structure import Crystal
    from crystalformer_rl.potential.protocol import Potential

BATCH = 64
"""Crystals at a time; of progress alone, since a potential makes its own batches."""


@click.command("judge")
@click.argument("samples", nargs=-1, required=True, type=click.Path())
@click.option("--relaxed", multiple=True, required=True, type=click.Path(), help="Table of `relax` on them; repeatable.")
@click.option("--potential", "potential_name", default="chgnet-r2scan", show_default=True,
              help="chgnet, chgnet-r2scan, mace:FILE or ase:package.module:Class.")  # fmt: skip
@click.option("--reference", required=True, type=click.Path(), help="Reference with energies of the same potential.")
@out_option
@json_option
def command(
    samples: tuple[str, ...], relaxed: tuple[str, ...], potential_name: str, reference: str, out: str, as_json: bool
) -> None:
    """Energies above the hull in a potential that no reward has seen, of crystals that another one made and relaxed.

    A policy that is rewarded by a potential learns the potential's mistakes too. What it gained on crystals is what a
    second potential sees as well. Nothing is relaxed here: single points on the crystals as sampled (SAMPLES) and on
    their relaxed geometries (--relaxed), against the hull of a REFERENCE in this very potential.

    Out goes a table as `hull` writes it, a row a crystal of SAMPLES: e_above_hull_initial as sampled, e_above_hull at
    the relaxed geometry (eV/atom), decomposition, suspect, status. Rows that failed before keep their status.

    \b
    Example:
      crystalformer-rl judge samples.parquet --relaxed relaxed.parquet --potential chgnet-r2scan \\
          --reference resources/embedded/judge.parquet --out judged.parquet
    """
    from crystalformer_rl.hull import Hull, check_same_potential, hull_table
    from crystalformer_rl.potential import load
    from crystalformer_rl.tables.parquet import write_table
    from crystalformer_rl.tables.provenance import provenance

    sampled, geometries = _read(samples, relaxed)
    potential = load(potential_name)
    hull = Hull.from_reference(reference)
    check_same_potential(f"the potential '{potential_name}'", potential.identity, reference, hull.identity)
    if _has_crystals(reference):
        from crystalformer_rl.stages.reference import self_test

        self_test(reference, potential)
    with progress(2 * sampled.num_rows, "judge") as bar:
        table = _with_energies(sampled, geometries, potential, bar.update)
    judged = hull_table(hull, table)
    inputs = [*samples, *relaxed, reference]
    parameters = {"potential": potential_name}
    write_table(out, judged, provenance("judge", parameters, inputs, potential=potential.identity))
    statuses = judged.column("status").to_pylist()
    summary = {"n": len(statuses), "statuses": status_counts(statuses), "potential": potential.identity, "out": out}
    say(
        summary,
        f"{out}: {len(statuses)} crystals ({count_words(statuses)}) judged by {potential.identity['name']}.",
        as_json,
    )


def _read(samples: tuple[str, ...], relaxed: tuple[str, ...]) -> tuple[pa.Table, pa.Table]:
    """The crystals as sampled and as relaxed, row for row."""
    import pyarrow as pa

    from crystalformer_rl.discovery.evaluation import rows_in_order, unique_ids
    from crystalformer_rl.tables.crystal_columns import CRYSTALS, STATUS
    from crystalformer_rl.tables.parquet import read_table

    columns = (*CRYSTALS, STATUS)
    first, second = (
        pa.concat_tables(
            [read_table(p, columns).select([c.name for c in columns]).replace_schema_metadata(None) for p in paths]
        )
        for paths in (samples, relaxed)
    )
    ids = unique_ids(first, "the samples")
    rows_in_order(second, ids, "relaxed")
    places = {name: k for k, name in enumerate(second.column("id").to_pylist())}
    return first, second.take([places[name] for name in ids])


def _has_crystals(reference: str) -> bool:
    import pyarrow.parquet as pq

    if "lattice" not in pq.read_schema(reference).names:
        return False
    lattices = pq.read_table(reference, columns=["lattice"]).column("lattice")
    return bool(lattices.null_count < len(lattices))


def _with_energies(sampled: pa.Table, relaxed: pa.Table, potential: Potential, advance: Any) -> pa.Table:
    """What the hull needs: the judge's energies of both geometries, and each row's status."""
    import pyarrow as pa

    from crystalformer_rl.crystal.structure import crystals_from_table
    from crystalformer_rl.tables.status import OK

    found: list[list[Any]] = []
    statuses = sampled.column("status").to_pylist()
    for table in (sampled, relaxed):
        crystals, readable = crystals_from_table(table)
        own = [s if s != OK else r for s, r in zip(table.column("status").to_pylist(), readable, strict=True)]
        statuses = [s if s != OK else o for s, o in zip(statuses, own, strict=True)]
        found.append(_energies(crystals, own, potential, advance))
    initial, final = ([e if isinstance(e, float) else None for e in energies] for energies in found)
    # Why the judge itself gave no energy counts last, and only at the relaxed geometry.
    statuses = [s if s != OK or isinstance(e, float) else e for s, e in zip(statuses, found[1], strict=True)]
    columns = {"energy": pa.array(final, pa.float64()), "energy_initial": pa.array(initial, pa.float64())}
    names = ["id", "atomic_numbers"]
    return pa.table({name: sampled.column(name) for name in names} | columns | {"status": pa.array(statuses)})


def _energies(
    crystals: Sequence[Crystal | None], statuses: Sequence[str], potential: Potential, advance: Any
) -> list[float | str]:
    """eV/atom of each crystal; of one without an energy the status that says why."""
    from crystalformer_rl.potential.protocol import Evaluation
    from crystalformer_rl.tables.status import OK

    energies: list[float | str] = list(statuses)
    sound = [(k, crystal) for k, crystal in enumerate(crystals) if crystal is not None and statuses[k] == OK]
    advance(len(crystals) - len(sound))
    for start in range(0, len(sound), BATCH):
        part = sound[start : start + BATCH]
        for (k, _), outcome in zip(part, potential.evaluate([c for _, c in part], forces=False), strict=True):
            energies[k] = float(outcome.energy) if isinstance(outcome, Evaluation) else outcome
        advance(len(part))
    return energies
