"""Predicted properties for a table of crystals, row for row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from crystalformer_rl.crystal.structure import Crystal, crystals_from_table
from crystalformer_rl.errors import InputError
from crystalformer_rl.properties.features import supported
from crystalformer_rl.properties.models import PropertyModels
from crystalformer_rl.properties.soft_modes import soft_mode
from crystalformer_rl.reference.identity import PotentialIdentity
from crystalformer_rl.tables.column import make_table
from crystalformer_rl.tables.property_columns import IN_TRAINING, PREDICTED, PROPERTIES, SOFT_MODE
from crystalformer_rl.tables.status import OK, Status

_CHUNK = 64  # crystals embedded at a time; the potential packs its own batches within


class Embedder(Protocol):
    """What the property models need of a potential."""

    @property
    def identity(self) -> PotentialIdentity: ...

    def embed(self, crystals: Sequence[Crystal]) -> np.ndarray:
        """(N, d) statistics of the atoms' features, NaN for a crystal that fails."""
        ...

    def evaluate(self, crystals: Sequence[Crystal], *, forces: bool = True) -> Sequence[Any]:
        """For each crystal its evaluation, or the status that says why there is none."""
        ...


def check_embedding(models: PropertyModels, identity: PotentialIdentity, path: str) -> None:
    """Raises InputError where the potential is not the one whose embeddings the models at `path` learned."""
    expected = models.embedding
    if identity.digest != expected.get("weights_sha256"):
        raise InputError(
            f"{path} was trained on embeddings of {expected.get('name')} with other weights than the installed "
            f"{identity.name}; install the version it names or run `crystalformer-rl train-properties` again."
        )


def check_embedding_size(models: PropertyModels, size: int) -> None:
    """Raises InputError where embeddings have another size than the models learned from."""
    expected = models.card["embedding_size"]
    if size != expected:
        raise InputError(
            f"the property models take embeddings of {expected} numbers, not of {size}; give models made by this version's "
            f"`crystalformer-rl train-properties`."
        )


def embed(
    potential: Embedder, crystals: Sequence[Crystal], advance: Callable[[int], Any] | None = None
) -> tuple[np.ndarray, list[str]]:
    """Embeddings (N, d) and a status for each crystal; NaN where the status is not ok."""
    statuses: list[str] = [OK if supported(crystal) else Status.UNSUPPORTED_ELEMENT for crystal in crystals]
    parts = []
    for start in range(0, len(crystals), _CHUNK):
        part = crystals[start : start + _CHUNK]
        embedding = np.asarray(potential.embed(part), float)
        for i in np.flatnonzero(~np.isfinite(embedding).all(axis=1)).tolist():
            if statuses[start + i] == OK:
                # the potential gives its reason only where it is asked for an energy
                outcome = potential.evaluate([part[i]], forces=False)[0]
                statuses[start + i] = outcome if isinstance(outcome, str) else Status.POTENTIAL_FAILED
        parts.append(embedding)
        if advance is not None:
            advance(len(part))
    return np.concatenate(parts) if parts else np.empty((0, 0)), statuses


def properties_table(
    models: PropertyModels, potential: Embedder, crystals: pa.Table, advance: Callable[[int], Any] | None = None
) -> pa.Table:
    """A PROPERTIES table, row for row, from a crystals table (id, atomic_numbers, frac_coords, lattice, perhaps status).

    A row whose status is not ok keeps it and gets null figures. `advance` is called
    with the number of rows just finished.
    """
    found, statuses = crystals_from_table(crystals)
    good = [i for i, status in enumerate(statuses) if status == OK]
    if advance is not None:
        advance(len(statuses) - len(good))
    chosen = [crystal for i in good if (crystal := found[i]) is not None]
    embeddings, outcomes = embed(potential, chosen, advance)
    for i, outcome in zip(good, outcomes, strict=True):
        statuses[i] = outcome
    if good:
        check_embedding_size(models, embeddings.shape[1])
    usable = [j for j, outcome in enumerate(outcomes) if outcome == OK]
    prediction = models.predict([chosen[j] for j in usable], embeddings[usable]) if usable else None

    rows = np.array([good[j] for j in usable], int)
    columns: dict[str, Any] = {"id": crystals.column("id").to_pylist(), "status": statuses}
    for column in PREDICTED:
        values = np.full(len(statuses), np.nan)
        if prediction is not None:
            values[rows] = _of_insulators(getattr(prediction, column.name), column.name, prediction.band_gap)
        columns[column.name] = pa.array(values, mask=~np.isfinite(values))
    families: dict[int, str | None] = {good[j]: soft_mode(chosen[j]) for j in usable}
    columns[SOFT_MODE.name] = [families.get(i) for i in range(len(statuses))]
    learned = {} if prediction is None else dict(zip(rows.tolist(), prediction.in_training.tolist(), strict=True))
    columns[IN_TRAINING.name] = [learned.get(i) for i in range(len(statuses))]
    return make_table(PROPERTIES, columns)


def _of_insulators(values: np.ndarray, name: str, gap: np.ndarray) -> np.ndarray:
    """A predicted column without what a metal does not have: its charges screen a field altogether."""
    return np.where(gap > 0, values, np.nan) if name.startswith("eps_") else values
