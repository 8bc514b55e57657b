"""All that the stages say of anybody's crystals: stability before and after relaxation, uniqueness, novelty, S.U.N."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from crystalformer_rl.discovery.evaluation import StageTables, evaluated, with_judged
from crystalformer_rl.discovery.metrics import metrics
from crystalformer_rl.errors import InputError
from crystalformer_rl.hull.stability import STABLE_BELOW
from crystalformer_rl.potential.client import PotentialWorker
from crystalformer_rl.potential.relax_settings import RelaxSettings
from crystalformer_rl.reference.compatibility import check_same_potential
from crystalformer_rl.reference.identity import Corrections, Functional, PotentialIdentity
from crystalformer_rl.reference.scale import dft_identity, must_add_mp2020
from crystalformer_rl.stages.hull import hull
from crystalformer_rl.stages.judge import judge as second_opinion
from crystalformer_rl.stages.novelty import novelty
from crystalformer_rl.stages.questions import PREDICT, RECOMPUTE, RELAX
from crystalformer_rl.tables.column import Column, pick
from crystalformer_rl.tables.discovery_columns import NOVELTY
from crystalformer_rl.tables.energy_columns import HULL, REFERENCE, RELAXED
from crystalformer_rl.tables.parquet import read_table
from crystalformer_rl.tables.property_columns import PROPERTIES
from crystalformer_rl.tables.provenance import read_provenance, record_of, sha256, with_record
from crystalformer_rl.tables.rows import rows_in_order, unique_ids

COLUMNS: dict[str, tuple[Column, ...]] = {
    "relaxed": RELAXED,
    "hull": HULL,
    "novelty": NOVELTY,
    "properties": PROPERTIES,
}
"""Columns of the stages' tables that evaluation joins, in the order in which the stages run."""

Progress = Callable[[str, int], object]
"""Called with the name of a stage and the number of crystals that it has just finished."""


@dataclass(frozen=True)
class Evaluation:
    """crystals: the EVALUATED table, a row a crystal; metrics: the METRICS table, one row; stages: the tables that it joins."""

    crystals: pa.Table
    metrics: pa.Table
    stages: dict[str, pa.Table]


def evaluate(
    crystals: pa.Table,
    reference: str | Path,
    worker: PotentialWorker | None = None,
    *,
    judge: PotentialWorker | None = None,
    phases: Sequence[str | Path] = (),
    given: Mapping[str, Mapping[str, pa.Table]] | None = None,
    models: str | Path | None = None,
    stability: str | Path | None = None,
    settings: RelaxSettings | None = None,
    corrections: Corrections | None = None,
    policy: str = "base",
    stable_below: float = STABLE_BELOW,
    progress: Progress | None = None,
) -> Evaluation:
    """Judge a crystals table with unique ids against a reference file, in the potential that `worker` holds.

    phases: further references, tables of `relax` or computed entries, whose phases join the hull; see `reference.joining`.
    given: tables of stages on these very crystals (`relaxed`, `hull`, `novelty`, `properties`), each by the name of where it
    comes from; those stages are not run again. models: file of the property models; none leaves properties out. stability: file of what was learned of a potential's errors, for the
    probabilities. worker:
    needed where something is to be relaxed or predicted; judge: holds a second potential, which relaxes the crystals too, where its opinion is wanted; before anything is relaxed, some of the reference's energies are computed
    again, where it is of this potential; of another one it must hold DFT energies on the potential's scale. corrections: those in such a potential's energies, where its
    identity does not say. stable_below:
    eV/atom. The record of the crystals names the potential of their energies. Raises InputError for tables of other crystals, or of another reference.
    """
    tables = {stage: dict(found) for stage, found in (given or {}).items() if found}
    ids = unique_ids(crystals, "the crystals")
    read_table(reference, pick(REFERENCE, "id", "role"))
    joined = {stage: _joined(stage, found) for stage, found in tables.items()}
    for stage, table in joined.items():
        rows_in_order(table.select(["id"]), ids, stage)
    _check_reference(tables, reference)
    if "hull" in joined and phases:
        raise InputError("a table of the hull is given, so further references join nothing; leave one of the two out.")

    def told(stage: str) -> Callable[[int], object] | None:
        return None if progress is None else lambda n: progress(stage, n)

    if "relaxed" not in joined:
        asked = _worker(worker, "relaxed")
        expected = PotentialIdentity.from_record(read_provenance(reference).get("potential"))
        if asked.identity == expected or "bias" not in read_provenance(reference):
            check_same_potential(f"the potential '{asked.name}'", asked.identity, str(reference), expected)
            asked.ask(RECOMPUTE, reference=str(reference))
        else:  # refused now, not when everything was relaxed
            scale = dft_identity("", Functional.PBE, Corrections.MP2020)
            must_add_mp2020(f"the potential '{asked.name}'", asked.identity, str(reference), scale, corrections)
        options, learned = (settings or RelaxSettings()).model_dump(), None if stability is None else str(stability)
        joined["relaxed"] = asked.map(RELAX, crystals, RELAXED, advance=told("relaxed"), settings=options, stability=learned)
    if "hull" not in joined:
        references = [reference, *phases]
        joined["hull"] = hull(
            joined["relaxed"],
            references,
            potential_corrections=corrections,
            stability=stability,
            stable_below=stable_below,
            advance=told("hull"),
        )
    if "novelty" not in joined:
        joined["novelty"] = novelty(joined["relaxed"], reference, advance=told("novelty"))
    if "properties" not in joined and models is not None:
        asked, relaxed = _worker(worker, "properties"), joined["relaxed"]
        joined["properties"] = asked.map(PREDICT, relaxed, PROPERTIES, advance=told("properties"), models=str(models))
    table = evaluated(crystals, StageTables(**joined), policy, stable_below)
    record = {"stage": "evaluate", "potential": record_of(joined["hull"]).get("potential")}
    if judge is not None:
        joined["judged"] = second_opinion(
            with_record(table, record), judge, [reference, *phases], samples=crystals, settings=settings,
            stability=stability, stable_below=stable_below, advance=told("judged"),
        )  # fmt: skip
        table = with_judged(table, joined["judged"])
    return Evaluation(with_record(table, record), metrics(table, stable_below), joined)


def _worker(worker: PotentialWorker | None, stage: str) -> PotentialWorker:
    if worker is None:
        raise InputError(f"the {stage} table is not given, and no potential either that could make it; give one of the two.")
    return worker


def _joined(stage: str, tables: Mapping[str, pa.Table]) -> pa.Table:
    """The tables of a stage as one, with the record of the first."""
    names = [column.name for column in COLUMNS[stage]]
    parts = [table.select(names) for table in tables.values()]
    whole = pa.concat_tables([part.replace_schema_metadata(None) for part in parts])
    return whole.replace_schema_metadata(parts[0].schema.metadata)


def _check_reference(tables: Mapping[str, Mapping[str, pa.Table]], reference: str | Path) -> None:
    """Refuse tables that were computed on another reference."""
    found = [(stage, path, table) for stage in ("hull", "novelty") for path, table in tables.get(stage, {}).items()]
    digest = sha256(reference) if found else ""
    for stage, path, table in found:
        recorded = record_of(table).get("inputs")
        if recorded and digest not in recorded.values():
            raise InputError(f"{path} was computed on another reference than {reference}; run `{stage}` again on this one.")
