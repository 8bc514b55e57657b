"""Columns of the learning curve of pretraining."""

from __future__ import annotations

import pyarrow as pa

from crystalformer_rl.tables.column import FLOAT, Column

LEARNING_CURVE = (
    Column("epoch", pa.int64(), "", "passes over the training crystals"),
    Column("step", pa.int64(), "", "updates"),
    Column("training_nll", FLOAT, "nat", "negative log-likelihood a training crystal, with dropout"),
    Column("held_out_nll", FLOAT, "nat", "negative log-likelihood a held-out crystal, averaged weights"),
    Column("seconds", FLOAT, "s", "time since the start"),
)
