"""`crystalformer-rl log-prob`."""

from __future__ import annotations

import click

from crystalformer_rl.cli.console import count_words, progress, say, status_counts
from crystalformer_rl.cli.options import json_option, out_option


@click.command("log-prob")
@click.argument("tokens", type=click.Path())
@click.option("--policy", "policy_path", required=True, type=click.Path(), help="Our .safetensors or a published .pkl.")
@click.option(
    "--precision", type=click.Choice(["float32", "float64"]), default="float32", show_default=True, help="Of the arithmetic."
)
@out_option
@json_option
def command(tokens: str, policy_path: str, precision: str, out: str, as_json: bool) -> None:
    """Log-probability of each crystal of TOKENS under a policy, in nats, given its space group.

    TOKENS is what `tokenize` or `sample` writes. The four parts (Wyckoff letters, free coordinates,
    elements, free lattice parameters) and their sum are columns.

    \b
    Example:
      crystalformer-rl log-prob --policy policy.safetensors tokens.parquet --out log_probs.parquet
    """
    import jax

    jax.config.update("jax_enable_x64", precision == "float64")
    from crystalformer_rl.crystal.tokens import sites_from_table
    from crystalformer_rl.policy.checkpoint import load_policy
    from crystalformer_rl.policy.token_log_probs import log_probs_of
    from crystalformer_rl.tables.column import make_table
    from crystalformer_rl.tables.crystal_columns import ID, LOG_PROBS, STATUS
    from crystalformer_rl.tables.parquet import read_table, write_table
    from crystalformer_rl.tables.provenance import provenance

    table = read_table(tokens, [ID])
    sites = sites_from_table(table, tokens)
    policy, _ = load_policy(policy_path)
    policy = jax.tree.map(lambda leaf: leaf.astype(precision), policy)
    with progress(len(sites), "log-prob") as bar:
        parts, statuses = log_probs_of(policy, sites, advance=bar.update)
    columns = {"id": table.column("id").to_pylist(), **parts, "status": statuses}
    made_by = provenance("log-prob", {"precision": precision}, [tokens, policy_path])
    write_table(out, make_table((ID, *LOG_PROBS, STATUS), columns), made_by)
    known = [value for value in parts["log_prob"] if value is not None]
    mean = sum(known) / len(known) if known else float("nan")
    words = f"{len(sites)} crystals, {count_words(statuses)}; mean log-probability {mean:.3f} nats. Table: {out}"
    say({"n": len(sites), "mean_log_prob": mean, "status": status_counts(statuses), "out": out}, words, as_json)
