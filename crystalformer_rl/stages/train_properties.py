"""Train the property models on frozen embeddings of a potential and features of composition and structure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from crystalformer_rl.crystal.structure import Crystal
from crystalformer_rl.errors import InputError
from crystalformer_rl.potential import load
from crystalformer_rl.properties import PropertyModels
from crystalformer_rl.properties.anisotropy import log_deviators, orientation_tensors
from crystalformer_rl.properties.dielectric_training import DielectricSet
from crystalformer_rl.properties.distortion import DISTORTIONS, distorted
from crystalformer_rl.properties.examples import Labelled, examples, join, read_labelled
from crystalformer_rl.properties.families import anion_family
from crystalformer_rl.properties.feature_cache import crystal_features
from crystalformer_rl.properties.features import feature_names, n_composition_features
from crystalformer_rl.properties.gap_training import NetworkSettings
from crystalformer_rl.properties.models import LEADING
from crystalformer_rl.properties.pairs import CompositionLabels, paired, read_composition_labels
from crystalformer_rl.properties.textbook_figures import textbook_figures
from crystalformer_rl.properties.training import Material, elements, train
from crystalformer_rl.tables.provenance import sha256
from crystalformer_rl.tables.status import OK

Progress = Callable[[str, int, int], object]
DATA = (
    "dielectric constants and gaps: density-functional perturbation theory, I. Petousis et al., Sci. Data 4, 160134 (2017)",
    "gaps: Materials Project, A. Jain et al., APL Materials 1, 011002 (2013), by way of MP-20, T. Xie et al. (2021)",
    "gaps and refractive indices of compositions: Matbench v0.1, A. Dunn et al., npj Comput. Mater. 6, 138 (2020), Materials Project",
    "gaps: WBM, H.-C. Wang, S. Botti, M. Marques, npj Comput. Mater. 7, 12 (2021)",
)
LICENCE = "the data are CC BY 4.0; cite the sources above where results built on them are shown"
POTENTIAL = "chgnet"
GAP_LABEL = "dft_band_gap"
DIELECTRIC_LABELS = {"band_gap": 0.0, "eps_electronic": 1.0, "eps_total": 1.0}  # with the least value that makes sense


def train_properties(
    dielectric: str | Path,
    gaps: str | Path,
    compositions: str | Path | None = None,
    *,
    cache: str | Path | None = None,
    networks_per_fold: int = 2,
    epochs: int = 40,
    progress: Progress | None = None,
) -> tuple[PropertyModels, list[str]]:
    """The models, and the status of each crystal that they could have learned from.

    dielectric: crystals table with band_gap (eV), eps_electronic and eps_total (trace/3), eps_electronic_tensor (9 numbers); gaps:
    one with dft_band_gap (eV, 0 for metals); compositions: a table with formula, n_entries, band_gap (eV), refractive_index and
    perhaps reserved, which labels the crystals of `gaps` that are the only ones of their composition. Held-out and reserved
    formulas are never learned from. cache: folder to keep features and networks in. `progress` is called with what is done, how
    many there are in all and how many were just finished. Raises InputError for tables that lack labels.
    """
    material, made_of, statuses = gathered(dielectric, gaps, compositions, cache=cache, progress=progress)
    settings = NetworkSettings(per_fold=networks_per_fold, epochs=epochs, cache=None if cache is None else str(cache))
    networks = settings.count + len({anion_family(formula) for formula in material.gaps.formulas})
    models = train(material, made_of, settings, None if progress is None else lambda n: progress("networks", networks, n))
    models.card["figures"]["textbook"] = textbook_figures(models, load(POTENTIAL), material.dielectric.examples)
    return models, statuses


def gathered(
    dielectric: str | Path,
    gaps: str | Path,
    compositions: str | Path | None = None,
    *,
    cache: str | Path | None = None,
    progress: Progress | None = None,
    distortions: Sequence[tuple[float, float]] = DISTORTIONS,
) -> tuple[Material, dict[str, Any], list[str]]:
    """What `train_properties` trains on, what its card says of that, and the status of each crystal.

    distortions: strains and displacements (Å) at which the crystals of the dielectric set are tried, too.
    """
    known = None if compositions is None else read_composition_labels(str(compositions))
    full = read_labelled(str(dielectric), DIELECTRIC_LABELS)
    reserved = frozenset() if known is None else known.reserved
    full = full.take(np.array([i for i, formula in enumerate(full.formulas) if formula not in reserved], int))
    wide = _with_gaps(str(gaps), known)
    if not 0 < (wide.labels["band_gap"] > 0).sum() < len(wide.crystals):
        raise InputError(f"{gaps}, column 'dft_band_gap': metals (0) and insulators are both needed; add the missing kind.")
    had = set(full.formulas)
    is_pair = np.array(
        [bool(np.isfinite(e)) and f not in had for e, f in zip(wide.labels["eps_electronic"], wide.formulas, strict=True)]
    )
    parts = [wide.take(np.flatnonzero(~is_pair)), full, wide.take(np.flatnonzero(is_pair))]
    potential, table = load(POTENTIAL), elements()
    total = sum(len(part.crystals) for part in parts) + len(full.crystals) * len(distortions)

    def featured(crystals: list[Crystal]) -> tuple[np.ndarray, list[str]]:
        told = None if progress is None else lambda n: progress("features", total, n)
        return crystal_features(potential, table, crystals, None if cache is None else str(cache), told)

    found = [featured(part.crystals) for part in parts]
    of_gaps, of_full, of_pairs = (
        examples(part, *result) if part.crystals else None for part, result in zip(parts, found, strict=True)
    )
    assert of_gaps is not None
    assert of_full is not None
    kept = [crystal for crystal, status in zip(full.crystals, found[1][1], strict=True) if status == OK]
    deviators = log_deviators(_tensors(full, found[1][1]))
    crystals = list(kept)
    of_dielectric = of_full
    if of_pairs is not None:
        crystals += [crystal for crystal, status in zip(parts[2].crystals, found[2][1], strict=True) if status == OK]
        unknown = np.full(len(of_pairs.formulas), np.nan)
        of_dielectric = join(of_full, replace(of_pairs, labels={**of_pairs.labels, "eps_total": unknown}))
    missing = np.full((len(crystals) - len(kept), 3, 3), np.nan)
    data = DielectricSet(of_dielectric, orientation_tensors(crystals, table), np.concatenate([deviators, missing]))

    names = feature_names(table)
    n_composition = n_composition_features(table)
    size = of_gaps.rows.shape[1] - len(names)
    blocks = (min(LEADING, size), n_composition, len(names) - n_composition)
    moved = {}
    for strain, displacement in distortions:
        others = distorted(kept, strain, displacement)
        rows, statuses = featured(others)
        if all(status == OK for status in statuses):
            name = f"strain ± {100 * strain:g} %, atoms moved by {displacement:g} Å"
            moved[name] = replace(
                data,
                examples=replace(of_dielectric, rows=np.vstack([rows, of_dielectric.rows[len(kept) :]])),
                orientations=np.concatenate([orientation_tensors(others, table), data.orientations[len(kept) :]]),
            )
    made_of: dict[str, Any] = {
        "data": list(DATA),
        "licence": LICENCE,
        "inputs": {Path(path).name: sha256(path) for path in (dielectric, gaps, compositions) if path is not None},
        "embedding_size": size,
        "embedding": {**potential.identity.as_record(), "load": POTENTIAL},
        "features": names,
        "trained_by": "crystalformer-rl train-properties",
    }
    material = Material(join(of_gaps, of_dielectric), data, blocks, moved)
    return material, made_of, [status for _, statuses in found for status in statuses]


def _with_gaps(path: str, known: CompositionLabels | None) -> Labelled:
    """Crystals with labels band_gap (eV) and eps_electronic, NaN where unknown."""
    if known is None:
        data = read_labelled(path, {GAP_LABEL: 0.0})
        gap = data.labels[GAP_LABEL]
        return replace(data, labels={"band_gap": gap, "eps_electronic": np.full(len(gap), np.nan)})
    return paired(read_labelled(path, {GAP_LABEL: 0.0}, complete=False), GAP_LABEL, known)


def _tensors(data: Labelled, statuses: Sequence[str]) -> np.ndarray:
    """Electronic tensors (m, 3, 3) of the crystals with features; isotropic ones where the table has none."""
    mean = data.labels["eps_electronic"][:, None, None] * np.eye(3)
    good = [i for i, status in enumerate(statuses) if status == OK]
    return (mean if data.tensors is None else data.tensors)[good]
