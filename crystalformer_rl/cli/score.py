"""`crystalformer-rl score`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from crystalformer_rl.cli.console import count_words, progress, say, summarize
from crystalformer_rl.cli.crystals_argument import read_told
from crystalformer_rl.cli.options import (
    device_option,
    given_stability,
    json_option,
    models_option,
    out_folder_option,
    potential_option,
    reference_option,
    stability_option,
)


@click.command("score")
@click.argument("crystals", nargs=-1, required=True, type=click.Path())
@reference_option
@potential_option()
@models_option
@stability_option
@device_option
@click.option("--config", type=click.Path(), help="Configuration of a run; its sections `reward` and `evaluate` are used.")
@click.option(
    "--workers", default=1, show_default=True, type=click.IntRange(1, 256), help="Workers that score side by side."
)
@out_folder_option
@json_option
def command(
    crystals: tuple[str, ...],
    reference: str,
    potential_name: str,
    models: str | None,
    stability: str | None,
    device: str,
    config: str | None,
    workers: int,
    out: str,
    as_json: bool,
) -> None:
    """What crystals of anybody's earn by the reward of a run, as they are.

    CRYSTALS: as everywhere. The reward is that of fine-tuning: without --config crystals earn by being stable, and more if
    they are new. Writes rollouts.parquet (every crystal with its figures and each term of its reward; what fine-tuning would say of its policy is null)
    and updates.parquet (a row a batch) into OUT. `select` takes the best of them.

    \b
    Example:
      crystalformer-rl score proposals.parquet --reference reference.parquet --config config.yaml --out scored
    """
    from crystalformer_rl.config.loading import load_config
    from crystalformer_rl.config.run import RunSettings
    from crystalformer_rl.resources.registry import embedded_folder
    from crystalformer_rl.rewards.algebra import Reward
    from crystalformer_rl.rewards.scored_batch import PROPERTIES, STABILITY
    from crystalformer_rl.scoring.scorer import open_scoring
    from crystalformer_rl.stages.score import score
    from crystalformer_rl.tables.parquet import write_table
    from crystalformer_rl.tables.provenance import provenance

    run = load_config(config) if config else RunSettings()
    needs = Reward.of(run.reward).needs
    models = (models or str(embedded_folder() / "properties.safetensors")) if PROPERTIES in needs else None
    learned = given_stability(stability) if STABILITY in needs else None
    table = read_told(crystals)
    inputs = [*crystals, *(path for path in (reference, models, learned, *run.reward.files) if path)]
    parameters = {"reward": run.reward.model_dump(mode="json"), "stable_below": run.evaluate.stable_below}
    with (
        open_scoring(
            run.reward, potential_name, reference, models, None, device,
            stability=learned, stable_below=run.evaluate.stable_below, workers=workers,
        ) as (scorer, identity),
        progress(table.num_rows, "score") as bar,
    ):  # fmt: skip
        made_by = provenance("score", parameters, inputs, potential=identity.as_record())
        scorer.advance = bar.update

        def told(row: dict[str, Any]) -> None:
            bar.write(
                f"batch {row['update']}: reward {row['reward_mean']:.3f}, stable {row['stable_fraction']:.0%}, "
                f"failed {row['failed_fraction']:.0%}, {row['evaluations']} evaluations",
                file=sys.stderr,
            )

        found = score(table, scorer, stable_below=run.evaluate.stable_below, source=", ".join(crystals), report=told)
    folder = Path(out)
    write_table(folder / "rollouts.parquet", found.rollouts, made_by)
    write_table(folder / "updates.parquet", found.updates, made_by)
    statuses = found.rollouts.column("status").to_pylist()
    evaluations = sum(found.updates.column("evaluations").to_pylist())
    rewards = found.rollouts.column("reward").to_pylist()
    words = (
        f"{len(statuses)} crystals ({count_words(statuses)}): mean reward {sum(rewards) / len(rewards):.3f}, best "
        f"{max(rewards):.3f}; {evaluations} evaluations. Files: {out}"
    )
    say(summarize(statuses, out, evaluations=evaluations, reward_max=max(rewards)), words, as_json)
