"""Predict band gap, dielectric constants and their product, each with a standard deviation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

from crystalformer_rl.potential import load
from crystalformer_rl.potential.devices import CPU
from crystalformer_rl.potential.protocol import Potential
from crystalformer_rl.properties import PropertyModels, check_embedding, properties_table
from crystalformer_rl.tables.provenance import with_record


def properties(
    crystals: pa.Table,
    models: str | Path,
    potential: Potential | None = None,
    *,
    device: str = CPU,
    advance: Callable[[int], object] | None = None,
) -> pa.Table:
    """The PROPERTIES table of a crystals table (id, atomic_numbers, frac_coords, lattice in Å, perhaps status), row for row.

    models: a file of `train-properties`. The embeddings come from the potential that the models learned from: `potential`
    where it is that one, else it is loaded on `device`, cpu or gpu. Rows of another status than ok keep it. Raises InputError for a file that
    holds no models, and where the installed potential has other weights than they learned from.
    """
    trained = PropertyModels.load(models)
    if potential is None or potential.identity.digest != trained.embedding["weights_sha256"]:
        potential = load(trained.embedding["load"], device=device)
    check_embedding(trained, potential.identity, str(models))
    table = properties_table(trained, potential, crystals, advance)
    return with_record(table, {"stage": "properties", "embedding": trained.embedding})
