"""`crystalformer-rl pretrain`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from crystalformer_rl.cli.console import progress, say
from crystalformer_rl.cli.options import device_option, json_option, out_option


@click.command("pretrain")
@click.argument("tokens", type=click.Path())
@out_option
@click.option("--config", type=click.Path(), help="YAML with `shape:` and `training:` sections; see the example below.")
@click.option(
    "--checkpoint", type=click.Path(), help="Training state, written each epoch and resumed from.  [default: OUT.state]"
)
@click.option(
    "--curve",
    type=click.Path(),
    help="Learning curve, Parquet, and a picture of the same name.  [default: OUT with .curve.parquet and .curve.svg]",
)
@device_option
@json_option
def command(
    tokens: str, out: str, config: str | None, checkpoint: str | None, curve: str | None, device: str, as_json: bool
) -> None:
    """Train a policy on TOKENS (of `tokenize`) by maximum likelihood.

    A twentieth of the formulas is held out; the weights (averaged) with the best held-out
    likelihood are kept. Killed and called again, training goes on where it was.
    The file holds weights, shape and a card of data and time; the learning curve goes beside it, as a table and a picture,
    the picture anew after each epoch.

    \b
    Example of a config file, with the defaults:
      shape: {num_layers: 4, num_heads: 4, key_size: 32, model_size: 128, embed_size: 32, h0_size: 128}
      training: {epochs: 50, minutes: 0, batch_size: 64, learning_rate: 1.0e-3, dropout: 0.1, seed: 0}
    """
    from crystalformer_rl.config.loading import load_section
    from crystalformer_rl.policy.accelerator import check_device
    from crystalformer_rl.policy.checkpoint import save_policy
    from crystalformer_rl.policy.dataset import load_dataset
    from crystalformer_rl.policy.pretrain_settings import PretrainFile
    from crystalformer_rl.policy.pretraining import EpochRecord
    from crystalformer_rl.stages.pretrain import policy_shape, pretrain, steps_of
    from crystalformer_rl.tables.parquet import write_table
    from crystalformer_rl.tables.provenance import provenance

    check_device(device)
    settings = load_section(config, PretrainFile) if config else PretrainFile()
    shape = policy_shape(settings.shape)
    dataset = load_dataset(tokens, shape.n_max)
    state_file = Path(checkpoint or f"{out}.state")
    steps = steps_of(dataset, settings.training)
    table = Path(curve) if curve else Path(out).with_suffix(".curve.parquet")
    seen: list[EpochRecord] = []
    with progress(steps, "pretrain", "step") as bar:

        def step_done(nll: float) -> None:
            bar.update(1)
            bar.set_postfix(nll=f"{nll:.2f}")

        def epoch_done(record: EpochRecord) -> None:
            click.echo(
                f"epoch {record.epoch}: training {record.training_nll:.3f}, held out {record.held_out_nll:.3f} nats a crystal, "
                f"{record.seconds / 60:.1f} min",
                err=True,
            )
            seen.append(record)
            _draw_curve(table.with_suffix(".svg"), seen)

        policy, card, learned = pretrain(
            dataset, settings.shape, settings.training, checkpoint=state_file, report=epoch_done, advance=step_done
        )
    parameters = {"shape": shape.to_dict(), "training": settings.training.model_dump()}
    made_by = provenance("pretrain", parameters, [tokens])
    save_policy(out, policy, {**card, "made_by": made_by})
    write_table(table, learned, made_by)
    state_file.unlink(missing_ok=True)
    summary: dict[str, Any] = {key: value for key, value in card.items() if key != "space_group_counts"}
    words = (
        f"Trained on {card['training_crystals']} crystals for {card['epochs']} epochs ({card['minutes']} min); held-out negative "
        f"log-likelihood {card['held_out_nll']:.3f} nats a crystal at epoch {card['best_epoch']}. Policy: {out}"
    )
    say({**summary, "out": out}, words, as_json)


def _draw_curve(path: Path, records: list[Any]) -> None:
    from crystalformer_rl.plotting.learning_curve import learning_curve
    from crystalformer_rl.tables.parquet import atomic_path

    columns = ([getattr(r, name) for r in records] for name in ("epoch", "training_nll", "held_out_nll", "seconds"))
    with atomic_path(path) as temporary:
        Path(temporary).write_text(learning_curve(*columns))
