"""How well the space group of a held-out compound is told from its formula, and whether the policy's own samples tell it better.

    python scripts/space_groups_of_formulas.py [--policy POLICY] [--sampled 60]

Compounds: those that `benchmarks/bench_predict.py` draws its own from. Log-likelihoods of the true group in nats a compound. With --sampled, for that many
compounds which the benchmark does not use, 16 constrained samples in each of the likeliest groups: what p(formula | g) adds that they
estimate, how often a sample has the true sites, and in which part of the compounds 200 samples are expected to have them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from crystalformer_rl.crystal.prototype import kind
from crystalformer_rl.policy.checkpoint import load_policy
from crystalformer_rl.policy.request import Request
from crystalformer_rl.policy.sampler import sample
from crystalformer_rl.prediction.formula_groups import space_group_probabilities
from crystalformer_rl.prediction.policy_candidates import MOST_ATOMS
from crystalformer_rl.recovery.prototypes import Prototypes
from crystalformer_rl.recovery.targets import reduced
from crystalformer_rl.resources.registry import embedded_folder

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

from bench_predict import compounds

SAMPLES, GROUPS, RUN = 16, 16, 200
BENCHMARK = 60  # compounds that are not used to choose anything
EXPONENTS = (0.0, 0.1, 0.2, 0.5, 1.0)
CHOICES = (1, 4, 16)  # samples among which importance resampling chooses one

Row = dict[str, Any]


def log_mean_exp(values: np.ndarray) -> np.ndarray:
    """Over the last axis."""
    top = values.max(-1)
    return top + np.log(np.exp(values - top[..., None]).mean(-1))


def told(name: str, chances: Sequence[float]) -> None:
    logs = np.log(chances)
    print(f"{name:44s} mean {logs.mean():6.2f}   median {np.median(logs):6.2f}")


def by_formula(rows: list[Row], prototypes: Prototypes, trained: np.ndarray) -> list[np.ndarray]:
    """Print how likely each law makes the true groups; p(g | formula) of each compound."""
    seen = trained / trained.sum()
    places = [int(row["space_group"]) - 1 for row in rows]
    likely = [space_group_probabilities(reduced(row["formula"]), prototypes, trained) for row in rows]
    frequent = [space_group_probabilities(reduced(row["formula"]), prototypes, trained, sharpness=0.0) for row in rows]
    told("as in training", [seen[place] for place in places])
    told("frequencies of the stoichiometry, smoothed", [p[place] for p, place in zip(frequent, places, strict=True)])
    told("weighted by likeness", [p[place] for p, place in zip(likely, places, strict=True)])
    return likely


def sampled(policy: Any, row: Row, likely: np.ndarray) -> tuple[np.ndarray, list[int], np.ndarray, np.ndarray]:
    """Which groups can hold the formula, (230,); the likeliest of them and the true one; log-weights (groups, samples) of constrained samples; which have the true sites."""
    behaviour, able = Request(formula=row["formula"], max_atoms=MOST_ATOMS).plan(likely.tolist(), policy.shape.n_max)
    order = [int(g) + 1 for g in np.argsort(-np.array(able), kind="stable")[:GROUPS] if able[g] > 0]
    groups = list(dict.fromkeys([*order, int(row["space_group"])]))
    drawn = np.repeat(groups, SAMPLES)
    found = sample(policy, 0, range(len(drawn)), able, behaviour, groups=drawn)
    own = kind(row["space_group"], row["wyckoff"], row["elements"])
    right = [kind(int(g), w[w > 0], a[w > 0]) == own for g, w, a in zip(drawn, found.tokens.w, found.tokens.a, strict=True)]
    weights = np.asarray(found.log_prob, float) - np.asarray(found.behaviour_log_prob, float)
    return np.array(able) > 0, groups, weights.reshape(-1, SAMPLES), np.array(right).reshape(-1, SAMPLES)


def resampled(weights: np.ndarray, right: np.ndarray, choices: int, random: np.random.Generator) -> float:
    """How often one of so many samples, chosen by weight, has the true sites."""
    if choices == 1:
        return float(right.mean())
    total = 0.0
    for _ in range(200):
        some = random.choice(len(weights), choices, replace=False)
        shares = np.exp(weights[some] - weights[some].max())
        total += float((shares * right[some]).sum() / shares.sum())
    return total / 200


def by_samples(policy: Any, rows: list[Row], likely: list[np.ndarray], trained: np.ndarray) -> None:
    """Print what the policy's samples add."""
    chances: dict[float, list[float]] = {exponent: [] for exponent in EXPONENTS}
    parts: dict[str, list[float]] = {}
    hits: dict[int, list[float]] = {choices: [] for choices in CHOICES}
    random = np.random.default_rng(0)
    for row, p in zip(tqdm(rows, disable=not sys.stderr.isatty()), likely, strict=True):
        able, groups, weights, right = sampled(policy, row, p)
        place = groups.index(int(row["space_group"]))
        ours, seen = (found * able / (found * able).sum() for found in (p, trained))
        prior = np.array([ours[g - 1] for g in groups])
        for exponent in EXPONENTS:
            log = np.log(prior) + exponent * log_mean_exp(weights)
            shares = np.exp(log - log.max())
            chances[exponent].append(float(shares[place] / shares.sum() * prior.sum()))
        for choices in CHOICES:
            hits[choices].append(resampled(weights[place], right[place], choices, random))
            name = f"by p(g | formula), one of {choices}" if choices > 1 else "by p(g | formula)"
            parts.setdefault(name, []).append(1 - (1 - ours[groups[place] - 1] * hits[choices][-1]) ** RUN)
        parts.setdefault("as in training", []).append(1 - (1 - seen[groups[place] - 1] * hits[1][-1]) ** RUN)
    for exponent, found in chances.items():
        told(f"times p(formula | g) to the power {exponent:g}", found)
    for choices, rate in hits.items():
        print(f"samples of the true group with the true sites, one chosen of {choices}: {np.mean(rate):.3f}")
    for name, shares in parts.items():
        print(f"compounds whose true sites are expected among {RUN} samples, groups {name}: {np.mean(shares):.3f}")


def main() -> None:
    """Print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policy", default=str(embedded_folder() / "policy.safetensors"))
    parser.add_argument("--sampled", type=int, default=0, help="compounds for which the policy is sampled")
    options = parser.parse_args()
    reference = embedded_folder() / "reference.parquet"
    rows = compounds(reference, 1_000_000, MOST_ATOMS).to_pylist()
    policy, card = load_policy(options.policy)
    trained = np.array(card["space_group_counts"], float)
    print(f"{len(rows)} held-out compounds")
    likely = by_formula(rows, Prototypes.from_reference(reference, MOST_ATOMS), trained)
    if options.sampled:
        chosen = slice(BENCHMARK, BENCHMARK + options.sampled)
        by_samples(policy, rows[chosen], likely[chosen], trained)


if __name__ == "__main__":
    main()
