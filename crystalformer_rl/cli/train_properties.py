"""`crystalformer-rl train-properties`."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from crystalformer_rl.cli.console import StageProgress, count_words, say, summarize
from crystalformer_rl.cli.options import json_option, out_option


@click.command()
@click.option("--dielectric", required=True, type=click.Path(),
              help="Crystals with band_gap (eV), eps_electronic and eps_total (trace/3).")  # fmt: skip
@click.option(
    "--gaps", required=True, type=click.Path(), help="Crystals with dft_band_gap (eV, 0 for metals; null rows are skipped)."
)
@click.option("--compositions", type=click.Path(),
              help="Compositions with n_entries, band_gap (eV), refractive_index, perhaps reserved: labels for crystals of --gaps.")  # fmt: skip
@out_option
@click.option("--card", type=click.Path(), help="Markdown file to write the models' card to.")
@click.option("--cache", type=click.Path(), help="Folder to keep features and networks in, so that work cut short goes on.")
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
    compositions: str | None,
    out: str,
    card: str | None,
    cache: str | None,
    networks_per_fold: int,
    epochs: int,
    as_json: bool,
) -> None:
    """Train the property models on frozen CHGNet embeddings and features of composition and structure.

    The first two inputs are crystals tables (id, atomic_numbers, frac_coords, lattice) with label columns.
    With --compositions, a gap or an index known of a composition with one entry labels its crystal, where
    it is the only one of that composition; formulas marked reserved are never learned from, nor is a
    twentieth of all formulas, held out by a hash. The models are judged by 5-fold cross-validation split by
    formula, and with chemical families left out; the figures go into the file's header and the card. About
    15 ms a crystal for the features, then a quarter of an hour for the networks.

    \b
    Example:
      crystalformer-rl train-properties --dielectric dielectric.parquet --gaps structures.parquet \\
          --compositions mp_compositions.parquet --out properties.safetensors --card properties-card.md
    """
    from crystalformer_rl.properties.card import card_text
    from crystalformer_rl.stages.train_properties import train_properties
    from crystalformer_rl.tables.parquet import atomic_path

    with ExitStack() as outputs:
        # opened first, so that a place that cannot be written to is refused before the long work
        models_file = outputs.enter_context(atomic_path(out))
        card_file = outputs.enter_context(atomic_path(card)) if card else None
        bars = outputs.enter_context(StageProgress())
        models, statuses = train_properties(
            dielectric,
            gaps,
            compositions,
            cache=cache,
            networks_per_fold=networks_per_fold,
            epochs=epochs,
            progress=bars.of,
        )
        models.save(models_file)
        if card_file:
            card_file.write_text(card_text(models, Path(out).name, models_file.stat().st_size), encoding="utf-8")
    figures = models.card["figures"]
    say(summarize(statuses, out, card=card, figures=figures), _words(figures, statuses, out), as_json)


def _words(figures: dict[str, Any], statuses: list[str], out: str) -> str:
    gap, eps = figures["gap"], figures["dielectric"]
    return (
        f"{count_words(statuses)}; cross-validated by formula: gaps of insulators within {gap['mae_insulators']:.3f} eV, "
        f"metal or insulator {100 * gap['balanced_accuracy']:.1f} % (balanced), ln ε_electronic within "
        f"{eps['eps_electronic']['mae_ln']:.3f}, ln ε_total within {eps['eps_total']['mae_ln']:.3f} → {out}"
    )
