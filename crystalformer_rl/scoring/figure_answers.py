"""Figures of crystals as sampled, for the worker that holds the potential: energies, forces, predicted properties."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa

from crystalformer_rl.crystal.structure import crystals_from_table
from crystalformer_rl.potential import load
from crystalformer_rl.potential.protocol import Potential
from crystalformer_rl.properties import PropertyModels, check_embedding, properties_table
from crystalformer_rl.scoring.groups import ANSWERS
from crystalformer_rl.tables.column import make_table
from crystalformer_rl.tables.status import OK

Advance = Callable[[int], object] | None


def energies(table: pa.Table, potential: Potential, advance: Advance = None) -> pa.Table:
    """Total energies, eV/atom."""
    return _evaluated(table, potential, "energy")


def forces(table: pa.Table, potential: Potential, advance: Advance = None) -> pa.Table:
    """Total energies, eV/atom, and the largest force on an atom, eV/Å."""
    return _evaluated(table, potential, "force")


def properties(table: pa.Table, potential: Potential, models: str, advance: Advance = None) -> pa.Table:
    """Predicted properties, from the embeddings of the potential that the models in the file `models` learned from."""
    trained = _models(models)
    embedder: Any = potential
    if potential.identity.digest != trained.embedding["weights_sha256"]:
        embedder = _embedder(models)
    return properties_table(trained, embedder, table, advance)


@cache
def _models(path: str) -> PropertyModels:
    return PropertyModels.load(path)


@cache
def _embedder(path: str) -> Potential:
    trained = _models(path)
    embedder = load(trained.embedding["load"], threads=None)
    check_embedding(trained, embedder.identity, path)
    return embedder


def _evaluated(table: pa.Table, potential: Potential, group: str) -> pa.Table:
    crystals, statuses = crystals_from_table(table)
    energies: list[float | None] = [None] * len(crystals)
    forces: list[float | None] = [None] * len(crystals)
    good = [(k, c) for k, c in enumerate(crystals) if c is not None and statuses[k] == OK]
    outcomes = potential.evaluate([c for _, c in good], forces=group == "force")
    for (k, _), outcome in zip(good, outcomes, strict=True):
        if isinstance(outcome, str):
            statuses[k] = outcome
            continue
        energies[k] = outcome.energy
        if outcome.forces is not None:
            forces[k] = float(np.linalg.norm(outcome.forces, axis=1).max())
    columns = {"id": table.column("id").to_pylist(), "energy": energies, "force": forces, "status": statuses}
    return make_table(ANSWERS[group], columns)
