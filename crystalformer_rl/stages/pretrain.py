"""Train a policy on tokens by maximum likelihood."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from crystalformer_rl.policy.dataset import Dataset, count_batches, space_group_counts
from crystalformer_rl.policy.pretrain_settings import ShapeSettings, TrainingSettings
from crystalformer_rl.policy.pretraining import EpochRecord
from crystalformer_rl.policy.pretraining import pretrain as train
from crystalformer_rl.policy.shape import PolicyShape
from crystalformer_rl.policy.transformer import Policy
from crystalformer_rl.tables.column import table_of_rows
from crystalformer_rl.tables.pretrain_columns import LEARNING_CURVE


class Pretrained(NamedTuple):
    """policy: the averaged weights with the best held-out likelihood; card: data and time; curve: the LEARNING_CURVE table."""

    policy: Policy
    card: dict[str, Any]
    curve: pa.Table


def policy_shape(settings: ShapeSettings) -> PolicyShape:
    """The network's shape as the settings have it."""
    return PolicyShape(**settings.model_dump())


def steps_of(dataset: Dataset, training: TrainingSettings) -> int:
    """Steps that training takes at most."""
    return training.epochs * count_batches(dataset.training, training.batch_size)


def pretrain(
    dataset: Dataset,
    shape: ShapeSettings,
    training: TrainingSettings,
    *,
    checkpoint: Path | None = None,
    report: Callable[[EpochRecord], None] | None = None,
    advance: Callable[[float], object] | None = None,
) -> Pretrained:
    """Train a policy on a data set that `policy.dataset.load_dataset` read.

    checkpoint: where the whole training state is written after each epoch, and gone on from. `report` is called after each
    epoch, `advance` with the running loss (nats a crystal) after each step. Raises InputError for a checkpoint of other settings.
    """
    policy, records = train(dataset, policy_shape(shape), training, checkpoint=checkpoint, report=report, advance=advance)
    best = min(records, key=lambda record: record.held_out_nll)
    card = {
        "training_crystals": len(dataset.training),
        "held_out_crystals": len(dataset.held_out),
        "epochs": records[-1].epoch,
        "best_epoch": best.epoch,
        "held_out_nll": round(best.held_out_nll, 4),
        "minutes": round(records[-1].seconds / 60, 1),
        "space_group_counts": space_group_counts(dataset.training, dataset.weights),
    }
    return Pretrained(policy, card, table_of_rows(LEARNING_CURVE, [record._asdict() for record in records]))
