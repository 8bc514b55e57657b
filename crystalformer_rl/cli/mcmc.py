"""`crystalformer-rl mcmc`."""

from __future__ import annotations

import click

from crystalformer_rl.cli.console import count_words, progress, say, summarize
from crystalformer_rl.cli.options import json_option, out_option, policy_option, potential_option, seed_option
from crystalformer_rl.cli.policy_options import ManyValues, element_numbers, parse_site_elements
from crystalformer_rl.errors import InputError


@click.command("mcmc", cls=ManyValues)
@click.argument("start", type=click.Path())
@policy_option
@click.option("--steps", default=1000, show_default=True, type=click.IntRange(min=1), help="Metropolis steps of each chain.")
@click.option("--every", type=click.IntRange(min=1), help="Keep the state after so many steps.  [default: the last]")
@seed_option
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
@potential_option()
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
    potential_name: str,
    tau: float,
    out: str,
    as_json: bool,
) -> None:
    """Markov chains from the crystals of START (of `sample` or `tokenize`), one a crystal.

    Space group and Wyckoff sites stay; elements, coordinates and lattices are resampled by Metropolis
    steps on the policy's likelihood, or with --reference on likelihood × exp(reward/τ), the reward being minus the
    unrelaxed energy above hull, counted from 0 to 1 eV/atom: crystals as fine-tuning would make them, without training.

    \b
    Examples:
      crystalformer-rl mcmc samples.parquet --policy policy.safetensors --steps 2000 --site-elements c=O,F --out chains.parquet
      crystalformer-rl mcmc samples.parquet --policy policy.safetensors --steps 200 --reference reference.parquet --out chains.parquet
    """
    from contextlib import nullcontext

    from crystalformer_rl.policy.chains import ChainSettings
    from crystalformer_rl.policy.checkpoint import load_policy
    from crystalformer_rl.policy.constraints import allowed_elements
    from crystalformer_rl.rewards.reward_settings import RewardSettings
    from crystalformer_rl.scoring.scorer import open_scoring
    from crystalformer_rl.stages.mcmc import mcmc
    from crystalformer_rl.tables.crystal_columns import ID
    from crystalformer_rl.tables.parquet import read_table, write_table
    from crystalformer_rl.tables.provenance import provenance

    if not sum(moves):
        raise InputError("--moves are all zero, so nothing would move; give at least one a share.")
    settings = ChainSettings(*moves, width=width, tau=tau)
    allowed = allowed_elements(
        element_numbers(elements) or None, element_numbers(forbid), parse_site_elements(site_elements)
    )
    table = read_table(start, [ID])
    policy, _ = load_policy(policy_path)
    scoring = (
        open_scoring(RewardSettings(), potential_name, reference, None, None) if reference else nullcontext((None, None))
    )
    with scoring as (score, _), progress(steps, "mcmc", "step") as bar:
        found = mcmc(
            table, policy, steps, allowed, settings, every=every, seed=seed, score=score, source=start, advance=bar.update
        )
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
        "potential": potential_name if reference else None,
    }
    made_by = provenance("mcmc", parameters, [start, policy_path] + ([reference] if reference else []))
    write_table(out, found.table, made_by)
    statuses = found.table.column("status").to_pylist()
    words = (
        f"{found.chains} chains of {steps} steps, {found.acceptance:.0%} of the steps accepted; {count_words(statuses)}. "
        f"Table: {out}"
    )
    say(summarize(statuses, out, chains=found.chains, acceptance=found.acceptance), words, as_json)
