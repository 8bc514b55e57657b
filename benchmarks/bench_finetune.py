"""What fine-tuning gives on crystals as sampled, and what it was bought with: the same seed before and after.

    python benchmarks/bench_finetune.py --updates 20 --seed 0
    python benchmarks/bench_finetune.py --config workflow/presets/ehull-small.yaml --updates 20
    python benchmarks/bench_finetune.py --updates 0                       # only narrower coordinates and lattices
    python benchmarks/bench_finetune.py --set algorithm=ppo tau=0.05

Evaluation draws from a seed of its own, and judges crystals as drawn, whatever `reward.relax` allows in fine-tuning. Prints each update, then for
`base` and `after` the stable fraction, that of a new kind and that of a new formula, effective templates and elements, and shares of chemistries; at last
a JSON line with the odds ratio of the stable fraction and its 95 % interval.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from crystalformer_rl.config.loading import load_config
from crystalformer_rl.config.run import RunSettings
from crystalformer_rl.crystal.tokens import Sites
from crystalformer_rl.finetune.loop import Update, run_round
from crystalformer_rl.finetune.record import update_row
from crystalformer_rl.finetune.rollout import roll_out
from crystalformer_rl.finetune.scored import coverage, stable
from crystalformer_rl.finetune.state import first_state
from crystalformer_rl.intervals import odds_ratio
from crystalformer_rl.policy.checkpoint import load_policy, save_policy
from crystalformer_rl.policy.constraints import Behaviour
from crystalformer_rl.policy.transformer import Policy
from crystalformer_rl.rewards.reward_settings import WalkSettings
from crystalformer_rl.scoring.scorer import Scorer, open_scoring

EMBEDDED = Path(__file__).resolve().parent.parent / "resources" / "embedded"
SEED, BATCH = 99, 256
SHOWN = [
    "update",
    "reward_mean",
    "stable_fraction",
    "sun_fraction",
    "known_fraction",
    "kl",
    "kl_needed",
    "effective_templates",
    "effective_elements",
    "oxide_fraction",
    "intermetallic_fraction",
    "loss",
]


def measured(policy: Policy, weights: list[float], score: Scorer, n: int, threshold: float) -> dict[str, float]:
    """Figures of the first `n` crystals of a fixed seed as sampled."""
    good: list[bool] = []
    known: list[np.ndarray] = []
    sites: list[Sites | None] = []
    for start in range(0, n, BATCH):
        rollout = roll_out(policy, SEED, range(start, min(start + BATCH, n)), weights, Behaviour.make())
        scores = score(rollout.sites, rollout.status)
        good += stable(scores, threshold).tolist()
        known.append(score.knows(rollout.sites))
        sites += rollout.sites
    fine, (old, old_formula) = np.array(good), np.concatenate(known).T
    return {
        "stable": fine.mean(),
        "stable_new": (fine & ~old).mean(),
        "stable_new_formula": (fine & ~old_formula).mean(),
        "known": old.mean(),
        **coverage(sites),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", help="Configuration with the sections finetune and reward; config.yaml's defaults else.")
    parser.add_argument("--updates", type=int, default=20)
    parser.add_argument("--crystals", type=int, default=1024, help="Of the evaluation.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="Settings of the section finetune.")
    parser.add_argument("--out", help="Where to write the fine-tuned policy.")
    options = parser.parse_args()
    run = load_config(options.config) if options.config else RunSettings()
    changes: dict[str, Any] = {key: yaml.safe_load(value) for key, _, value in (text.partition("=") for text in options.set)}
    settings = run.finetune.model_copy(update={**changes, "updates": options.updates})
    threshold = run.evaluate.stable_below
    policy, card = load_policy(EMBEDDED / "policy.safetensors")
    groups = run.constraints.space_groups
    weights = [float(g in groups) for g in range(1, 231)] if groups else card["space_group_counts"]
    files = (str(EMBEDDED / "reference.parquet"), str(EMBEDDED / "properties.safetensors"))
    learned = str(EMBEDDED / "stability.safetensors")
    with open_scoring(run.reward, "chgnet", *files, None, stability=learned, ahead=settings.leads) as (score, _):
        begin = time.perf_counter()

        def report(update: Update) -> None:
            row = update_row(update, 1, threshold)
            print(
                json.dumps({name: round(row[name], 3) for name in SHOWN}), f"{time.perf_counter() - begin:.0f} s", flush=True
            )

        end, _ = run_round(
            first_state(policy, settings), policy, settings, score, weights, options.seed, report, knows=score.knows,
            stable_below=threshold,
        )  # fmt: skip
        seconds = time.perf_counter() - begin
    as_drawn = run.reward.model_copy(update={"relax": WalkSettings()})
    with open_scoring(as_drawn, "chgnet", *files, None, stability=learned) as (score, _):
        found = {}
        for name, tuned in (("base", policy), ("after", end.result(settings))):
            found[name] = measured(tuned, weights, score, options.crystals, threshold)
            print(name, json.dumps({key: round(float(value), 3) for key, value in found[name].items()}), flush=True)
    n = options.crystals
    after, before = ((round(found[name]["stable"] * n), n) for name in ("after", "base"))
    ratio = odds_ratio(after, before)
    print(
        json.dumps(
            {
                "odds_ratio": [None if v is None else round(v, 2) for v in (ratio.value, ratio.low, ratio.high)],
                "seconds": round(seconds),
                "seed": options.seed,
            }
        )
    )
    if options.out:
        save_policy(options.out, end.result(settings), card)


if __name__ == "__main__":
    main()
