"""A potential in another Python, as a `Potential` of this one: crystals go over, evaluations come back (`potential.client`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from crystalformer_rl.crystal.structure import Crystal, crystal_columns, crystals_from_table
from crystalformer_rl.potential.client import PotentialWorker
from crystalformer_rl.potential.devices import CPU
from crystalformer_rl.potential.environments import Environment
from crystalformer_rl.potential.protocol import Evaluation, Outcome, Potential
from crystalformer_rl.reference.identity import PotentialIdentity
from crystalformer_rl.tables.column import FLOAT, Column, make_table
from crystalformer_rl.tables.crystal_columns import CRYSTALS, ID, STATUS
from crystalformer_rl.tables.status import OK

_EVALUATE = f"{__name__}:answer_evaluate"
_EMBED = f"{__name__}:answer_embed"
_EVALUATIONS = (
    ID,
    Column("energy", FLOAT, "eV/atom", "total energy"),
    Column("forces", pa.list_(FLOAT), "eV/Å", "forces, 3N"),
    Column("stress", pa.list_(FLOAT), "eV/Å³", "stress, 9"),
    STATUS,
)
_EMBEDDINGS = (ID, Column("embedding", pa.list_(FLOAT), "", "features"), STATUS)


class Elsewhere:
    """The potential `name` of an environment of its own; its process lives as long as this object."""

    def __init__(self, name: str, place: Environment, threads: int | None = 1, device: str = CPU) -> None:
        self._worker = PotentialWorker(name, threads=threads, place=place, device=device)

    @property
    def identity(self) -> PotentialIdentity:
        return self._worker.identity

    def evaluate(self, crystals: Sequence[Crystal], *, forces: bool = True) -> list[Outcome]:
        """One outcome a crystal; see `Potential`."""
        answer = self._worker.map(_EVALUATE, _table(crystals), _EVALUATIONS, forces=forces)
        return [_outcome(row) for row in answer.to_pylist()]

    def embed(self, crystals: Sequence[Crystal]) -> np.ndarray:
        """Features as the potential gives them; see `Potential`."""
        rows = self._worker.map(_EMBED, _table(crystals), _EMBEDDINGS).column("embedding").to_pylist()
        width = max((len(row) for row in rows if row is not None), default=0)
        return np.array([row if row is not None else [np.nan] * width for row in rows], float).reshape(len(rows), width)


def _table(crystals: Sequence[Crystal]) -> pa.Table:
    return make_table(CRYSTALS, {"id": [str(k) for k in range(len(crystals))], **crystal_columns(list(crystals))})


def _outcome(row: dict[str, Any]) -> Outcome:
    if row["status"] != OK or row["energy"] is None:
        return str(row["status"])
    if row["forces"] is None:
        return Evaluation(row["energy"])
    return Evaluation(row["energy"], np.array(row["forces"]).reshape(-1, 3), np.array(row["stress"]).reshape(3, 3))


def answer_evaluate(table: pa.Table, potential: Potential, forces: bool, advance: Any = None) -> pa.Table:
    """In the other Python: the evaluations of a crystals table, row for row."""
    crystals, statuses = crystals_from_table(table)
    good = [k for k, crystal in enumerate(crystals) if crystal is not None]
    outcomes = dict(zip(good, potential.evaluate([crystals[k] for k in good], forces=forces), strict=True))  # type: ignore[misc]
    rows: dict[str, list[Any]] = {column.name: [None] * len(crystals) for column in _EVALUATIONS}
    rows["id"], rows["status"] = table.column("id").to_pylist(), list(statuses)
    for k, outcome in outcomes.items():
        if isinstance(outcome, str):
            rows["status"][k] = outcome
            continue
        rows["status"][k], rows["energy"][k] = OK, outcome.energy
        if outcome.forces is not None and outcome.stress is not None:
            rows["forces"][k], rows["stress"][k] = outcome.forces.ravel().tolist(), outcome.stress.ravel().tolist()
    return make_table(_EVALUATIONS, rows)


def answer_embed(table: pa.Table, potential: Potential, advance: Any = None) -> pa.Table:
    """In the other Python: the embeddings of a crystals table, row for row; null for a crystal that has none."""
    crystals, statuses = crystals_from_table(table)
    good = [k for k, crystal in enumerate(crystals) if crystal is not None]
    rows: list[Any] = [None] * len(crystals)
    if good:
        found = potential.embed([crystals[k] for k in good])  # type: ignore[misc]
        for k, row in zip(good, found, strict=True):
            rows[k] = row.tolist() if np.isfinite(row).all() else None
    return make_table(_EMBEDDINGS, {"id": table.column("id").to_pylist(), "embedding": rows, "status": list(statuses)})
