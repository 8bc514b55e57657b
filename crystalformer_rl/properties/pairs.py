"""Labels that are known of a composition, given to the crystal that must be the one they were computed for.

Of a composition with one entry in the Materials Project, and one structure here, composition and structure name the same material.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
import pyarrow.parquet as pq

from crystalformer_rl.crystal.elements import parse_formula, reduced_formula
from crystalformer_rl.errors import InputError
from crystalformer_rl.properties.examples import Labelled

ELSEWHERE = ("wbm",)
"""Sources whose crystals are no entries of the Materials Project: they may share a composition, never its labels."""

LEAST_GAP = 0.1
"""eV; of a composition with a smaller gap the computed index is often a metal's, where it means nothing."""

GAPS_AGREE = 0.1
"""eV; a crystal whose own gap differs more from its composition's was computed otherwise, or is another crystal."""

_LEAST_CONSTANT = 1.05  # a calculation that failed left an index of exactly 1
_COLUMNS = ("formula", "n_entries", "band_gap", "refractive_index")


@dataclass(frozen=True)
class CompositionLabels:
    """What is known of compositions with exactly one entry, by reduced formula: gaps (eV) and squared refractive indices.

    reserved: formulas that must not be trained on.
    """

    band_gap: dict[str, float]
    eps_electronic: dict[str, float]
    reserved: frozenset[str]


def read_composition_labels(path: str) -> CompositionLabels:
    """A Parquet with formula, n_entries, band_gap (eV), refractive_index, each null where unknown, and perhaps reserved (bool).

    Raises InputError for a file that is no Parquet, a column that is missing and a formula that is none.
    """
    try:
        schema = pq.read_schema(path)
        absent = [name for name in _COLUMNS if name not in schema.names]
        if absent:
            raise InputError(f"{path} has no column '{absent[0]}'; it has {', '.join(schema.names)}.")
        wanted = [*_COLUMNS, *(["reserved"] if "reserved" in schema.names else [])]
        rows = pq.read_table(path, columns=wanted).to_pylist()
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is not a readable Parquet of compositions ({error}); give another.") from error
    gaps, constants, reserved = {}, {}, set()
    for row in rows:
        if row.get("reserved"):
            reserved.add(_spelled(row["formula"]))
        elif row["n_entries"] == 1 and (row["band_gap"] is not None or row["refractive_index"] is not None):
            formula = _spelled(row["formula"])
            if row["band_gap"] is not None:
                gaps[formula] = float(row["band_gap"])
            if row["refractive_index"] is not None:
                constants[formula] = float(row["refractive_index"]) ** 2
    return CompositionLabels(gaps, constants, frozenset(reserved))


def _spelled(formula: str) -> str:
    counts = parse_formula(formula)
    return reduced_formula([z for z, n in counts.items() for _ in range(n)])


def paired(data: Labelled, label: str, known: CompositionLabels) -> Labelled:
    """Crystals with a gap or a dielectric constant, their own or their composition's: labels band_gap and eps_electronic.

    data: crystals with the label named `label` (gap in eV), NaN where they have none, which their composition may fill. A label
    is missing as NaN; crystals without a gap, and those of reserved formulas, are left out. A dielectric constant is taken where the
    composition's gap is at least `LEAST_GAP` and the crystal's own gap, where it has one, agrees with it.
    """
    formulas = data.formulas
    entry = np.array([source not in ELSEWHERE for source in data.sources], bool)
    structures = Counter(formula for formula, counts in zip(formulas, entry, strict=True) if counts)
    alone = np.array([own and structures[formula] == 1 for formula, own in zip(formulas, entry, strict=True)], bool)

    def of(values: dict[str, float]) -> np.ndarray:
        found = np.array([values.get(formula, np.nan) for formula in formulas], float)
        return np.where(alone, found, np.nan)

    own, gap, constant = data.labels[label], of(known.band_gap), of(known.eps_electronic)
    sound = (gap >= LEAST_GAP) & ~(np.abs(gap - own) > GAPS_AGREE) & (constant >= _LEAST_CONSTANT)
    labels = {"band_gap": np.where(np.isfinite(own), own, gap), "eps_electronic": np.where(sound, constant, np.nan)}
    allowed = np.array([formula not in known.reserved for formula in formulas], bool)
    some = np.isfinite(labels["band_gap"]) & allowed
    return replace(data, labels=labels).take(np.flatnonzero(some))
