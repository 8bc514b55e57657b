"""What a folder of results holds, read for the report. Whatever is missing is left out."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from crystalformer_rl.errors import InputError
from crystalformer_rl.tables.discovery_columns import CANDIDATES, EVALUATED, METRICS
from crystalformer_rl.tables.parquet import read_table
from crystalformer_rl.tables.provenance import read_provenance

Row = dict[str, Any]

_TABLES = ("resources", "samples", "relaxed", "hull", "properties", "novelty", "finetune", "evaluation", "shortlist")
"""Folders of a run whose tables the report names with their origin, in the order of the story."""


@dataclass(frozen=True)
class Results:
    """The tables of a run as rows.

    policies: names, the base policy first; metrics: one row a policy; crystals: rows of the
    EVALUATED table by policy; candidates: ranked rows; updates: rows of all rounds in order, with the
    columns that they have; provenance: {path within the folder: record}; reference_roles: entries of the reference by role.
    """

    folder: Path
    policies: list[str]
    metrics: dict[str, Row]
    crystals: dict[str, list[Row]]
    candidates: list[Row]
    updates: list[Row] = field(default_factory=list)
    provenance: dict[str, Row] = field(default_factory=dict)
    reference_roles: dict[str, int] = field(default_factory=dict)


def read_results(folder: str | Path, advance: Callable[[int], object] | None = None) -> Results:
    """Read a run's folder, or one that `evaluate` or `rank` wrote.

    Without a candidates table the ranking is made here from the evaluated crystals. Raises
    InputError where the folder holds no evaluation.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; give the folder of a run, or one that `evaluate` wrote.")
    evaluations = _evaluations(folder)
    if not evaluations:
        raise InputError(
            f"{folder} holds no evaluation (evaluation/*/metrics.parquet or metrics.parquet); run `evaluate` first."
        )
    metrics: dict[str, Row] = {}
    tables: dict[str, pa.Table] = {}
    for place in evaluations:
        row = _read(place / "metrics.parquet", METRICS).to_pylist()[0]
        metrics[row["policy"]] = row
        if (place / "crystals.parquet").is_file():
            tables[row["policy"]] = _read(place / "crystals.parquet", EVALUATED)
    return Results(
        folder=folder,
        policies=list(metrics),
        metrics=metrics,
        crystals={name: table.to_pylist() for name, table in tables.items()},
        candidates=_candidates(folder, tables, advance),
        updates=_updates(folder),
        provenance=_provenance(folder),
        reference_roles=_roles(folder / "resources" / "reference.parquet"),
    )


def _evaluations(folder: Path) -> list[Path]:
    """Folders of evaluations: the base policy's first, then by name. Arms of a comparison are its matter."""
    arms = _arms(folder)
    found = [
        path.parent for path in (folder / "evaluation").glob("*/metrics.parquet") if path.parent.name not in {*arms, SCORED}
    ]
    if not found and (folder / "metrics.parquet").is_file():
        return [folder]
    return sorted(found, key=lambda path: (path.name != "base", path.name))


SCORED = "scored"
"""Crystals that fine-tuning scored and that are candidates; no policy's sample, so nothing counts them."""


def _arms(folder: Path) -> set[str]:
    """Policies that were fine-tuned besides the main run."""
    return {path.name for path in (folder / "finetune").glob("*") if path.is_dir()} - {"tuned"}


def _read(path: Path, columns: tuple[Any, ...], *, allow_empty: bool = False) -> pa.Table:
    return read_table(path, columns, allow_empty=allow_empty).select([column.name for column in columns])


def _candidates(folder: Path, tables: dict[str, pa.Table], advance: Callable[[int], object] | None) -> list[Row]:
    path = folder / "candidates.parquet"
    if path.is_file():
        return _read(path, CANDIDATES, allow_empty=True).to_pylist()
    if not tables:
        return []
    from crystalformer_rl.discovery.candidates import candidates

    return candidates(list(tables.values()), advance=advance).to_pylist()


def _updates(folder: Path) -> list[Row]:
    """Rows of all rounds of the main run, the rounds in numerical order, each with its number as `round`."""
    paths = (folder / "finetune" / "tuned").glob("round_*/updates.parquet")
    numbered = sorted((int(path.parent.name.removeprefix("round_")), path) for path in paths)
    return [row | {"round": number} for number, path in numbered for row in read_table(path, allow_empty=True).to_pylist()]


def _provenance(folder: Path) -> dict[str, Row]:
    paths = [path for name in _TABLES for path in sorted((folder / name).rglob("*.parquet"))]
    paths += sorted(folder.glob("*.parquet"))
    arms = _arms(folder)
    paths = [path for path in paths if arms.isdisjoint((*path.relative_to(folder).parts, path.stem))]
    records = {str(path.relative_to(folder)): read_provenance(path) for path in paths}
    return {name: record for name, record in records.items() if record}


def _roles(path: Path) -> dict[str, int]:
    if not path.is_file():
        return {}
    table = read_table(path)
    return dict(Counter(table.column("role").to_pylist())) if "role" in table.column_names else {}


def from_json(text: str | None) -> dict[str, Any]:
    """A JSON column's value; empty for null."""
    return json.loads(text) if text else {}
