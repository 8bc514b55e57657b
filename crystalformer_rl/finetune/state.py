"""The whole state of fine-tuning between rounds, so that a round goes on exactly where the one before ended."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import numpy as np
import optax

from crystalformer_rl.errors import InputError
from crystalformer_rl.finetune.advantages import Baseline
from crystalformer_rl.finetune.archive import Archive
from crystalformer_rl.finetune.finetune_settings import FinetuneSettings
from crystalformer_rl.finetune.memory import Best
from crystalformer_rl.policy.batch import TokenBatch
from crystalformer_rl.policy.checkpoint import fill_arrays, named_arrays, read_safetensors, write_safetensors
from crystalformer_rl.policy.transformer import Policy

FORMAT = "crystalformer_rl fine-tuning state 4"


class TrainState(NamedTuple):
    """policy: the weights that move; optimizer: Adam's moments; average: of the weights, what the fine-tuned policy is; baseline: of the value, by space group; tau: weight of the KL
    term; updates: done so far; crystals: sampled and scored so far, so that numbers never repeat; seen: kinds of the last
    crystals, of which repeats are counted; best: crystals kept for replay; archive: crystals that are learned from again;
    start: which crystals of the first update, drawn from the base policy, were stable, by space group.

    Both policies have the spread of coordinates and lattices at which is learned (`learning_spread`).
    """

    policy: Policy
    optimizer: optax.OptState
    average: Policy
    baseline: Baseline
    tau: float
    updates: int
    crystals: int
    seen: np.ndarray
    best: Best
    archive: Archive
    start: Baseline

    def result(self, settings: FinetuneSettings) -> Policy:
        """The fine-tuned policy so far."""
        return self.average.at_density_temperature(settings.density_temperature)


def make_optimizer(settings: FinetuneSettings) -> optax.GradientTransformation:
    """Adam's directions, gradients clipped to norm 1; if relative, each times the root mean square of its array of weights.

    The latter as in Adafactor (N. Shazeer and M. Stern, arXiv 1804.04235, section 8): the scales of the norms, near 1, then
    move ten times as far as the weights of the matrices, near 0.1, and one step size suits both.
    """
    relative = [optax.scale_by_param_block_rms()] if settings.steps == "relative" else []
    # A run has a few hundred steps: squares are forgotten after a hundred, not after a thousand.
    return optax.chain(optax.clip_by_global_norm(1.0), optax.scale_by_adam(b2=0.99), *relative)


def learning_spread(settings: FinetuneSettings) -> float:
    """Temperature of coordinates and lattices under which log-probabilities are learned from.

    Where choices alone are learned, coordinates and lattices are held at their natural spread: a narrow one would make
    of every small shift a large force.
    """
    return 1.0 if settings.learns == "choices" else settings.density_temperature


def step_size(settings: FinetuneSettings, updates: int) -> float:
    """How far along its direction a step goes after so many updates; it depends on nothing else, so rounds may be divided at will."""
    halvings = updates / settings.learning_rate_half_life if settings.learning_rate_half_life else 0.0
    return settings.learning_rate * 0.5**halvings


def first_state(policy: Policy, settings: FinetuneSettings) -> TrainState:
    """The state before the first update."""
    policy = policy.at_density_temperature(learning_spread(settings))
    optimizer = make_optimizer(settings).init(eqx.filter(policy, eqx.is_array))
    none, places = Baseline.empty(), policy.shape.n_max
    best, archive = Best.empty(places), Archive.empty(places, policy.shape.model_size)
    return TrainState(policy, optimizer, policy, none, settings.tau, 0, 0, np.zeros(0, np.int64), best, archive, none)


class Lineage(NamedTuple):
    """Which files belong together: round, digests of the base policy and of the policy that the round made, and of all that the archive's
    figures depend on: reward, constraints, potential and reference.
    """

    round: int
    base_sha256: str
    policy_sha256: str
    goal: str = ""


def save_state(path: str | Path, state: TrainState, lineage: Lineage) -> None:
    """Write all but the average of the weights, which is the fine-tuned policy and has its own file, named here by its digest."""
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
    tokens: list[Any] = [arrays[f"best.{name}"] for name in TokenBatch._fields]
    return TrainState(
        fill_arrays(blank.policy, _inside(arrays, _MOVING), str(path)),
        fill_arrays(blank.optimizer, arrays, str(path)),
        blank.average,
        Baseline(arrays["baseline.total"], arrays["baseline.seen"]),
        facts["tau"] if settings.kl_target else settings.tau,
        facts["updates"],
        facts["crystals"],
        arrays["seen"],
        # A run that goes on with a smaller store, or none, keeps that many.
        Best(TokenBatch(*tokens), arrays["best.value"], arrays["best.kinds"]).chosen(slice(settings.replay)),
        # What was worth something to another goal says nothing of this one.
        _archive(_inside(arrays, _ARCHIVE)).last(settings.archive) if facts["goal"] == wanted.goal else blank.archive,
        Baseline(arrays["start.total"], arrays["start.seen"]),
    )


_MOVING, _ARCHIVE = "moving.", "archive."
_SMALL = ("g", "w", "a", "family")
"""Integers of the archive that fit into a byte."""


def _inside(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def _arrays(state: TrainState) -> dict[str, np.ndarray]:
    moving = {_MOVING + name: array for name, array in named_arrays(state.policy).items()}
    return named_arrays(state.optimizer) | moving | _memory(state)


def _memory(state: TrainState) -> dict[str, np.ndarray]:
    """All arrays but the weights and the optimizer's, by their names in the file."""
    tokens = zip(TokenBatch._fields, state.best.tokens, strict=True)
    crystals = state.archive.tokens._asdict() | state.archive._asdict()
    del crystals["tokens"]
    return {
        "baseline.total": state.baseline.total,
        "baseline.seen": state.baseline.seen,
        "start.total": state.start.total,
        "start.seen": state.start.seen,
        "seen": state.seen,
        "best.value": state.best.value,
        "best.kinds": state.best.kinds,
        **{f"best.{name}": np.asarray(leaf) for name, leaf in tokens},
        **{_ARCHIVE + name: _packed(name, np.asarray(leaf)) for name, leaf in crystals.items()},
    }


def _packed(name: str, array: np.ndarray) -> np.ndarray:
    return array.astype(np.uint8) if name in _SMALL or array.dtype == bool else array


def _archive(arrays: dict[str, np.ndarray]) -> Archive:
    """What `_memory` made of it, as it was."""
    whole = {name: array.astype(np.int32) if name in _SMALL else array for name, array in arrays.items()}
    tokens = TokenBatch(*(whole[name] for name in TokenBatch._fields))  # type: ignore[arg-type]
    others = {name: whole[name] for name in Archive._fields if name != "tokens"}
    return Archive(tokens, **others | {name: whole[name].astype(bool) for name in ("known", "led")})
