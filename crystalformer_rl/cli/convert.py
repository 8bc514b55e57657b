"""`crystalformer-rl convert`."""

from __future__ import annotations

import click

from crystalformer_rl.cli.console import say
from crystalformer_rl.cli.options import json_option, out_option


@click.command("convert")
@click.argument("checkpoint", type=click.Path())
@click.option("--space-groups-from", type=click.Path(), help="Table of tokens whose space groups the policy shall sample.")
@out_option
@json_option
def command(checkpoint: str, space_groups_from: str | None, out: str, as_json: bool) -> None:
    """Turn CHECKPOINT, an epoch_NNNNNN.pkl of the published CrystalFormer 0.4, into a .safetensors policy.

    Every command reads the published file directly, too. Only arrays are taken from it; a pickle that names
    anything else is refused. Weights keep their digits, and log-probabilities stay what they were. With
    --space-groups-from the policy remembers how often to sample each space group.

    \b
    Example:
      crystalformer-rl convert epoch_005500.pkl --out alex20.safetensors
    """
    import jax

    from crystalformer_rl.policy.checkpoint import save_policy
    from crystalformer_rl.stages.convert import convert
    from crystalformer_rl.tables.provenance import provenance

    policy, card = convert(checkpoint, space_groups_from)
    inputs = [checkpoint] + ([space_groups_from] if space_groups_from else [])
    save_policy(out, policy, {"made_by": provenance("convert", {}, inputs), **card})
    parameters = sum(leaf.size for leaf in jax.tree.leaves(policy))
    shape = policy.shape
    words = (
        f"Converted {checkpoint}: {parameters:,} parameters, {shape.num_layers} layers, {shape.num_heads} heads of key size "
        f"{shape.key_size}, model size {shape.model_size}. Policy: {out}"
    )
    say({"parameters": parameters, "shape": shape.to_dict(), "out": out}, words, as_json)
