"""A results folder with arms, made up: crystals through the stages' own commands, rollouts and judgements at random."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
from discovery_examples import IDENTITY, sampled_crystals, write_results

from crystalformer_rl.crystal.encode import encode
from crystalformer_rl.crystal.structure import crystal_columns
from crystalformer_rl.crystal.tokens import token_columns
from crystalformer_rl.tables.column import Column, make_table
from crystalformer_rl.tables.crystal_columns import SAMPLES
from crystalformer_rl.tables.discovery_columns import JUDGED_CRYSTALS
from crystalformer_rl.tables.parquet import read_table, write_table
from crystalformer_rl.tables.provenance import provenance

ARMS = {"best_of_n-0": "none", "ppo-0": "ppo", "ppo-1": "ppo", "sft-0": "sft"}
POLICIES = ("base", *ARMS)
JUDGE = {"name": "second", "weights_sha256": "1" * 64, "corrections": "none"}
ROUNDS, UPDATES, BATCH = 2, 3, 12

_ROLLOUTS = (
    *(column for column in SAMPLES if column.name != "status"),
    Column("update", pa.int64(), "", ""),
    Column("e_above_hull", pa.float64(), "eV/atom", ""),
    Column("known", pa.bool_(), "", ""),
    Column("reward", pa.float64(), "", ""),
    Column("status", pa.string(), "", ""),
)


def rollouts(policy: str, first: int, seed: int, updates: int = UPDATES, batch: int = BATCH) -> pa.Table:
    """Crystals of some updates, the first of number `first`; about one in twenty has failed."""
    n = updates * batch
    rng = np.random.default_rng(seed)
    crystals = sampled_crystals(policy, n, seed)
    sites = [s for s, _ in encode(crystals)]
    above = np.abs(rng.normal(0.1, 0.15, n))
    above[:1] = -0.3
    numbers = np.repeat(np.arange(first, first + updates), batch)
    ok = [s is not None for s in sites]
    return make_table(
        _ROLLOUTS,
        {
            "id": [f"f{seed}-{first * batch + i}" for i in range(n)],
            **crystal_columns(crystals),
            **token_columns(sites, coords_name="site_frac_coords"),
            "log_prob": rng.normal(-20, 5, n),
            "behaviour_log_prob": rng.normal(-20, 5, n),
            "update": numbers,
            "e_above_hull": [float(e) if good else None for e, good in zip(above, ok, strict=True)],
            "known": [bool(k) if good else None for k, good in zip(rng.uniform(size=n) < 0.3, ok, strict=True)],
            "reward": [-round(float(max(e, 0.0)), 2) if good else -1.0 for e, good in zip(above, ok, strict=True)],
            "status": ["ok" if good else "no_crystal" for good in ok],
        },
    )


def write_arms(folder: Path, n: int = 40) -> Path:
    """Base policy, best of N, two seeds of PPO and one of SFT, two rounds each, and a judge."""
    write_results(folder, n, POLICIES)
    for number, (policy, algorithm) in enumerate(ARMS.items()):
        place = folder / "finetune" / policy
        settings = {"algorithm": algorithm, "batch": BATCH, "updates": UPDATES, "tau": 0.05}
        reward = {"terms": [{"term": "e_above_hull", "weight": -1.0, "log": False, "target": None}], "failure": -1.0}
        place.mkdir(parents=True)
        (place / "settings.json").write_text(json.dumps({"finetune": settings, "reward": reward}))
        for k in range(1, ROUNDS + 1):
            first = 1 + (k - 1) * UPDATES
            made_by = provenance("finetune", {**settings, "round": k}, potential=IDENTITY)
            # Two seeds of one arm have ids and crystals of their own.
            sampled = rollouts(policy, first, 100 * number + k)
            if algorithm == "none":
                sampled = _with_selected(sampled, folder / "evaluation" / policy, (k - 1) * UPDATES * BATCH)
            write_table(place / f"round_{k}" / "rollouts.parquet", sampled, made_by)
            rng = np.random.default_rng(number + 10 * k)
            updates = {
                "update": np.arange(first, first + UPDATES),
                "evaluations": [BATCH - 1] * UPDATES,
                "kl": rng.uniform(0, 1, UPDATES),
                "entropy": rng.uniform(10, 20, UPDATES),
            }
            write_table(place / f"round_{k}" / "updates.parquet", pa.table(updates), made_by)
    for number, policy in enumerate(POLICIES):
        write_judgement(folder, policy, number)
    return folder


def _with_selected(sampled: pa.Table, evaluation: Path, first: int) -> pa.Table:
    """The rollouts with ids of evaluated crystals, those from number `first` on, as those have that were selected."""
    ids = read_table(evaluation / "crystals.parquet").column("id").to_pylist()[first : first + sampled.num_rows]
    column = sampled.schema.get_field_index("id")
    return sampled.set_column(column, "id", pa.array(ids + sampled.column("id").to_pylist()[len(ids) :]))


def write_judgement(folder: Path, policy: str, seed: int) -> None:
    """The judge's table: the evaluated distances with errors of 0.05 eV/atom."""
    rng = np.random.default_rng(seed)
    rows = read_table(folder / "evaluation" / policy / "crystals.parquet").to_pylist()
    data: dict[str, list] = {name: [row[name] for row in rows] for name in ("id", "policy")}
    data["judge_status"] = [row["status"] for row in rows]
    for name in ("e_above_hull", "e_above_hull_initial"):
        data[f"judge_{name}"] = [None if row[name] is None else row[name] + rng.normal(0, 0.05) for row in rows]
    write_table(
        folder / "judge" / f"{policy}.parquet", make_table(JUDGED_CRYSTALS, data), provenance("judge", {}, potential=JUDGE)
    )
