"""Train the property models on frozen embeddings of a potential and features of composition and structure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from crystalformer_rl.errors import InputError
from crystalformer_rl.potential import load
from crystalformer_rl.properties import PropertyModels
from crystalformer_rl.properties.examples import examples, features, join, read_labelled
from crystalformer_rl.properties.features import feature_names, n_composition_features
from crystalformer_rl.properties.models import LEADING
from crystalformer_rl.properties.training import NetworkSettings, elements, train
from crystalformer_rl.tables.provenance import sha256

Progress = Callable[[str, int, int], object]
DATA = (
    "dielectric constants and gaps: density-functional perturbation theory, I. Petousis et al., Sci. Data 4, 160134 (2017)",
    "gaps: Materials Project, A. Jain et al., APL Materials 1, 011002 (2013), by way of MP-20, T. Xie et al. (2021)",
    "gaps: WBM, H.-C. Wang, S. Botti, M. Marques, npj Comput. Mater. 7, 12 (2021)",
)
LICENCE = "the data are CC BY 4.0; cite the sources above where results built on them are shown"
POTENTIAL = "chgnet"
DIELECTRIC_LABELS = {"band_gap": 0.0, "eps_electronic": 1.0, "eps_total": 1.0}  # with the least value that makes sense


def train_properties(
    dielectric: str | Path,
    gaps: str | Path,
    *,
    cache: str | Path | None = None,
    networks_per_fold: int = 2,
    epochs: int = 40,
    progress: Progress | None = None,
) -> tuple[PropertyModels, list[str]]:
    """The models, and the status of each crystal that they could have learned from.

    dielectric: crystals table with band_gap (eV), eps_electronic and eps_total (trace/3); gaps: one with dft_band_gap (eV, 0
    for metals). cache: folder to keep the features in. `progress` is called with what is done, how many there are in all
    and how many were just finished. Raises InputError for tables that lack labels.
    """
    data = [read_labelled(str(gaps), {"dft_band_gap": 0.0}), read_labelled(str(dielectric), DIELECTRIC_LABELS)]
    if not 0 < (data[0].labels["dft_band_gap"] > 0).sum() < len(data[0].crystals):
        raise InputError(f"{gaps}, column 'dft_band_gap': metals (0) and insulators are both needed; add the missing kind.")
    potential = load(POTENTIAL)
    table = elements()
    crystals = sum(len(each.crystals) for each in data)

    def told(what: str, total: int) -> Callable[[int], object] | None:
        return None if progress is None else lambda n: progress(what, total, n)

    found = [
        features(potential, table, each, None if cache is None else str(cache), told("features", crystals)) for each in data
    ]
    of_gaps, of_dielectric = (examples(each, *result) for each, result in zip(data, found, strict=True))
    of_gaps = replace(of_gaps, labels={"band_gap": of_gaps.labels["dft_band_gap"]})

    names = feature_names(table)
    n_composition = n_composition_features(table)
    embedding_size = of_gaps.rows.shape[1] - len(names)
    blocks = (min(LEADING, embedding_size), n_composition, len(names) - n_composition)
    made_of: dict[str, Any] = {
        "data": list(DATA),
        "licence": LICENCE,
        "inputs": {Path(path).name: sha256(path) for path in (dielectric, gaps)},
        "embedding_size": embedding_size,
        "embedding": {**potential.identity.as_record(), "load": POTENTIAL},
        "features": names,
        "trained_by": "crystalformer-rl train-properties",
    }
    settings = NetworkSettings(per_fold=networks_per_fold, epochs=epochs)
    both, report = join(of_gaps, of_dielectric), told("networks", settings.count)
    models = train(both, of_dielectric, blocks, made_of, settings, report)
    return models, [status for _, statuses in found for status in statuses]
