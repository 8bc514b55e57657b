"""The whole state of fine-tuning between rounds, so that a round goes on exactly where the one before ended."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import numpy as np
import optax

from crystalformer_rl.errors import InputError
from crystalformer_rl.finetune.advantages import Baseline
from crystalformer_rl.finetune.finetune_settings import FinetuneSettings
from crystalformer_rl.finetune.memory import Best
from crystalformer_rl.policy.batch import TokenBatch
from crystalformer_rl.policy.checkpoint import fill_arrays, named_arrays, read_safetensors, write_safetensors
from crystalformer_rl.policy.transformer import Policy

FORMAT = "crystalformer_rl fine-tuning state 2"


class TrainState(NamedTuple):
    """policy: current weights; optimizer: Adam's moments; baseline: of the value, by space group; tau: weight of the KL
    term; updates: done so far; crystals: sampled so far, so that numbers never repeat; seen: kinds of the last
    crystals, of which repeats are counted; best: crystals kept for replay.
    """

    policy: Policy
    optimizer: optax.OptState
    baseline: Baseline
    tau: float
    updates: int
    crystals: int
    seen: np.ndarray
    best: Best


def make_optimizer(settings: FinetuneSettings) -> optax.GradientTransformation:
    """Adam's directions, gradients clipped to norm 1; if relative, each times the root mean square of its array of weights.

    The latter as in Adafactor (N. Shazeer and M. Stern, arXiv 1804.04235, section 8): the scales of the norms, near 1, then
    move ten times as far as the weights of the matrices, near 0.1, and one step size suits both.
    """
    relative = [optax.scale_by_param_block_rms()] if settings.steps == "relative" else []
    return optax.chain(optax.clip_by_global_norm(1.0), optax.scale_by_adam(), *relative)


def step_size(settings: FinetuneSettings, updates: int) -> float:
    """How far along its direction a step goes after so many updates; it depends on nothing else, so rounds may be divided at will."""
    halvings = updates / settings.learning_rate_half_life if settings.learning_rate_half_life else 0.0
    return settings.learning_rate * 0.5**halvings


def first_state(policy: Policy, settings: FinetuneSettings) -> TrainState:
    """The state before the first update."""
    optimizer = make_optimizer(settings).init(eqx.filter(policy, eqx.is_array))
    best = Best.empty(policy.shape.n_max)
    return TrainState(policy, optimizer, Baseline.empty(), settings.tau, 0, 0, np.zeros(0, np.int64), best)


class Lineage(NamedTuple):
    """Which files belong together: round, and digests of the base policy and of the policy that the round made."""

    round: int
    base_sha256: str
    policy_sha256: str


def save_state(path: str | Path, state: TrainState, lineage: Lineage) -> None:
    """Write all but the policy's weights, which have their own file, named here by its digest."""
    facts = {"updates": state.updates, "crystals": state.crystals, "tau": state.tau, **lineage._asdict()}
    write_safetensors(path, _arrays(state), {"format": FORMAT, "facts": facts})


def load_state(path: str | Path, policy: Policy, settings: FinetuneSettings, wanted: Lineage) -> TrainState:
    """The state that the round before `wanted.round` left; InputError if it belongs to another round, policy or base policy."""
    arrays, metadata = read_safetensors(path)
    if metadata.get("format") != FORMAT:
        raise InputError(f"{path} is not a state of fine-tuning; give the state.safetensors of the round before.")
    facts: dict[str, Any] = metadata.get("facts", {})
    blank = first_state(policy, settings)
    wants = {"updates", "crystals", "tau", *Lineage._fields}
    if not isinstance(facts, dict) or not wants <= facts.keys() or not _memory(blank).keys() <= arrays.keys():
        raise InputError(f"{path} is not whole; let the round before be made again.")
    if facts["base_sha256"] != wanted.base_sha256:
        raise InputError(f"{path} belongs to another base policy; the KL term must count from the same one in all rounds.")
    if facts["policy_sha256"] != wanted.policy_sha256:
        raise InputError(f"{path} and the policy given are not of one round; give both files of the same round.")
    if facts["round"] != wanted.round - 1:
        raise InputError(
            f"{path} is the state after round {facts['round']}; it starts round {facts['round'] + 1}, not {wanted.round}."
        )
    optimizer = fill_arrays(blank.optimizer, arrays, str(path))
    tokens: list[Any] = [arrays[f"best.{name}"] for name in TokenBatch._fields]
    return TrainState(
        policy,
        optimizer,
        Baseline(arrays["baseline.total"], arrays["baseline.seen"]),
        facts["tau"] if settings.kl_target else settings.tau,
        facts["updates"],
        facts["crystals"],
        arrays["seen"],
        # A run that goes on with a smaller store, or none, keeps that many.
        Best(TokenBatch(*tokens), arrays["best.value"], arrays["best.kinds"]).chosen(slice(settings.replay)),
    )


def _arrays(state: TrainState) -> dict[str, np.ndarray]:
    return named_arrays(state.optimizer) | _memory(state)


def _memory(state: TrainState) -> dict[str, np.ndarray]:
    """All arrays but the optimizer's, by their names in the file."""
    tokens = zip(TokenBatch._fields, state.best.tokens, strict=True)
    return {
        "baseline.total": state.baseline.total,
        "baseline.seen": state.baseline.seen,
        "seen": state.seen,
        "best.value": state.best.value,
        "best.kinds": state.best.kinds,
        **{f"best.{name}": np.asarray(leaf) for name, leaf in tokens},
    }
