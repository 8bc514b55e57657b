"""The whole state of fine-tuning between rounds, so that a round goes on exactly where the one before ended."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import numpy as np
import optax

from crystalformer_rl.errors import InputError
from crystalformer_rl.finetune.advantages import Baseline
from crystalformer_rl.policy.checkpoint import fill_arrays, named_arrays, read_safetensors, write_safetensors
from crystalformer_rl.policy.transformer import Policy

FORMAT = "crystalformer_rl fine-tuning state 1"


class TrainState(NamedTuple):
    """policy: current weights; optimizer: Adam's moments; baseline: of the regularized reward, by space group;
    updates: done so far; crystals: sampled so far, so that numbers never repeat.
    """

    policy: Policy
    optimizer: optax.OptState
    baseline: Baseline
    updates: int
    crystals: int


def make_optimizer(learning_rate: float) -> optax.GradientTransformation:
    """Adam with gradients clipped to norm 1."""
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adam(learning_rate))


def first_state(policy: Policy, learning_rate: float) -> TrainState:
    """The state before the first update."""
    return TrainState(policy, make_optimizer(learning_rate).init(eqx.filter(policy, eqx.is_array)), Baseline.empty(), 0, 0)


def save_state(path: str | Path, state: TrainState, round_number: int, base_sha256: str, policy_sha256: str) -> None:
    """Write all but the policy's weights, which have their own file, named here by its digest."""
    facts = {
        "updates": state.updates,
        "crystals": state.crystals,
        "round": round_number,
        "base_sha256": base_sha256,
        "policy_sha256": policy_sha256,
    }
    write_safetensors(path, _arrays(state.optimizer, state.baseline), {"format": FORMAT, "facts": facts})


def load_state(
    path: str | Path, policy: Policy, learning_rate: float, round_number: int, base_sha256: str, policy_sha256: str
) -> TrainState:
    """The state that the round before `round_number` left; InputError if it belongs to another round, policy or base policy."""
    arrays, metadata = read_safetensors(path)
    if metadata.get("format") != FORMAT:
        raise InputError(f"{path} is no state of fine-tuning; give the state.safetensors of the round before.")
    facts: dict[str, Any] = metadata["facts"]
    if facts["base_sha256"] != base_sha256:
        raise InputError(f"{path} belongs to another base policy; the KL term must count from the same one in all rounds.")
    if facts["policy_sha256"] != policy_sha256:
        raise InputError(f"{path} and the policy given are not of one round; give both files of the same round.")
    if facts["round"] != round_number - 1:
        raise InputError(
            f"{path} is the state after round {facts['round']}; it starts round {facts['round'] + 1}, not {round_number}."
        )
    blank = first_state(policy, learning_rate)
    baseline = Baseline(arrays.pop("baseline.total"), arrays.pop("baseline.seen"))
    return TrainState(policy, fill_arrays(blank.optimizer, arrays, str(path)), baseline, facts["updates"], facts["crystals"])


def _arrays(optimizer: optax.OptState, baseline: Baseline) -> dict[str, np.ndarray]:
    return named_arrays(optimizer) | {"baseline.total": baseline.total, "baseline.seen": baseline.seen}
