"""What helps a policy to know crystals that it was not shown? One arm at a quarter of the embedded policy's size, or at its size.

    python benchmarks/bench_pretraining.py TOKENS [--relatives 0] [--share 0.25] [--recovered all|accepted|none] [--without wbm] [--large] [--work DIR]

TOKENS are those of all that the policy is trained on: known crystals, recovered structures (ids recovered-…) with their weights. Held-out crystals are the
same in every arm. The last line is JSON: negative log-likelihood of the held-out crystals in parts, nats a crystal, lower is better.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from crystalformer_rl.policy.dataset import load_dataset
from crystalformer_rl.policy.pretrain_settings import TrainingSettings
from crystalformer_rl.policy.pretraining import pretrain
from crystalformer_rl.policy.shape import PolicyShape
from crystalformer_rl.policy.token_log_probs import log_probs_of
from crystalformer_rl.tables.parquet import read_table, write_table

RECOVERED = "recovered-"
ACCEPTED = 0.75  # as recover.accepted_from


def chosen(table: pa.Table, recovered: str, without: str, share: float) -> pa.Table:
    """The rows of an arm; a share takes the crystals whose id's digest falls into it, so that the quarter is in the half."""
    table = table.filter(pc.equal(table.column("status"), "ok"))
    weights = table.column("weight").to_pylist() if "weight" in table.column_names else [None] * table.num_rows
    kept, weighed = [], []
    for name, weight in zip(table.column("id").to_pylist(), weights, strict=True):
        found = name.startswith(RECOVERED)
        allowed = not found or recovered == "all" or (recovered == "accepted" and (weight or 0) >= ACCEPTED)
        digest = int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) / 16**8
        kept.append(allowed and digest < share and not (without and name.startswith(without)))
        weighed.append(1.0 if recovered == "accepted" or weight is None else weight)
    columns = {name: table.column(name) for name in table.column_names} | {"weight": pa.array(weighed, pa.float64())}
    return pa.table(columns).filter(pa.array(kept))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tokens")
    parser.add_argument("--relatives", type=int, default=16)
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--recovered", choices=["all", "accepted", "none"], default="all")
    parser.add_argument("--without", default="", help="leave out crystals whose id begins so")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--work", type=Path, default=Path("work/bench_pretraining"))
    parser.add_argument("--large", action="store_true", help="shape and settings of the embedded policy")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    arm = {name: value for name, value in vars(arguments).items() if name not in ("tokens", "work")}
    key = hashlib.sha256(json.dumps(arm, sort_keys=True).encode()).hexdigest()[:12]

    small = PolicyShape(num_layers=3, num_heads=4, key_size=16, model_size=64, embed_size=32, h0_size=64)
    large = PolicyShape(num_layers=4, num_heads=4, key_size=32, model_size=128, embed_size=32, h0_size=128)
    shape = replace(large if arguments.large else small, relatives=arguments.relatives)
    rate, dropout = (1.5e-3, 0.2) if arguments.large else (2e-3, 0.1)
    table = read_table(arguments.tokens)
    held_out = load_dataset(arguments.tokens, shape.n_max).held_out
    part = arguments.work / f"{key}.parquet"
    write_table(part, chosen(table, arguments.recovered, arguments.without, arguments.share), {})
    dataset = load_dataset(part, shape.n_max)._replace(held_out=held_out)
    settings = TrainingSettings(epochs=arguments.epochs, learning_rate=rate, dropout=dropout, weight_decay=0.05)
    policy, curve = pretrain(dataset, shape, settings, checkpoint=arguments.work / f"{key}.state",
                             report=lambda record: print(record, file=sys.stderr))  # fmt: skip
    parts = {
        name: round(-float(np.mean(np.array(values, float))), 3)
        for name, values in log_probs_of(policy, held_out)[0].items()
    }
    counted = len(dataset.training) if dataset.weights is None else round(float(dataset.weights.sum()))
    print(json.dumps({**arm, "crystals": len(dataset.training), "counted": counted, "held_out": parts,
                      "training": round(curve[-1].training_nll, 3)}))  # fmt: skip


if __name__ == "__main__":
    main()
