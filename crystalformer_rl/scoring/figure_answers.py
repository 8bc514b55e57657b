"""Figures of crystals, for the worker that holds the potential: energies, forces, a few steps of relaxation, predicted properties."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa

from crystalformer_rl.crystal.structure import crystal_columns, crystals_from_table
from crystalformer_rl.crystal.tokens import sites_from_table, token_columns
from crystalformer_rl.potential import load
from crystalformer_rl.potential.protocol import Potential
from crystalformer_rl.potential.relax_settings import RelaxSettings
from crystalformer_rl.potential.relaxation import relax
from crystalformer_rl.properties import PropertyModels, check_embedding, properties_table
from crystalformer_rl.scoring.groups import ANSWERS
from crystalformer_rl.tables.column import make_table
from crystalformer_rl.tables.crystal_columns import SITE_FRAC_COORDS
from crystalformer_rl.tables.status import OK

Advance = Callable[[int], object] | None


def energies(table: pa.Table, potential: Potential, advance: Advance = None) -> pa.Table:
    """Total energies, eV/atom."""
    return _evaluated(table, potential, "energy")


def forces(table: pa.Table, potential: Potential, advance: Advance = None) -> pa.Table:
    """Total energies, eV/atom, and the largest force on an atom, eV/Å."""
    return _evaluated(table, potential, "force")


def walk(table: pa.Table, potential: Potential, max_evaluations: int, advance: Advance = None) -> pa.Table:
    """The best that `max_evaluations` of relaxation meet, with its energy and largest force, and the tokens of the step after them.

    `table` carries tokens, with null ones where there is no crystal.
    """
    _, statuses = crystals_from_table(table)
    sites = sites_from_table(table, "the crystals")
    items = [status if status != OK or s is None else s for s, status in zip(sites, statuses, strict=True)]
    settings = RelaxSettings(max_evaluations=max_evaluations)
    found = relax(potential, items, settings, batch_size=max(len(items), 1), ahead=True)
    columns = crystal_columns([r.crystal for r in found]) | token_columns(
        [r.ahead for r in found], coords_name=SITE_FRAC_COORDS.name
    )
    columns |= {name: [getattr(r, name) for r in found] for name in ("energy", "evaluations", "status")}
    columns |= {"id": table.column("id").to_pylist(), "force": [r.force_max for r in found]}
    # A crystal that fails keeps what it is made of.
    for name in ("formula", "atomic_numbers"):
        columns[name] = [new or old for new, old in zip(columns[name], table.column(name).to_pylist(), strict=True)]
    return make_table(ANSWERS["walk"], columns)


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
