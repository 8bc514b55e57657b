"""What a GPU gives: sampling, relaxation, a round of fine-tuning and a training step, one line of JSON for each.

    python scripts/gpu_check.py                        # a card, under eight minutes
    python scripts/gpu_check.py --device cpu --small   # that the check itself works

Sampling and training are at the published shape with random weights, relaxation and fine-tuning with the embedded policy and
CHGNet. Relaxed energies are compared with those of the CPU on some of the crystals. A part that fails says why, and the others go on.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

EMBEDDED = ROOT / "resources" / "embedded"
COMPARED = 64
"""Crystals that the CPU relaxes too."""


def sampler(device: str, small: bool) -> dict[str, Any]:
    """Crystals a minute at the published shape."""
    from bench_sampler import published_shape, time_ours

    batch = 64 if small else 4096
    seconds, drawn = time_ours(published_shape(), batch if small else 4 * batch, batch)
    return {
        "batch": batch,
        "crystals_a_minute": round(60 / seconds),
        "mean_sites": round(float((drawn.tokens.w > 0).sum(1).mean()), 2),
    }


def relaxation(device: str, small: bool) -> dict[str, Any]:
    """Crystals a minute with CHGNet, sampled by the embedded policy; energies against the CPU's."""
    from crystalformer_rl.potential import load
    from crystalformer_rl.potential.relax_settings import BATCH_SIZE, BATCH_SIZE_GPU
    from crystalformer_rl.stages.relax import relax

    table = sampled(32 if small else 10_000)
    batch = BATCH_SIZE if device == "cpu" else BATCH_SIZE_GPU
    potential = load("chgnet", device=device)
    relax(table.slice(0, 16), potential)
    begin = time.perf_counter()
    relaxed = relax(table, potential, batch_size=batch)
    seconds = time.perf_counter() - begin
    here = relax(table.slice(0, COMPARED), load("chgnet"))
    found = [pa.array(t.column("energy").to_pylist(), pa.float64()).to_numpy(zero_copy_only=False) for t in (relaxed, here)]
    difference = np.abs(found[0][:COMPARED] - found[1])
    return {
        "crystals": table.num_rows,
        "batch": batch,
        "crystals_a_minute": round(60 * table.num_rows / seconds),
        "evaluations": sum(n or 0 for n in relaxed.column("evaluations").to_pylist()),
        "same_within_5_meV": round(float(np.nanmean(difference < 0.005)), 3),
    }


def round_of_finetuning(device: str, small: bool) -> dict[str, Any]:
    """Seconds of an update with both frameworks on the card."""
    from crystalformer_rl.finetune.finetune_settings import FinetuneSettings
    from crystalformer_rl.policy.checkpoint import load_policy
    from crystalformer_rl.policy.space_group_weights import space_group_weights
    from crystalformer_rl.rewards.reward_settings import RewardSettings
    from crystalformer_rl.scoring.scorer import open_scoring
    from crystalformer_rl.stages.finetune import finetune

    policy, card = load_policy(EMBEDDED / "policy.safetensors")
    settings = FinetuneSettings(updates=1, batch=16 if small else 4096, rounds=1)
    weights = space_group_weights(card, str(EMBEDDED / "policy.safetensors"), [], None)
    with open_scoring(RewardSettings(), "chgnet", str(EMBEDDED / "reference.parquet"), None, None, device) as (score, _):
        begin = time.perf_counter()
        done = finetune(policy, settings, score, weights)
    return {
        "batch": settings.batch,
        "seconds": round(time.perf_counter() - begin, 1),
        "stable": done.last["stable_fraction"],
    }


def training(device: str, small: bool) -> dict[str, Any]:
    """Crystals a second of pretraining at the published shape."""
    import equinox as eqx
    import jax
    import jax.numpy as jnp
    from bench_train import crystals_a_second, crystals_to_train_on

    from crystalformer_rl.policy.dataset import minibatches
    from crystalformer_rl.policy.pretraining import TrainingSettings, TrainingState, make_optimizer, make_train_step
    from crystalformer_rl.policy.shape import PolicyShape
    from crystalformer_rl.policy.transformer import Policy

    settings = TrainingSettings(batch_size=16 if small else 1000)
    policy = Policy.init(jax.random.key(0), PolicyShape())
    optimizer = make_optimizer(settings, 1000)
    state = TrainingState(policy, policy, optimizer.init(eqx.filter(policy, eqx.is_array)), jnp.zeros((), jnp.int32))
    crystals = crystals_to_train_on(64 if small else 10_000)
    batches = list(minibatches(crystals, settings.batch_size, (0,)))
    step = make_train_step(optimizer, settings)
    return {"batch": settings.batch_size, "crystals_a_second": round(crystals_a_second(step, state, batches))}


def sampled(n: int) -> pa.Table:
    """Crystals of the embedded policy."""
    from crystalformer_rl.policy.checkpoint import load_policy
    from crystalformer_rl.policy.space_group_weights import space_group_weights
    from crystalformer_rl.stages.sample import sample

    policy, card = load_policy(EMBEDDED / "policy.safetensors")
    weights = space_group_weights(card, str(EMBEDDED / "policy.safetensors"), [], None)
    return sample(policy, n, weights, batch_size=min(n, 1024)).table


PARTS: dict[str, Callable[[str, bool], dict[str, Any]]] = {
    "sampler": sampler,
    "relaxation": relaxation,
    "finetuning": round_of_finetuning,
    "training": training,
}


def main() -> None:
    """Check the device, then each part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["gpu", "cpu"], default="gpu")
    parser.add_argument("--small", action="store_true", help="so few crystals that a CPU takes a minute")
    parser.add_argument("--part", choices=list(PARTS), action="append", help="only these; repeatable")
    arguments = parser.parse_args()
    import jax
    import torch

    from crystalformer_rl.errors import InputError
    from crystalformer_rl.policy.accelerator import check_device
    from crystalformer_rl.potential.torch_device import torch_device

    try:
        check_device(arguments.device)
        torch_device(arguments.device)
    except InputError as error:
        sys.exit(f"error: {error}")
    card = torch.cuda.get_device_name() if arguments.device == "gpu" else "cpu"
    print(json.dumps({"device": card, "jax": jax.__version__, "torch": torch.__version__}), flush=True)
    for name in arguments.part or PARTS:
        begin = time.perf_counter()
        try:
            found = PARTS[name](arguments.device, arguments.small)
        except Exception as error:  # the figures of the other parts are still wanted
            traceback.print_exc()
            found = {"failed": f"{type(error).__name__}: {error}"}
        print(json.dumps({"part": name, **found, "wall_s": round(time.perf_counter() - begin, 1)}), flush=True)


if __name__ == "__main__":
    main()
