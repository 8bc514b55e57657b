"""Negative log-likelihood of a policy's training and held-out crystals, by part, in one description and in any.

    python scripts/held_out_likelihood.py POLICY TOKENS

The last line is JSON, nats a crystal: the parts and their sum for 3,000 training crystals and for all held out ones, in the
description of TOKENS, and the held-out crystals in any description.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))
from bench_augmentation import judge

from crystalformer_rl.policy.checkpoint import load_policy
from crystalformer_rl.policy.dataset import load_dataset
from crystalformer_rl.policy.token_log_probs import log_probs_of


def main(policy_path: str, tokens: str) -> None:
    policy, _ = load_policy(policy_path)
    dataset = load_dataset(tokens, policy.shape.n_max)
    result = {}
    for name, crystals in (("training", dataset.training[:3000]), ("held_out", dataset.held_out)):
        columns, _ = log_probs_of(policy, crystals)
        result[name] = {part: round(-float(np.mean(np.array(values, float))), 3) for part, values in columns.items()}
    print(json.dumps({**result, "held_out_any_description": judge(policy, dataset.held_out)["any_description"]}))


if __name__ == "__main__":
    main(*sys.argv[1:])
