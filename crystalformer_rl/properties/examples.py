"""Labelled crystals to learn from, turned into features once and kept for the next time."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from crystalformer_rl.crystal.structure import Crystal, crystals_from_table
from crystalformer_rl.errors import InputError
from crystalformer_rl.properties.features import Elements, feature_matrix, feature_names
from crystalformer_rl.properties.prediction import Embedder, embed
from crystalformer_rl.reading.inputs import read_crystals
from crystalformer_rl.tables.parquet import atomic_path
from crystalformer_rl.tables.provenance import digest_json, sha256
from crystalformer_rl.tables.status import OK

FOLDS = 5


@dataclass(frozen=True)
class Examples:
    """Crystals to learn from: features (n, d), reduced formulas (n), where each comes from (n), labels name → (n,)."""

    rows: np.ndarray
    formulas: Sequence[str]
    sources: Sequence[str]
    labels: Mapping[str, np.ndarray]

    @property
    def folds(self) -> np.ndarray:
        """(n,) the fold of each formula, the same everywhere and always."""
        return np.array([hashlib.sha256(formula.encode()).digest()[1] % FOLDS for formula in self.formulas])


@dataclass(frozen=True)
class Labelled:
    """Crystals of one file that have all their labels: crystals (n), sources (n), labels name → (n,)."""

    path: str
    crystals: list[Crystal]
    sources: list[str]
    labels: dict[str, np.ndarray]


def read_labelled(path: str, lowest: Mapping[str, float]) -> Labelled:
    """Crystals with the labels named in `lowest` {label: least value that makes sense}; rows that lack one are skipped.

    The column `source` says where a row comes from, else the file's name does. Raises
    InputError for a missing or absurd label, or where no row remains.
    """
    table = read_crystals([path])
    columns = {}
    for name, bound in lowest.items():
        if name not in table.column_names:
            raise InputError(f"{path} has no label column '{name}'; it has {', '.join(table.column_names)}.")
        try:
            values = np.array([np.nan if v is None else float(v) for v in table.column(name).to_pylist()])
        except (TypeError, ValueError) as error:
            raise InputError(f"{path}, column '{name}' is not numeric ({error}); give numbers or nulls.") from error
        if (wrong := np.flatnonzero(values < bound)).size:
            row = table.column("id")[int(wrong[0])].as_py()
            raise InputError(
                f"{path}, row '{row}': {name} = {values[wrong[0]]:g} is below {bound:g}; correct or remove the row."
            )
        columns[name] = values
    crystals, statuses = crystals_from_table(table)
    complete = np.isfinite(np.array(list(columns.values()))).all(axis=0)
    keep = [i for i, status in enumerate(statuses) if status == OK and complete[i]]
    if not keep:
        raise InputError(f"{path} has no row with a crystal and the labels {', '.join(lowest)}; fill them in.")
    named = table.column("source").to_pylist() if "source" in table.column_names else [Path(path).stem] * table.num_rows
    chosen = [crystal for i in keep if (crystal := crystals[i]) is not None]
    return Labelled(path, chosen, [str(named[i]) for i in keep], {name: values[keep] for name, values in columns.items()})


def features(
    potential: Embedder,
    elements: Elements,
    data: Labelled,
    cache: str | None = None,
    advance: Callable[[int], Any] | None = None,
) -> tuple[np.ndarray, list[str]]:
    """Embedding and features (n, d) of labelled crystals and a status for each; rows of another status than ok are NaN.

    cache: a folder where the features are kept under the digest of what they are made of.
    """
    names = feature_names(elements)
    size = potential.embed(data.crystals[:1]).shape[1]  # the same weights may be embedded in another way
    key = digest_json(
        [sha256(data.path), sorted(data.labels), potential.identity.as_record(), size, names, elements.table.tolist()]
    )
    file = Path(cache) / f"features-{key[:16]}.npz" if cache else None
    if file is not None and file.is_file():
        with np.load(file, allow_pickle=False) as stored:
            if advance is not None:
                advance(len(data.crystals))
            return stored["rows"], stored["statuses"].tolist()
    embeddings, statuses = embed(potential, data.crystals, advance)
    good = [i for i, status in enumerate(statuses) if status == OK]
    rows = np.full((len(statuses), embeddings.shape[1] + len(names)), np.nan)
    rows[good] = np.hstack([embeddings[good], feature_matrix([data.crystals[i] for i in good], elements)[0]])
    if file is not None:
        with atomic_path(file) as temporary, open(temporary, "wb") as stream:
            np.savez(stream, rows=rows, statuses=np.array(statuses))
    return rows, statuses


def examples(data: Labelled, rows: np.ndarray, statuses: Sequence[str]) -> Examples:
    """The crystals that have features. Raises InputError where none has."""
    good = [i for i, status in enumerate(statuses) if status == OK]
    if not good:
        raise InputError(
            f"{data.path}: the potential could embed none of the {len(statuses)} crystals ({statuses[0]}); check them."
        )
    return Examples(
        rows[good],
        [data.crystals[i].formula for i in good],
        [data.sources[i] for i in good],
        {name: values[good] for name, values in data.labels.items()},
    )


def join(first: Examples, second: Examples) -> Examples:
    """Both, one after the other, with the labels that both have."""
    common = [name for name in first.labels if name in second.labels]
    return Examples(
        np.vstack([first.rows, second.rows]),
        [*first.formulas, *second.formulas],
        [*first.sources, *second.sources],
        {name: np.concatenate([first.labels[name], second.labels[name]]) for name in common},
    )
