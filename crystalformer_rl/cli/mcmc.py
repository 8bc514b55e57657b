"""`crystalformer-rl mcmc`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from crystalformer_rl.cli.console import count_words, progress, say, status_counts
from crystalformer_rl.cli.options import SEED, json_option, out_option
from crystalformer_rl.cli.policy_options import (
    ManyValues,
    crystal_and_token_columns,
    element_numbers,
    parse_site_elements,
)
from crystalformer_rl.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from crystalformer_rl.policy.batch import TokenBatch
    from crystalformer_rl.policy.chains import Chains, Rewards


@click.command("mcmc", cls=ManyValues)
@click.argument("start", type=click.Path())
@click.option("--policy", "policy_path", required=True, type=click.Path(), help="Our .safetensors or a published .pkl.")
@click.option("--steps", default=1000, show_default=True, type=click.IntRange(min=1), help="Metropolis steps of each chain.")
@click.option("--every", type=click.IntRange(min=1), help="Keep the state after so many steps.  [default: the last]")
@click.option("--seed", default=0, show_default=True, type=SEED, help="Of all random numbers.")
@click.option("--elements", multiple=True, help="Only these elements: --elements Na Cl.")
@click.option("--forbid", multiple=True, help="Never these elements.")
@click.option("--site-elements", multiple=True, help="Elements of a Wyckoff letter: --site-elements a=Na,K b=F.")
@click.option(
    "--moves",
    nargs=3,
    default=(0.4, 0.4, 0.2),
    show_default=True,
    type=click.FloatRange(0),
    help="Shares of a new element, moved coordinates, and two exchanged elements.",
)
@click.option(
    "--width",
    default=0.05,
    show_default=True,
    type=click.FloatRange(0, min_open=True),
    help="Of a coordinate's move, fractional.",
)
@click.option("--reference", type=click.Path(), help="Reward stability: likelihood × exp(−e_above_hull/τ) over this hull.")
@click.option("--potential", default="chgnet", show_default=True, help="Potential of the energies, with --reference.")
@click.option("--tau", default=0.1, show_default=True, type=click.FloatRange(0, min_open=True), help="τ, eV/atom.")
@out_option
@json_option
def command(
    start: str,
    policy_path: str,
    steps: int,
    every: int | None,
    seed: int,
    elements: tuple[str, ...],
    forbid: tuple[str, ...],
    site_elements: tuple[str, ...],
    moves: tuple[float, float, float],
    width: float,
    reference: str | None,
    potential: str,
    tau: float,
    out: str,
    as_json: bool,
) -> None:
    """Markov chains from the crystals of START (of `sample` or `tokenize`), one a crystal.

    Space group and Wyckoff sites stay; elements, coordinates and lattices are resampled by Metropolis
    steps on the policy's likelihood, or with --reference on likelihood × exp(reward/τ), the reward being minus the
    unrelaxed energy above hull, between −0.1 and 1 eV/atom: crystals as fine-tuning would make them, without training.

    \b
    Examples:
      crystalformer-rl mcmc samples.parquet --policy policy.safetensors --steps 2000 --site-elements c=O,F --out chains.parquet
      crystalformer-rl mcmc samples.parquet --policy policy.safetensors --steps 200 --reference reference.parquet --out chains.parquet
    """
    from crystalformer_rl.crystal.tokens import sites_from_table
    from crystalformer_rl.policy.chains import ChainSettings, start_chains
    from crystalformer_rl.policy.chains import step as metropolis_step
    from crystalformer_rl.policy.checkpoint import load_policy
    from crystalformer_rl.policy.constraints import allowed_elements
    from crystalformer_rl.tables.column import make_table
    from crystalformer_rl.tables.crystal_columns import CHAINS, ID
    from crystalformer_rl.tables.parquet import read_table, write_table
    from crystalformer_rl.tables.provenance import provenance

    if not sum(moves):
        raise InputError("--moves are all zero, so nothing would move; give at least one a share.")
    settings = ChainSettings(*moves, width=width, tau=tau)
    allowed = allowed_elements(
        element_numbers(elements) or None, element_numbers(forbid), parse_site_elements(site_elements)
    )
    table = read_table(start, [ID])
    all_sites, ids = sites_from_table(table, start), table.column("id").to_pylist()
    policy, _ = load_policy(policy_path)
    usable = [i for i, s in enumerate(all_sites) if s is not None and len(s) < policy.shape.n_max]
    sites = [s for i in usable if (s := all_sites[i]) is not None]
    if not sites:
        raise InputError(f"{start} holds no crystal that the policy has room for; sample or tokenize some first.")
    for i, crystal in zip(usable, sites, strict=True):
        if not allowed[crystal.wyckoff].any(1).all():
            raise InputError(f"{start}: a site of crystal {ids[i]} may hold no element at all; allow some for its letter.")
    kept: dict[int, Chains] = {}
    with _rewards(reference, potential) as rewards, progress(steps, "mcmc", "step") as bar:
        chains = start_chains(policy, sites, rewards)
        for number in range(1, steps + 1):
            chains = metropolis_step(policy, chains, number, seed, settings, allowed, rewards)
            bar.update(1)
            if number == steps or (every and number % every == 0):
                kept[number] = chains
    columns = _columns([ids[i] for i in usable], kept, reference is not None)
    _add_unusable(columns, [(ids[i], s) for i, s in enumerate(all_sites) if i not in set(usable)], steps)
    parameters = {
        "steps": steps,
        "every": every,
        "seed": seed,
        "elements": list(elements),
        "forbid": list(forbid),
        "site_elements": list(site_elements),
        "moves": list(moves),
        "width": width,
        "tau": tau,
        "potential": potential if reference else None,
    }
    made_by = provenance("mcmc", parameters, [start, policy_path] + ([reference] if reference else []))
    write_table(out, make_table(CHAINS, columns), made_by)
    acceptance = float(chains.accepted.mean()) / steps
    statuses = columns["status"]
    words = f"{len(sites)} chains of {steps} steps, {acceptance:.0%} of the steps accepted; {count_words(statuses)}. Table: {out}"
    say({"chains": len(sites), "acceptance": acceptance, "status": status_counts(statuses), "out": out}, words, as_json)


@contextmanager
def _rewards(reference: str | None, potential: str) -> Iterator[Rewards | None]:
    """Minus the distance to the hull of a reference, from a worker that lives as long as the chains; None without one."""
    if reference is None:
        yield None
        return
    from crystalformer_rl.policy.sampler import sites_of
    from crystalformer_rl.rewards.reward_settings import RewardConfig
    from crystalformer_rl.scoring.score import open_scoring

    with open_scoring(RewardConfig(), potential, reference, None, None) as (score, _):

        def rewards(tokens: TokenBatch) -> np.ndarray:
            decoded = sites_of(tokens)
            return score([s for s, _ in decoded], [status for _, status in decoded]).reward

        yield rewards


def _columns(ids: list[str], kept: dict[int, Chains], rewarded: bool) -> dict[str, Any]:
    import numpy as np

    columns: dict[str, list[Any]] = {}
    for number, chains in kept.items():
        rows = {
            "id": [f"{name}@{number}" for name in ids],
            "chain": ids,
            **crystal_and_token_columns(chains.tokens),
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
            "status": "upstream_failed" if sites is None else "too_many_sites",
        }
        for column in columns:
            columns[column].append(row.get(column))
