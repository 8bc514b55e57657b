"""Features of crystals, kept crystal by crystal, so that work cut short goes on and other tables share what they have in common."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from crystalformer_rl.crystal.structure import Crystal
from crystalformer_rl.properties.features import Elements, feature_matrix, feature_names
from crystalformer_rl.properties.prediction import Embedder, embed
from crystalformer_rl.tables.parquet import atomic_path
from crystalformer_rl.tables.provenance import digest_json
from crystalformer_rl.tables.status import OK

_PART = 1000  # crystals written at a time: what is lost when the work is cut short


def crystal_features(
    potential: Embedder,
    elements: Elements,
    crystals: Sequence[Crystal],
    cache: str | None = None,
    advance: Callable[[int], Any] | None = None,
) -> tuple[np.ndarray, list[str]]:
    """Embedding and features (n, d) of crystals and a status for each; rows of another status than ok are NaN.

    cache: a folder where they are kept under the digest of each crystal, one set for each potential and list of features.
    advance is called with the number of crystals just finished.
    """
    keys = [_digest(crystal) for crystal in crystals]
    names = feature_names(elements)
    folder = None
    if cache is not None and len(crystals):
        size = potential.embed(crystals[:1]).shape[1]  # the same weights may be embedded in another way
        kind = digest_json([potential.identity.as_record(), size, names, elements.table.tolist()])
        folder = Path(cache) / f"features-{kind[:16]}"
    known = {} if folder is None else _stored(folder)
    missing = [i for i, key in enumerate(keys) if key not in known]
    if advance is not None:
        advance(len(crystals) - len(missing))
    for start in range(0, len(missing), _PART):
        part = missing[start : start + _PART]
        found = _computed(potential, elements, [crystals[i] for i in part], len(names), advance)
        known |= zip([keys[i] for i in part], found, strict=True)
        if folder is not None:
            _store(folder, [keys[i] for i in part], found)
    if not keys:
        return np.empty((0, 0)), []
    return np.array([known[key][0] for key in keys]), [known[key][1] for key in keys]


def _computed(
    potential: Embedder, elements: Elements, crystals: Sequence[Crystal], n_names: int, advance: Callable[[int], Any] | None
) -> list[tuple[np.ndarray, str]]:
    embeddings, statuses = embed(potential, crystals, advance)
    good = [i for i, status in enumerate(statuses) if status == OK]
    rows = np.full((len(statuses), embeddings.shape[1] + n_names), np.nan)
    if good:
        rows[good] = np.hstack([embeddings[good], feature_matrix([crystals[i] for i in good], elements)[0]])
    return list(zip(rows, statuses, strict=True))


def _digest(crystal: Crystal) -> str:
    parts = (
        np.asarray(crystal.atomic_numbers, np.int64),
        np.asarray(crystal.frac_coords, np.float64),
        np.asarray(crystal.lattice, np.float64),
    )
    return hashlib.sha256(b"".join(np.ascontiguousarray(part).tobytes() for part in parts)).hexdigest()[:32]


def _stored(folder: Path) -> dict[str, tuple[np.ndarray, str]]:
    known: dict[str, tuple[np.ndarray, str]] = {}
    for file in sorted(folder.glob("*.npz")):
        with np.load(file, allow_pickle=False) as part:
            known |= zip(part["keys"].tolist(), zip(part["rows"], part["statuses"].tolist(), strict=True), strict=True)
    return known


def _store(folder: Path, keys: Sequence[str], found: Sequence[tuple[np.ndarray, str]]) -> None:
    with atomic_path(folder / f"{keys[0]}.npz") as temporary, open(temporary, "wb") as stream:
        statuses = np.array([status for _, status in found])
        np.savez(stream, keys=np.array(keys), rows=np.array([row for row, _ in found]), statuses=statuses)
