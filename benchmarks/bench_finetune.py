"""Stable fraction of the same crystals (same seed) before and after fine-tuning, or at another temperature.

Sampled crystals are scored unrelaxed, as in fine-tuning; the error is that of the paired difference.

    python benchmarks/bench_finetune.py --config workflow/presets/ehull-small.yaml --updates 20
    python benchmarks/bench_finetune.py --temperature 0.8

The last line is JSON with `base`, `after`, `gain`, `standard_error`, `ratio`, and `kl` (nats) and `seconds` an update.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np

from crystalformer_rl.config.loading import load_config
from crystalformer_rl.config.run import RunSettings
from crystalformer_rl.finetune.loop import Update, run_round, stable
from crystalformer_rl.finetune.record import update_row
from crystalformer_rl.finetune.rollout import Score, roll_out
from crystalformer_rl.finetune.state import first_state
from crystalformer_rl.policy.checkpoint import load_policy
from crystalformer_rl.policy.constraints import Behaviour
from crystalformer_rl.policy.transformer import Policy
from crystalformer_rl.scoring.score import open_scoring

EMBEDDED = Path(__file__).resolve().parent.parent / "resources" / "embedded"
SEED, BATCH = 99, 64


def stable_of(
    policy: Policy, weights: list[float], score: Score, n: int, threshold: float, temperature: float = 1.0
) -> np.ndarray:
    """Which of the first `n` crystals of a fixed seed are at most `threshold` (eV/atom) above the hull as sampled."""
    found = []
    for start in range(0, n, BATCH):
        rollout = roll_out(policy, SEED, range(start, start + BATCH), weights, Behaviour.make(temperature))
        found.append(stable(score(rollout.sites, rollout.status), threshold))
    return np.concatenate(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", help="Configuration with the sections finetune and reward; config.yaml's defaults else.")
    parser.add_argument("--updates", type=int, default=20)
    parser.add_argument("--crystals", type=int, default=512)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--temperature", type=float, help="Sample the base policy so, instead of fine-tuning it.")
    options = parser.parse_args()
    run = load_config(options.config) if options.config else RunSettings()
    settings = run.finetune.model_copy(update={"updates": options.updates})
    threshold = run.evaluate.stable_below
    policy, card = load_policy(EMBEDDED / "policy.safetensors")
    groups = settings.space_groups
    weights = [float(g in groups) for g in range(1, 231)] if groups else card["space_group_counts"]
    files = (str(EMBEDDED / "reference.parquet"), str(EMBEDDED / "properties.safetensors"))
    figures: dict[str, float] = {}
    with open_scoring(run.reward, "chgnet", *files, None) as (score, _):
        before = stable_of(policy, weights, score, options.crystals, threshold)
        if options.temperature is not None:
            after = stable_of(policy, weights, score, options.crystals, threshold, options.temperature)
        else:
            begin = time.perf_counter()

            def report(update: Update) -> None:
                row = update_row(update, 1, threshold)
                print(json.dumps({name: round(row[name], 4) for name in ("update", "reward_mean", "stable_fraction", "sun_fraction",
                                                                         "unique_fraction", "kl", "clip_fraction")}), flush=True)  # fmt: skip

            end, updates = run_round(
                first_state(policy, settings), policy, settings, score, weights, options.seed, report, stable_below=threshold
            )
            figures = {"kl": updates[-1].divergence.plain, "seconds": (time.perf_counter() - begin) / options.updates}
            after = stable_of(end.policy, weights, score, options.crystals, threshold)
    gain = after.astype(float) - before
    error = gain.std() / len(gain) ** 0.5
    figures |= {"base": before.mean(), "after": after.mean(), "gain": gain.mean(), "standard_error": error}
    figures["ratio"] = after.mean() / max(before.mean(), 1e-9)
    print(json.dumps({name: round(float(value), 4) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
