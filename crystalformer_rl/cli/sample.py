"""`crystalformer-rl sample`."""

from __future__ import annotations

import click

from crystalformer_rl.cli.console import count_words, progress, say, summarize
from crystalformer_rl.cli.options import SEED, device_option, json_option, out_option, policy_option
from crystalformer_rl.cli.policy_options import ManyValues, element_numbers, element_symbols, parse_site_elements


@click.command("sample", cls=ManyValues)
@policy_option
@device_option
@click.option("--n", required=True, type=click.IntRange(min=1), help="How many crystals.")
@click.option("--seed", default=0, show_default=True, type=SEED, help="Crystal i depends on the seed and i alone.")
@click.option("--offset", default=0, show_default=True, type=click.IntRange(min=0), help="Number of the first crystal.")
@click.option(
    "--space-group", type=click.IntRange(1, 230), multiple=True, help="Only these, each alike.  [default: as in training]"
)
@click.option("--space-groups-from", type=click.Path(), help="Draw space groups as often as in this table of tokens.")
@click.option("--elements", multiple=True, help="Only these elements: --elements Na Cl.")
@click.option("--forbid", multiple=True, help="Never these elements: --forbid Pb Cd.")
@click.option("--require", multiple=True, help="Elements that every crystal holds: --require Li.")
@click.option("--min-elements", default=1, show_default=True, type=click.IntRange(1, 10), help="Fewest different elements.")
@click.option("--charge-balanced", is_flag=True, help="Known oxidation states add up to zero; alloys of metals do.")
@click.option("--site-elements", multiple=True, help="Elements of a Wyckoff letter: --site-elements a=Na,K b=F.")
@click.option("--wyckoff", multiple=True, help="Exactly these sites, of one space group: --wyckoff 4a 4b 8c.")
@click.option("--formula", default="", help="Exactly this reduced formula: --formula Cs2LiLuF6.")
@click.option(
    "--formula-units",
    type=click.IntRange(min=1),
    multiple=True,
    help="Formula units in the conventional cell.  [default: any]",
)
@click.option(
    "--max-atoms",
    type=click.IntRange(min=1),
    help="Most atoms in a primitive cell.  [default: any number; with --formula 40]",
)
@click.option(
    "--temperature",
    default=1.0,
    show_default=True,
    type=click.FloatRange(min=0, min_open=True),
    help="Below 1: more of the likely.",
)
@click.option(
    "--top-p",
    default=1.0,
    show_default=True,
    type=click.FloatRange(0, 1, min_open=True),
    help="Letters and elements from the likeliest that hold this much.",
)
@click.option(
    "--batch-size",
    default=64,
    show_default=True,
    type=click.IntRange(min=1),
    help="On an accelerator; a CPU always takes 64 at once.",
)
@out_option
@json_option
def command(
    policy_path: str,
    device: str,
    n: int,
    seed: int,
    offset: int,
    space_group: tuple[int, ...],
    space_groups_from: str | None,
    elements: tuple[str, ...],
    forbid: tuple[str, ...],
    require: tuple[str, ...],
    min_elements: int,
    charge_balanced: bool,
    site_elements: tuple[str, ...],
    wyckoff: tuple[str, ...],
    formula: str,
    formula_units: tuple[int, ...],
    max_atoms: int | None,
    temperature: float,
    top_p: float,
    batch_size: int,
    out: str,
    as_json: bool,
) -> None:
    """Sample N crystals from a policy.

    The table has a row a crystal: the crystal in its conventional cell (Å), its tokens, its
    log-probability under the policy (`log_prob`) and under the masks and temperature of this run
    (`behaviour_log_prob`), nats. A sequence that is not a crystal keeps its row, with a `status`.

    Constraints mask what cannot be, inside the likelihood, so every crystal obeys them; for --require, --min-elements and
    --charge-balanced, which the whole crystal decides, each is drawn again until it does (status `unwanted` after a hundred
    times). A formula that none of the space groups can hold is refused.

    \b
    Examples:
      crystalformer-rl sample --policy policy.safetensors --n 100 --seed 1 --space-group 225 221 --out samples.parquet
      crystalformer-rl sample --policy policy.safetensors --n 20 --formula Cs2LiLuF6 --out elpasolites.parquet
      crystalformer-rl sample --policy policy.safetensors --n 50 --space-group 221 --wyckoff 1a 1b 3c \\
          --site-elements c=O,F --out perovskites.parquet
    """
    from crystalformer_rl.config.messages import validate
    from crystalformer_rl.policy.accelerator import check_device
    from crystalformer_rl.policy.checkpoint import load_policy
    from crystalformer_rl.policy.constraint_settings import ConstraintSettings
    from crystalformer_rl.policy.request import Request
    from crystalformer_rl.policy.space_group_weights import space_group_weights
    from crystalformer_rl.scoring.wanted import accepts
    from crystalformer_rl.stages.sample import sample
    from crystalformer_rl.tables.parquet import write_table
    from crystalformer_rl.tables.provenance import provenance

    given = {
        "elements": element_symbols(elements),
        "forbid": element_symbols(forbid),
        "require": element_symbols(require),
        "min_elements": min_elements,
        "charge_balanced": charge_balanced,
    }
    wanted = validate(ConstraintSettings, given, "sample")
    request = Request(
        temperature=temperature,
        top_p=top_p,
        elements=element_numbers(elements) or None,
        forbidden=element_numbers(forbid),
        site_elements=parse_site_elements(site_elements),
        wyckoff=wyckoff,
        formula=formula,
        formula_units=formula_units,
        max_atoms=max_atoms,
    )
    check_device(device)
    policy, card = load_policy(policy_path)
    weights = space_group_weights(card, policy_path, space_group, space_groups_from)
    with progress(n, "sample") as bar:
        table, unable = sample(
            policy, n, weights, seed=seed, offset=offset, request=request, accepts=accepts(wanted), batch_size=batch_size,
            advance=bar.update,
        )  # fmt: skip
    parameters = {
        "n": n,
        "seed": seed,
        "offset": offset,
        "space_groups": list(space_group),
        **given,
        "site_elements": list(site_elements),
        "wyckoff": list(wyckoff),
        "formula": formula,
        "formula_units": list(formula_units),
        "max_atoms": max_atoms,
        "temperature": temperature,
        "top_p": top_p,
    }
    inputs = [policy_path] + ([space_groups_from] if space_groups_from else [])
    write_table(out, table, provenance("sample", parameters, inputs))
    statuses = table.column("status").to_pylist()
    left_out = f" Of the space groups asked for, {unable} cannot hold what is asked and were left out." if unable else ""
    words = f"Sampled {n} crystals: {count_words(statuses)}.{left_out} Samples: {out}"
    say(summarize(statuses, out, space_groups_left_out=unable), words, as_json)
