"""Stable fraction of the same crystals (same seed) before and after fine-tuning, or at another temperature.

Sampled crystals are scored unrelaxed, as in fine-tuning; the error is that of the paired difference.

    python benchmarks/bench_finetune.py --trainable last_norm --learning-rate 0.01
    python benchmarks/bench_finetune.py --temperature 0.8

The last line is JSON with `base`, `after`, `gain`, `standard_error`, and `kl` (nats) of the last update.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from crystalformer_rl.config import FinetuneConfig
from crystalformer_rl.finetune.loop import run_round
from crystalformer_rl.finetune.record import STABLE_BELOW, update_row
from crystalformer_rl.finetune.rollout import Score, roll_out
from crystalformer_rl.finetune.state import first_state
from crystalformer_rl.hull import Hull
from crystalformer_rl.policy.checkpoint import load_policy
from crystalformer_rl.policy.constraints import Behaviour
from crystalformer_rl.policy.transformer import Policy
from crystalformer_rl.potential.client import PotentialWorker
from crystalformer_rl.rewards import StabilityReward
from crystalformer_rl.scoring import stability_score

EMBEDDED = Path(__file__).resolve().parent.parent / "resources" / "embedded"
SEED, BATCH = 99, 64


def stable(policy: Policy, weights: list[float], score: Score, n: int, temperature: float = 1.0) -> np.ndarray:
    """Which of the first `n` crystals of a fixed seed are stable as sampled."""
    found = []
    for start in range(0, n, BATCH):
        rollout = roll_out(policy, SEED, range(start, start + BATCH), weights, Behaviour.make(temperature))
        scores = score(rollout.sites, rollout.status)
        ok = np.array([status == "ok" for status in scores.status])
        found.append(ok & ~scores.suspect & (scores.e_above_hull <= STABLE_BELOW))
    return np.concatenate(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trainable", default="last_norm", choices=["all", "norms_and_biases", "last_norm"])
    parser.add_argument("--learning-rate", type=float, default=0.01)
    parser.add_argument("--tau", type=float, default=0.05)
    parser.add_argument("--updates", type=int, default=20)
    parser.add_argument("--crystals", type=int, default=512)
    parser.add_argument("--temperature", type=float, help="Sample the base policy so, instead of fine-tuning it.")
    options = parser.parse_args()
    policy, card = load_policy(EMBEDDED / "policy.safetensors")
    weights, kl = card["space_group_counts"], 0.0
    with PotentialWorker("chgnet") as worker:
        score = stability_score(worker, StabilityReward(Hull.from_reference(EMBEDDED / "reference.parquet")))
        before = stable(policy, weights, score, options.crystals)
        if options.temperature is not None:
            after = stable(policy, weights, score, options.crystals, options.temperature)
        else:
            settings = FinetuneConfig(
                updates=options.updates, trainable=options.trainable, learning_rate=options.learning_rate, tau=options.tau
            )
            start = first_state(policy, settings.learning_rate)
            end, updates = run_round(start, policy, settings, score, weights, 0)
            after, kl = stable(end.policy, weights, score, options.crystals), update_row(updates[-1], 1)["kl"]
    gain = after.astype(float) - before
    error = gain.std() / len(gain) ** 0.5
    figures = {"base": before.mean(), "after": after.mean(), "gain": gain.mean(), "standard_error": error, "kl": kl}
    print(json.dumps({name: round(float(value), 4) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
