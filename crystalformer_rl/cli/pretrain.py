"""`crystalformer-rl pretrain`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from crystalformer_rl.cli.console import progress, say
from crystalformer_rl.cli.options import json_option, out_option


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
@json_option
def command(tokens: str, out: str, config: str | None, checkpoint: str | None, curve: str | None, as_json: bool) -> None:
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
    from crystalformer_rl.policy.checkpoint import save_policy
    from crystalformer_rl.policy.dataset import count_batches, load_dataset, space_group_counts
    from crystalformer_rl.policy.pretraining import EpochRecord, pretrain
    from crystalformer_rl.tables.provenance import provenance

    shape, settings = _read_config(config)
    dataset = load_dataset(tokens, shape.n_max)
    state_file = Path(checkpoint or f"{out}.state")
    steps = settings.epochs * count_batches(dataset.training, settings.batch_size)
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

        policy, records = pretrain(dataset, shape, settings, checkpoint=state_file, report=epoch_done, advance=step_done)
    best = min(records, key=lambda r: r.held_out_nll)
    summary: dict[str, Any] = {
        "training_crystals": len(dataset.training),
        "held_out_crystals": len(dataset.held_out),
        "epochs": records[-1].epoch,
        "best_epoch": best.epoch,
        "held_out_nll": round(best.held_out_nll, 4),
        "minutes": round(records[-1].seconds / 60, 1),
    }
    made_by = provenance("pretrain", {"shape": shape.to_dict(), "training": vars(settings)}, [tokens])
    card = {**summary, "made_by": made_by, "space_group_counts": space_group_counts(dataset.training)}
    save_policy(out, policy, card)
    _write_curve(table, records, made_by)
    _draw_curve(table.with_suffix(".svg"), records)
    state_file.unlink(missing_ok=True)
    words = (
        f"Trained on {len(dataset.training)} crystals for {records[-1].epoch} epochs ({summary['minutes']} min); held-out negative "
        f"log-likelihood {best.held_out_nll:.3f} nats a crystal at epoch {best.epoch}. Policy: {out}"
    )
    say({**summary, "out": out}, words, as_json)


def _read_config(path: str | None) -> tuple[Any, Any]:
    """Shape and settings; wrong keys are refused by name."""
    from dataclasses import fields

    import yaml

    from crystalformer_rl.errors import InputError
    from crystalformer_rl.policy.pretraining import PretrainSettings
    from crystalformer_rl.policy.shape import PolicyShape

    small = {"num_layers": 4, "num_heads": 4, "key_size": 32, "model_size": 128, "embed_size": 32, "h0_size": 128}
    if path is None:
        return PolicyShape.from_dict(small, "the default"), PretrainSettings()
    try:
        content = yaml.safe_load(Path(path).read_text())
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; check the path of --config.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not YAML ({str(error).splitlines()[0]}); correct it.") from error
    if not isinstance(content, dict) or set(content) - {"shape", "training"}:
        raise InputError(f"{path}: expected the sections 'shape' and 'training' and no other; correct it.")
    training = content.get("training") or {}
    known = {f.name: f for f in fields(PretrainSettings)}
    for key, value in training.items():
        if key not in known:
            raise InputError(f"{path}, training: '{key}' is no setting; the settings are {', '.join(known)}.")
        if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
            raise InputError(f"{path}, training: {key} must be a number not below zero, found {value!r}.")
    return PolicyShape.from_dict({**small, **(content.get("shape") or {})}, path), PretrainSettings(**training)


def _draw_curve(path: Path, records: list[Any]) -> None:
    from crystalformer_rl.report.learning_curve import learning_curve
    from crystalformer_rl.tables.parquet import atomic_path

    columns = ([getattr(r, name) for r in records] for name in ("epoch", "training_nll", "held_out_nll", "seconds"))
    with atomic_path(path) as temporary:
        Path(temporary).write_text(learning_curve(*columns))


def _write_curve(path: Path, records: list[Any], made_by: dict[str, Any]) -> None:
    import pyarrow as pa

    from crystalformer_rl.tables.column import Column, make_table
    from crystalformer_rl.tables.parquet import write_table

    columns = (
        Column("epoch", pa.int64(), "", "passes over the training crystals"),
        Column("step", pa.int64(), "", "updates"),
        Column("training_nll", pa.float64(), "nat", "negative log-likelihood a training crystal, with dropout"),
        Column("held_out_nll", pa.float64(), "nat", "negative log-likelihood a held-out crystal, averaged weights"),
        Column("seconds", pa.float64(), "s", "time since the start"),
    )
    data = {c.name: [getattr(r, c.name) for r in records] for c in columns}
    write_table(path, make_table(columns, data), made_by)
