"""Labelled crystals to learn from, and which of them must not be learned from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from crystalformer_rl.crystal.split import held_out
from crystalformer_rl.crystal.structure import Crystal, crystals_from_table
from crystalformer_rl.errors import InputError
from crystalformer_rl.reading.inputs import read_crystals
from crystalformer_rl.tables.status import OK

FOLDS = 5
TENSOR = "eps_electronic_tensor"


@dataclass(frozen=True)
class Examples:
    """Crystals to learn from: features (n, d), reduced formulas (n), where each comes from (n), labels name → (n,).

    A label that is unknown is NaN.
    """

    rows: np.ndarray
    formulas: Sequence[str]
    sources: Sequence[str]
    labels: Mapping[str, np.ndarray]

    @property
    def folds(self) -> np.ndarray:
        """(n,) the fold of each formula, the same everywhere and always."""
        return np.array([hashlib.sha256(formula.encode()).digest()[1] % FOLDS for formula in self.formulas])

    @property
    def withheld(self) -> np.ndarray:
        """(n,) bool: of a held-out formula, which no model learns from."""
        return np.array([held_out(formula) for formula in self.formulas], bool)

    def take(self, rows: np.ndarray) -> Examples:
        """Some of them: indices (m,) or a mask (n,)."""
        chosen = np.arange(len(self.formulas))[rows]
        return Examples(
            self.rows[chosen],
            [self.formulas[i] for i in chosen],
            [self.sources[i] for i in chosen],
            {name: values[chosen] for name, values in self.labels.items()},
        )


@dataclass(frozen=True)
class Labelled:
    """Crystals of one file with their labels: crystals (n), sources (n), labels name → (n,), NaN where one is unknown.

    tensors: electronic dielectric tensors (n, 3, 3), where the file has them.
    """

    path: str
    crystals: list[Crystal]
    sources: list[str]
    labels: dict[str, np.ndarray]
    tensors: np.ndarray | None = None

    @property
    def formulas(self) -> list[str]:
        """Reduced formulas (n)."""
        return [crystal.formula for crystal in self.crystals]

    def take(self, rows: np.ndarray) -> Labelled:
        """The crystals at indices (m,)."""
        labels = {name: values[rows] for name, values in self.labels.items()}
        tensors = None if self.tensors is None else self.tensors[rows]
        return Labelled(self.path, [self.crystals[i] for i in rows], [self.sources[i] for i in rows], labels, tensors)


def read_labelled(path: str, lowest: Mapping[str, float], *, complete: bool = True) -> Labelled:
    """Crystals with the labels named in `lowest` {label: least value that makes sense}; rows that lack one are skipped.

    complete: False keeps the rows without labels, too.

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
    labelled = np.isfinite(np.array(list(columns.values()))).all(axis=0)
    keep = [i for i, status in enumerate(statuses) if status == OK and (labelled[i] or not complete)]
    if not keep:
        raise InputError(f"{path} has no row with a crystal and the labels {', '.join(lowest)}; fill them in.")
    named = table.column("source").to_pylist() if "source" in table.column_names else [Path(path).stem] * table.num_rows
    chosen = [crystal for i in keep if (crystal := crystals[i]) is not None]
    labels = {name: values[keep] for name, values in columns.items()}
    return Labelled(path, chosen, [str(named[i]) for i in keep], labels, _tensors(table, keep))


def _tensors(table: pa.Table, rows: Sequence[int]) -> np.ndarray | None:
    if TENSOR not in table.column_names:
        return None
    column = table.column(TENSOR)
    found = [column[i].as_py() for i in rows]
    if any(each is None or len(each) != 9 for each in found):
        raise InputError(f"the column '{TENSOR}' wants nine numbers in every row; complete it or leave the column out.")
    return np.array(found, float).reshape(-1, 3, 3)


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
