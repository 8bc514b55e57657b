"""`crystalformer-rl train-properties`."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from crystalformer_rl.cli.console import count_words, progress, say, status_counts
from crystalformer_rl.cli.options import json_option, out_option

if TYPE_CHECKING:
    from crystalformer_rl.properties import PropertyModels

DATA = (
    "dielectric constants and gaps: density-functional perturbation theory, I. Petousis et al., Sci. Data 4, 160134 (2017)",
    "gaps: Materials Project, A. Jain et al., APL Materials 1, 011002 (2013), by way of MP-20, T. Xie et al. (2021)",
    "gaps: WBM, H.-C. Wang, S. Botti, M. Marques, npj Comput. Mater. 7, 12 (2021)",
)
LICENCE = "the data are CC BY 4.0; cite the sources above where results built on them are shown"
POTENTIAL = "chgnet"
DIELECTRIC_LABELS = {"band_gap": 0.0, "eps_electronic": 1.0, "eps_total": 1.0}  # with the least value that makes sense


@click.command()
@click.option("--dielectric", required=True, type=click.Path(),
              help="Crystals with band_gap (eV), eps_electronic and eps_total (trace/3).")  # fmt: skip
@click.option(
    "--gaps", required=True, type=click.Path(), help="Crystals with dft_band_gap (eV, 0 for metals; null rows are skipped)."
)
@out_option
@click.option("--card", type=click.Path(), help="Markdown file to write the models' card to.")
@click.option("--cache", type=click.Path(), help="Folder to keep the features in, so that a second training skips them.")
@click.option(
    "--networks-per-fold", default=2, show_default=True, type=click.IntRange(1, 20), help="Networks for the gap, times five."
)
@click.option(
    "--epochs", default=40, show_default=True, type=click.IntRange(1), help="Passes over the data for each network."
)
@json_option
def command(
    dielectric: str,
    gaps: str,
    out: str,
    card: str | None,
    cache: str | None,
    networks_per_fold: int,
    epochs: int,
    as_json: bool,
) -> None:
    """Train the property models on frozen CHGNet embeddings and features of composition and structure.

    Both inputs are crystals tables (id, atomic_numbers, frac_coords, lattice) with label columns. The
    models are judged by 5-fold cross-validation split by formula; the figures go into the file's header
    and the card. About 15 ms a crystal for the features, then some ten minutes for the networks.

    \b
    Example:
      crystalformer-rl train-properties --dielectric dielectric.parquet --gaps structures.parquet \\
          --out properties.safetensors --card properties-card.md
    """
    from crystalformer_rl.properties.card import card_text
    from crystalformer_rl.tables.parquet import atomic_path

    with ExitStack() as outputs:
        # opened first, so that a place that cannot be written to is refused before the long work
        models_file = outputs.enter_context(atomic_path(out))
        card_file = outputs.enter_context(atomic_path(card)) if card else None
        models, statuses = _train(dielectric, gaps, cache, networks_per_fold, epochs)
        models.save(models_file)
        if card_file:
            card_file.write_text(card_text(models, Path(out).name, models_file.stat().st_size), encoding="utf-8")
    figures = models.card["figures"]
    summary = {"out": out, "card": card, "status": status_counts(statuses), "figures": figures}
    say(summary, _words(figures, statuses, out), as_json)


def _train(
    dielectric: str, gaps: str, cache: str | None, networks_per_fold: int, epochs: int
) -> tuple[PropertyModels, list[str]]:
    """The models, and the status of each crystal that they could have learned from."""
    from crystalformer_rl.errors import InputError
    from crystalformer_rl.potential import load
    from crystalformer_rl.properties.examples import examples, features, join, read_labelled
    from crystalformer_rl.properties.features import feature_names, n_composition_features
    from crystalformer_rl.properties.models import LEADING
    from crystalformer_rl.properties.training import NetworkSettings, elements, train
    from crystalformer_rl.tables.provenance import sha256

    data = [read_labelled(gaps, {"dft_band_gap": 0.0}), read_labelled(dielectric, DIELECTRIC_LABELS)]
    if not 0 < (data[0].labels["dft_band_gap"] > 0).sum() < len(data[0].crystals):
        raise InputError(f"{gaps}, column 'dft_band_gap': metals (0) and insulators are both needed; add the missing kind.")
    potential = load(POTENTIAL)
    table = elements()
    with progress(sum(len(each.crystals) for each in data), "features") as bar:
        found = [features(potential, table, each, cache, bar.update) for each in data]
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
    with progress(settings.count, "networks", "network") as bar:
        models = train(join(of_gaps, of_dielectric), of_dielectric, blocks, made_of, settings, bar.update)
    return models, [status for _, statuses in found for status in statuses]


def _words(figures: dict[str, Any], statuses: list[str], out: str) -> str:
    gap, eps = figures["gap"], figures["dielectric"]
    return (
        f"{count_words(statuses)}; cross-validated by formula: gaps of insulators within {gap['mae_insulators']:.3f} eV, "
        f"metal or insulator {100 * gap['balanced_accuracy']:.1f} % (balanced), ln ε_electronic within "
        f"{eps['eps_electronic']['mae_ln']:.3f}, ln ε_total within {eps['eps_total']['mae_ln']:.3f} → {out}"
    )
