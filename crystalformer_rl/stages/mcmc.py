"""Markov chains over elements, coordinates and lattices on fixed Wyckoff sites."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from crystalformer_rl.crystal.tokens import sites_from_table
from crystalformer_rl.errors import InputError
from crystalformer_rl.finetune.rollout import Score
from crystalformer_rl.policy.batch import TokenBatch
from crystalformer_rl.policy.chains import Chains, ChainSettings, start_chains
from crystalformer_rl.policy.chains import step as metropolis_step
from crystalformer_rl.policy.sample_table import sampled_columns
from crystalformer_rl.policy.sampler import sites_of
from crystalformer_rl.policy.transformer import Policy
from crystalformer_rl.tables.column import make_table
from crystalformer_rl.tables.crystal_columns import CHAINS
from crystalformer_rl.tables.provenance import with_record
from crystalformer_rl.tables.status import Status


class Sampling(NamedTuple):
    """table: the CHAINS table; chains: how many could start; acceptance: accepted fraction of all their steps."""

    table: pa.Table
    chains: int
    acceptance: float


def mcmc(
    start: pa.Table,
    policy: Policy,
    steps: int,
    allowed: np.ndarray,
    settings: ChainSettings,
    *,
    every: int | None = None,
    seed: int = 0,
    score: Score | None = None,
    source: str = "the crystals",
    advance: Callable[[int], object] | None = None,
) -> Sampling:
    """Metropolis steps from each crystal of a table of tokens or samples: space group and Wyckoff sites stay.

    allowed: (letters, elements) bool, of `policy.constraints.allowed_elements`. every: keep the state after so many steps;
    None keeps the last. score: the chains' law is then likelihood × exp(reward/τ), else the likelihood. Crystals that no
    chain can start from keep a row with a status. `source` names the table in errors. Raises InputError where no crystal fits
    the policy, or a site may hold no element.
    """
    all_sites, ids = sites_from_table(start, source), start.column("id").to_pylist()
    usable = [i for i, s in enumerate(all_sites) if s is not None and len(s) < policy.shape.n_max]
    sites = [s for i in usable if (s := all_sites[i]) is not None]
    if not sites:
        raise InputError(f"{source} holds no crystal that the policy has room for; sample or tokenize some first.")
    for i, crystal in zip(usable, sites, strict=True):
        if not allowed[crystal.wyckoff].any(1).all():
            raise InputError(f"{source}: a site of crystal {ids[i]} may hold no element at all; allow some for its letter.")

    def rewards(tokens: TokenBatch) -> np.ndarray:
        assert score is not None
        decoded = sites_of(tokens)
        return score([s for s, _ in decoded], [status for _, status in decoded]).reward

    law = None if score is None else rewards
    kept: dict[int, Chains] = {}
    chains = start_chains(policy, sites, law)
    for number in range(1, steps + 1):
        chains = metropolis_step(policy, chains, number, seed, settings, allowed, law)
        if advance is not None:
            advance(1)
        if number == steps or (every and number % every == 0):
            kept[number] = chains
    columns = _columns([ids[i] for i in usable], kept, score is not None)
    _add_unusable(columns, [(ids[i], s) for i, s in enumerate(all_sites) if i not in set(usable)], steps)
    table = with_record(make_table(CHAINS, columns), {"stage": "mcmc"})
    return Sampling(table, len(sites), float(chains.accepted.mean()) / steps)


def _columns(ids: list[str], kept: dict[int, Chains], rewarded: bool) -> dict[str, Any]:
    columns: dict[str, list[Any]] = {}
    for number, chains in kept.items():
        rows = {
            "id": [f"{name}@{number}" for name in ids],
            "chain": ids,
            **sampled_columns(chains.tokens),
            "step": [number] * len(ids),
            "acceptance": (np.asarray(chains.accepted) / number).tolist(),
            "log_prob": np.asarray(chains.log_prob, float).tolist(),
            "reward": np.asarray(chains.reward, float).tolist() if rewarded else [None] * len(ids),
        }
        for name, values in rows.items():
            columns.setdefault(name, []).extend(values)
    return columns


def _add_unusable(columns: dict[str, Any], rows: list[tuple[str, Any]], steps: int) -> None:
    """Rows for crystals of the start that no chain could start from."""
    for name, sites in rows:
        row = {
            "id": f"{name}@{steps}",
            "chain": name,
            "step": steps,
            "status": Status.UPSTREAM_FAILED if sites is None else Status.TOO_MANY_SITES,
        }
        for column in columns:
            columns[column].append(row.get(column))
