"""What a second potential says of crystals that another one relaxed: relaxed by it too, on its own hull, and both together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa

from crystalformer_rl.discovery.verdicts import VERDICTS
from crystalformer_rl.errors import InputError
from crystalformer_rl.hull.chances import Chances
from crystalformer_rl.hull.stability import STABLE_BELOW
from crystalformer_rl.potential.client import PotentialWorker
from crystalformer_rl.potential.recompute import has_crystals
from crystalformer_rl.potential.relax_settings import RelaxSettings
from crystalformer_rl.reference.identity import Corrections, PotentialIdentity
from crystalformer_rl.reference.joining import read_references
from crystalformer_rl.scoring.groups import ANSWERS, FUNCTIONS
from crystalformer_rl.stages.hull import hull
from crystalformer_rl.stages.questions import RECOMPUTE, RELAX
from crystalformer_rl.tables.column import make_table, pick
from crystalformer_rl.tables.crystal_columns import CRYSTALS, STATUS
from crystalformer_rl.tables.discovery_columns import EVALUATED, JUDGED_CRYSTALS
from crystalformer_rl.tables.energy_columns import RELAXED
from crystalformer_rl.tables.parquet import with_types
from crystalformer_rl.tables.provenance import read_provenance, record_of, with_record
from crystalformer_rl.tables.status import OK

NEEDED = pick(EVALUATED, "id", "policy", "formula", "atomic_numbers", "frac_coords", "lattice", "e_above_hull")
_USED = pick(
    EVALUATED,
    *(
        "e_above_hull_std",
        "formation_energy",
        "hull_support",
        "energy_from",
        "energy_error",
        "energy_error_applicability",
        "status",
    ),
)

STARTS = ("stages.answers", "scoring.figure_answers", "potential.worker")
"""Modules below the package that answer in the worker; nothing here imports them."""

Advance = Callable[[int], object] | None
References = str | Path | Sequence[str | Path]


def judge(
    crystals: pa.Table,
    worker: PotentialWorker,
    reference: References,
    *,
    samples: pa.Table | None = None,
    best: int | None = None,
    settings: RelaxSettings | None = None,
    corrections: Corrections | None = None,
    stability: str | Path | None = None,
    stable_below: float = STABLE_BELOW,
    advance: Advance = None,
) -> pa.Table:
    """The JUDGED_CRYSTALS table of evaluated or ranked crystals, in order, by the potential that `worker` holds.

    crystals: a table of `evaluate` or `rank`; with `best` so many and no others that the ranking does not leave out, new ones first, then
    known formulas, each in the order of the ranking.
    reference: files, as of `stages.hull.hull`; of another potential it must hold DFT energies on the judge's scale. samples: the
    crystals as sampled, whose single points give judge_e_above_hull_initial. settings: of the judge's relaxation, which starts
    from the crystals given. corrections: those in the judge's energies, where its identity does not say. stability: what was learned of the first potential and this judge.
    Rows that failed before keep their status. `advance` is called with 1 in all for each crystal. Raises InputError where potential and reference
    do not belong together, or the samples are of other crystals.
    """
    rows = _chosen(with_types(crystals, (*NEEDED, *_USED), "the crystals"), best)
    references = [reference] if isinstance(reference, str | Path) else list(reference)
    own = PotentialIdentity.from_record(read_provenance(references[0]).get("potential")) == worker.identity
    if own and has_crystals(references[0]):
        worker.ask(RECOMPUTE, reference=str(references[0]))
    options = (settings or RelaxSettings()).model_dump()
    given = {column.name: rows.column(column.name).to_pylist() for column in (*CRYSTALS, STATUS)}
    # crystals of several policies may share their ids
    given["id"] = [str(k) for k in range(rows.num_rows)]
    relaxed = worker.map(RELAX, make_table((*CRYSTALS, STATUS), given), RELAXED, advance=advance, settings=options)
    relaxed = _with_initial(relaxed, worker, samples, rows.column("id").to_pylist())
    placed = hull(relaxed, references, potential_corrections=corrections, stable_below=stable_below)
    first = PotentialIdentity.from_record(record_of(crystals).get("potential"))
    chances = Chances.of(read_references(references), first, stability, stable_below)
    tokens = {name: relaxed.column(name) for name in ("space_group", "wyckoff")}
    known = pa.table(
        {name: rows.column(name) for name in ("atomic_numbers", "energy_error", "energy_error_applicability")} | tokens
    )
    columns = {
        "id": rows.column("id").to_pylist(),
        "policy": rows.column("policy").to_pylist(),
        "formula": rows.column("formula").to_pylist(),
        "judge": [worker.identity.name] * rows.num_rows,
        "judge_formation_energy": placed.column("formation_energy").to_pylist(),
        "judge_e_above_hull": placed.column("e_above_hull").to_pylist(),
        "judge_e_above_hull_std": placed.column("e_above_hull_std").to_pylist(),
        "judge_e_above_hull_initial": placed.column("e_above_hull_initial").to_pylist()
        if samples is not None
        else [None] * rows.num_rows,
        "judge_evaluations": relaxed.column("evaluations").to_pylist(),
        "judge_converged": relaxed.column("converged").to_pylist(),
        **chances.judged(rows, known, placed, worker.identity),
        "judge_status": placed.column("status").to_pylist(),
    }
    record = {
        "stage": "judge",
        "potential": worker.identity.as_record(),
        "judged": None if first is None else first.as_record(),
    }
    return with_record(make_table(JUDGED_CRYSTALS, columns), record)


def _chosen(table: pa.Table, best: int | None) -> pa.Table:
    """The rows to be judged, with every column that is used; ranked ones all passed their stages."""
    if best is not None:
        if "left_out" not in table.column_names:
            raise InputError("only a table of `rank` says which crystals are the best; give one, or judge all.")
        left_in = [k for k, why in enumerate(table.column("left_out").to_pylist()) if why is None]
        # what nobody knows needs a second opinion most
        verdicts = table.column("verdict").to_pylist()
        left_in.sort(key=lambda k: VERDICTS.index(verdicts[k]))
        table = table.take(pa.array(left_in[:best], pa.int64()))
    columns = {column.name: table.column(column.name) for column in NEEDED}
    for column in _USED:
        known = column.name in table.column_names
        columns[column.name] = table.column(column.name) if known else pa.nulls(table.num_rows, column.type)
    if "status" not in table.column_names:
        columns["status"] = pa.array([OK] * table.num_rows, pa.string())
    return pa.table(columns)


def _with_initial(relaxed: pa.Table, worker: PotentialWorker, samples: pa.Table | None, names: Sequence[str]) -> pa.Table:
    """The relaxed table with the judge's energies of the crystals as sampled, instead of those at which its relaxation began."""
    place = relaxed.column_names.index("energy_initial")
    field = relaxed.schema.field(place)
    if samples is None:
        return relaxed.set_column(place, field, pa.nulls(relaxed.num_rows, field.type))
    found = worker.map(FUNCTIONS["energy"], samples, ANSWERS["energy"])
    energies = dict(zip(found.column("id").to_pylist(), found.column("energy").to_pylist(), strict=True))
    if missing := [name for name in names if name not in energies]:
        raise InputError(f"the samples lack the crystal '{missing[0]}'; give those that were evaluated.")
    return relaxed.set_column(place, field, pa.array([energies[name] for name in names], field.type))
