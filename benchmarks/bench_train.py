"""Speed of pretraining against the published training step, at the published shape, in one process.

The published step pads every crystal to 21 places, 105 tokens. Ours takes batches of one length and leaves out what follows
the end. Both run the same weights, loss, dropout and optimizer on crystals of the embedded reference.

    make bench-train
    python benchmarks/bench_train.py [--batch 100] [--crystals 3000]

The last line is JSON: `ratio` of crystals a second (ours over padded, compilation apart), both of them, batch, mean sites, peak
memory (GB) and `agreement`, the largest difference of the two losses of a batch without dropout, nats a crystal.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from crystalformer_rl.crystal.tokens import Sites, sites_from_table
from crystalformer_rl.policy.batch import make_batch
from crystalformer_rl.policy.dataset import Minibatch, minibatches
from crystalformer_rl.policy.pretraining import (
    TrainingSettings,
    TrainingState,
    loss,
    make_optimizer,
    make_train_step,
)
from crystalformer_rl.policy.shape import PolicyShape
from crystalformer_rl.policy.transformer import Policy
from crystalformer_rl.tables.parquet import read_table

REFERENCE = Path(__file__).resolve().parent.parent / "resources" / "embedded" / "reference.parquet"


def crystals_to_train_on(n: int) -> list[Sites]:
    """`n` crystals of the embedded pretraining set, drawn once."""
    table = read_table(REFERENCE)
    rows = [
        s
        for s, role in zip(sites_from_table(table, "reference"), table["role"].to_pylist(), strict=True)
        if role == "pretraining" and s
    ]
    chosen = np.random.default_rng(0).choice(len(rows), n, replace=False)
    return [rows[i] for i in chosen]


def crystals_a_second(step: Callable[..., Any], state: TrainingState, batches: Sequence[Minibatch]) -> float:
    """Of whole steps over `batches`, each compiled before."""
    for places in {batch.tokens.w.shape[1] for batch in batches}:
        first = next(batch for batch in batches if batch.tokens.w.shape[1] == places)
        jax.block_until_ready(step(state, *first)[1])
    begin = time.perf_counter()
    for batch in batches:
        state, value = step(state, *batch)
    jax.block_until_ready(value)
    return sum(float(batch.weight.sum()) for batch in batches) / (time.perf_counter() - begin)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--crystals", type=int, default=3000, help="that ours trains on")
    arguments = parser.parse_args()
    settings = TrainingSettings(batch_size=arguments.batch)
    crystals = crystals_to_train_on(arguments.crystals)
    policy = Policy.init(jax.random.key(0), PolicyShape())
    optimizer = make_optimizer(settings, 1000)
    state = TrainingState(policy, policy, optimizer.init(eqx.filter(policy, eqx.is_array)), jnp.zeros((), jnp.int32))
    step = make_train_step(optimizer, settings)

    padded = [Minibatch(make_batch(crystals[: arguments.batch], 21), np.ones(arguments.batch, np.float32))]
    ours = crystals_a_second(step, state, list(minibatches(crystals, arguments.batch, (0,))))
    print(f"ours: {ours:.1f} crystals a second", flush=True)
    theirs = crystals_a_second(step, state, padded)

    short = next(b for b in minibatches(crystals, arguments.batch, (0,)) if b.weight.all())
    evaluate = eqx.filter_jit(loss)
    wide = short.tokens._replace(
        **{name: jnp.pad(getattr(short.tokens, name), _to_21(getattr(short.tokens, name))) for name in ("w", "a", "x")}
    )
    difference = abs(
        float(evaluate(policy, short.tokens, jnp.asarray(short.weight)))
        - float(evaluate(policy, wide, jnp.asarray(short.weight)))
    )
    result = {
        "ratio": round(ours / theirs, 2),
        "crystals_a_second": round(ours, 2),
        "padded_crystals_a_second": round(theirs, 2),
        "batch": arguments.batch,
        "crystals": arguments.crystals,
        "mean_sites": round(float(np.mean([len(s) for s in crystals])), 2),
        "shape": policy.shape.to_dict(),
        "dropout": settings.dropout,
        "peak_memory_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2),
        "device": jax.devices()[0].device_kind,
        "agreement": difference / arguments.batch,
    }
    print(json.dumps(result))


def _to_21(array: Any) -> list[tuple[int, int]]:
    return [(0, 0), (0, 21 - array.shape[1]), *[(0, 0)] * (array.ndim - 2)]


if __name__ == "__main__":
    main()
