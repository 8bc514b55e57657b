"""Does training on equivalent descriptions help? Held-out likelihood with and without, at the same number of steps.

Two policies of one small shape are trained on TOKENS for EPOCHS passes, one on the standard description of each
crystal, the other on descriptions drawn from all that other origins and axes of the space group give.
Held-out crystals are judged in their standard description, and by the sum over all their descriptions, which is the
probability of the crystal itself.

    python benchmarks/bench_augmentation.py TOKENS [EPOCHS]

The last line is JSON; nats a crystal, lower is better.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

import numpy as np
from scipy.special import logsumexp

from crystalformer_rl.crystal.descriptions import descriptions
from crystalformer_rl.crystal.tokens import Sites
from crystalformer_rl.policy.dataset import load_dataset
from crystalformer_rl.policy.pretrain_settings import TrainingSettings
from crystalformer_rl.policy.pretraining import pretrain
from crystalformer_rl.policy.shape import PolicyShape
from crystalformer_rl.policy.token_log_probs import log_probs_of
from crystalformer_rl.policy.transformer import Policy

SHAPE = PolicyShape(num_layers=2, num_heads=4, key_size=16, model_size=64, embed_size=32, h0_size=64)


def judge(policy: Policy, crystals: Sequence[Sites]) -> dict[str, float]:
    """Mean negative log-likelihood of the standard description, and of the crystal in any description."""
    choices = [descriptions(sites) for sites in crystals]
    standard = np.array(log_probs_of(policy, crystals)[0]["log_prob"], float)
    every = np.array(log_probs_of(policy, [d for choice in choices for d in choice])[0]["log_prob"], float)
    ends = np.cumsum([len(choice) for choice in choices])
    crystal = [logsumexp(part) for part in np.split(every, ends[:-1])]
    return {"standard": round(-float(standard.mean()), 3), "any_description": round(-float(np.mean(crystal)), 3)}


def main() -> None:
    path, epochs = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 12
    dataset = load_dataset(path, SHAPE.n_max)
    result: dict[str, object] = {"epochs": epochs, "held_out_crystals": len(dataset.held_out)}
    for name, chance in (("without", 0.0), ("with", 1.0)):
        settings = TrainingSettings(epochs=epochs, learning_rate=2e-3, dropout=0.1, augmentation=chance)
        policy, curve = pretrain(dataset, SHAPE, settings, report=lambda record: print(record, file=sys.stderr))
        result[name] = {**judge(policy, dataset.held_out), "training": round(curve[-1].training_nll, 3)}
        print(name, result[name])
    print(json.dumps(result))


if __name__ == "__main__":
    main()
