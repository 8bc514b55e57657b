"""Energies above the hull in a potential that no reward has seen, of crystals that another one made and relaxed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from crystalformer_rl.crystal.structure import Crystal, crystals_from_table
from crystalformer_rl.hull.convex_hull import Hull
from crystalformer_rl.hull.hull_table import hull_table
from crystalformer_rl.potential.protocol import Evaluation, Potential
from crystalformer_rl.potential.recompute import has_crystals, self_test
from crystalformer_rl.reference.compatibility import check_same_potential
from crystalformer_rl.tables.provenance import with_record
from crystalformer_rl.tables.rows import rows_in_order, unique_ids
from crystalformer_rl.tables.status import OK

BATCH = 64
"""Crystals at a time; of progress alone, since a potential makes its own batches."""

Advance = Callable[[int], object] | None


def judge(
    samples: pa.Table, relaxed: pa.Table, potential: Potential, reference: str | Path, *, advance: Advance = None
) -> pa.Table:
    """The HULL table of `samples`, a row a crystal, by single points of `potential`; nothing is relaxed here.

    samples: crystals as sampled, whose distances stand in e_above_hull_initial; relaxed: the same crystals at rest, in any
    order, for e_above_hull; both crystals tables with status. reference: a file of energies in this very potential, some of
    which are computed again where it holds crystals. Rows that failed before keep their status. `advance` is called with
    2 in all for each crystal. Raises InputError where potential and reference do not belong together, or the tables
    hold different crystals.
    """
    geometries = _in_order(samples, relaxed)
    hull = Hull.from_reference(reference)
    check_same_potential(f"the potential {potential.identity.name}", potential.identity, str(reference), hull.identity)
    if has_crystals(reference):
        self_test(reference, potential)
    judged = hull_table(hull, _with_energies(samples, geometries, potential, advance))
    return with_record(judged, {"stage": "judge", "potential": potential.identity.as_record()})


def _in_order(samples: pa.Table, relaxed: pa.Table) -> pa.Table:
    """The relaxed rows in the order of the samples."""
    ids = unique_ids(samples, "the samples")
    rows_in_order(relaxed, ids, "relaxed")
    places = {name: k for k, name in enumerate(relaxed.column("id").to_pylist())}
    return relaxed.take([places[name] for name in ids])


def _with_energies(sampled: pa.Table, relaxed: pa.Table, potential: Potential, advance: Advance) -> pa.Table:
    """What the hull needs: the judge's energies of both geometries, and each row's status."""
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
    return pa.table({name: sampled.column(name) for name in names} | columns | {"status": pa.array(statuses, pa.string())})


def _energies(
    crystals: Sequence[Crystal | None], statuses: Sequence[str], potential: Potential, advance: Advance
) -> list[float | str]:
    """eV/atom of each crystal; of one without an energy the status that says why."""
    energies: list[float | str] = list(statuses)
    sound = [(k, crystal) for k, crystal in enumerate(crystals) if crystal is not None and statuses[k] == OK]
    if advance is not None:
        advance(len(crystals) - len(sound))
    for start in range(0, len(sound), BATCH):
        part = sound[start : start + BATCH]
        for (k, _), outcome in zip(part, potential.evaluate([c for _, c in part], forces=False), strict=True):
            energies[k] = float(outcome.energy) if isinstance(outcome, Evaluation) else outcome
        if advance is not None:
            advance(len(part))
    return energies
