"""Read checkpoints of the published CrystalFormer code (v0.4.2), without running what a pickle may hold."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from crystalformer_rl.errors import InputError
from crystalformer_rl.policy.array_pickle import read_pickle
from crystalformer_rl.policy.shape import PolicyShape
from crystalformer_rl.policy.transformer import Block, LayerNorm, Linear, Policy

_PUBLISHED_KEY_SIZE = 64


def read_arrays(path: str | Path) -> dict[str, dict[str, np.ndarray]]:
    """The parameters of a published checkpoint by module and name. Raises InputError for anything else."""
    path = Path(path)
    content = read_pickle(path)
    params = content.get("params") if isinstance(content, dict) else None
    if not isinstance(params, Mapping):
        raise InputError(
            f"{path} has no 'params', so it is not a CrystalFormer checkpoint; give an epoch_NNNNNN.pkl of version 0.4."
        )
    try:
        return {module: {name: a.value for name, a in arrays.items()} for module, arrays in params.items()}
    except AttributeError:
        raise InputError(
            f"{path}: 'params' holds something else than arrays; give an epoch_NNNNNN.pkl of version 0.4."
        ) from None


def load_published(path: str | Path) -> Policy:
    """A published checkpoint as a `Policy` with the published form of the likelihood.

    Sizes are read off the arrays. What they cannot show (heads apart from key size, the number of
    von Mises components) comes from a `config.json` beside the file, else it is as published: key size 64, Kx 16.
    """
    arrays = read_arrays(path)
    try:
        shape = _shape(arrays, _config_beside(Path(path)))
        return _build(arrays, shape)
    except KeyError as error:
        raise InputError(
            f"{path} lacks the array {error}, so it is of another architecture than CrystalFormer 0.4; convert another file."
        ) from None
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{path} has arrays that do not fit together ({error}); it is not a CrystalFormer 0.4 checkpoint."
        ) from None


def _config_beside(path: Path) -> dict[str, Any]:
    config = path.with_name("config.json")
    if not config.is_file():
        return {}
    try:
        return dict(json.loads(config.read_text()))
    except (ValueError, TypeError) as error:
        raise InputError(f"{config} is not JSON ({error}); correct it or move it away.") from error


def _shape(arrays: dict[str, dict[str, np.ndarray]], config: dict[str, Any]) -> PolicyShape:
    embed = arrays["~"]["g_embeddings"].shape[1]
    atoms, wyck = (arrays["~"][name].shape[0] for name in ("a_embeddings", "w_embeddings"))
    model, inner = arrays["multi_head_attention/query"]["w"].shape
    layers = sum(name.startswith("multi_head_attention") and name.endswith("/query") for name in arrays)
    key_size = int(config.get("key_size", inner // config["num_heads"] if "num_heads" in config else 0))
    key_size = key_size or (_PUBLISHED_KEY_SIZE if inner % _PUBLISHED_KEY_SIZE == 0 else inner)
    outputs = arrays[f"linear_{7 + 2 * layers}"]["w"].shape[1]
    return PolicyShape(
        Nf=(arrays["linear_4"]["w"].shape[0] - embed) // 2,
        Kx=int(config.get("Kx", 16)),
        Kl=int(config.get("Kl", (outputs - atoms) // 13)),
        n_max=int(config.get("n_max", 21)),
        h0_size=arrays["linear"]["w"].shape[1],
        num_layers=layers,
        num_heads=inner // key_size,
        key_size=key_size,
        model_size=model,
        embed_size=embed,
        atom_types=atoms,
        wyck_types=wyck,
        widening=arrays["linear_7"]["w"].shape[1] // model,
        likelihood="published",
    )


def _build(arrays: dict[str, dict[str, np.ndarray]], shape: PolicyShape) -> Policy:
    def linear(name: str) -> Linear:
        return Linear(jnp.asarray(arrays[name]["w"]), jnp.asarray(arrays[name]["b"]))

    def norm(number: int) -> LayerNorm:
        stored = arrays[f"layer_norm_{number}" if number else "layer_norm"]
        return LayerNorm(jnp.asarray(stored["scale"]), jnp.asarray(stored["offset"]))

    def block(layer: int) -> Block:
        attention = f"multi_head_attention_{layer}" if layer else "multi_head_attention"
        query, key, value, output = (linear(f"{attention}/{part}") for part in ("query", "key", "value", "linear"))
        up, down = linear(f"linear_{7 + 2 * layer}"), linear(f"linear_{8 + 2 * layer}")
        return Block(norm(2 * layer), query, key, value, output, norm(2 * layer + 1), up, down)

    blocks = [block(layer) for layer in range(shape.num_layers)]
    last = 7 + 2 * shape.num_layers
    policy = Policy(
        g_embedding=jnp.asarray(arrays["~"]["g_embeddings"]),
        w_embedding=jnp.asarray(arrays["~"]["w_embeddings"]),
        a_embedding=jnp.asarray(arrays["~"]["a_embeddings"]),
        first_w=(linear("linear"), linear("linear_1")),
        inputs=(linear("linear_2"), linear("linear_3"), linear("linear_4"), linear("linear_5"), linear("linear_6")),
        blocks=_stack(blocks),
        final_norm=norm(2 * shape.num_layers),
        head=linear(f"linear_{last}"),
        relatives=None,
        shape=shape,
    )
    if policy.head.w.shape != (shape.model_size, shape.output_size):
        raise ValueError(f"the output layer is {policy.head.w.shape}, expected {(shape.model_size, shape.output_size)}")
    return policy


def _stack(blocks: list[Block]) -> Block:
    import jax

    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *blocks)
