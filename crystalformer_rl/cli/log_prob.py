"""`crystalformer-rl log-prob`."""

from __future__ import annotations

import click

from crystalformer_rl.cli.console import count_words, progress, say, summarize
from crystalformer_rl.cli.options import json_option, out_option, policy_option


@click.command("log-prob")
@click.argument("tokens", type=click.Path())
@policy_option
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
    from crystalformer_rl.policy.checkpoint import load_policy
    from crystalformer_rl.stages.log_prob import log_prob
    from crystalformer_rl.tables.crystal_columns import ID
    from crystalformer_rl.tables.parquet import read_table, write_table
    from crystalformer_rl.tables.provenance import provenance

    table = read_table(tokens, [ID])
    policy, _ = load_policy(policy_path)
    policy = jax.tree.map(lambda leaf: leaf.astype(precision), policy)
    with progress(table.num_rows, "log-prob") as bar:
        result = log_prob(table, policy, source=tokens, advance=bar.update)
    write_table(out, result, provenance("log-prob", {"precision": precision}, [tokens, policy_path]))
    statuses = result.column("status").to_pylist()
    known = [value for value in result.column("log_prob").to_pylist() if value is not None]
    mean = sum(known) / len(known) if known else float("nan")
    words = f"{len(statuses)} crystals, {count_words(statuses)}; mean log-probability {mean:.3f} nats. Table: {out}"
    say(summarize(statuses, out, mean_log_prob=mean), words, as_json)
