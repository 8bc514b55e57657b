"""Policies on disk: one safetensors file, its header holding the shape and the card."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from crystalformer_rl.artifacts import atomic_path
from crystalformer_rl.errors import InputError
from crystalformer_rl.policy.published import load_published
from crystalformer_rl.policy.shape import PolicyShape
from crystalformer_rl.policy.transformer import Policy

FORMAT = "crystalformer_rl policy 1"


def named_arrays(tree: Any) -> dict[str, np.ndarray]:
    """The arrays of a pytree by their path (`blocks.query.w`)."""
    leaves = jax.tree_util.tree_flatten_with_path(eqx.filter(tree, eqx.is_array))[0]
    return {".".join(_part(p) for p in path): np.asarray(leaf) for path, leaf in leaves}


def _part(entry: Any) -> str:
    for attribute in ("name", "idx", "key"):
        if hasattr(entry, attribute):
            return str(getattr(entry, attribute))
    return str(entry)


def fill_arrays(tree: Any, arrays: dict[str, np.ndarray], source: str) -> Any:
    """`tree` with each array replaced by the stored one of the same path. Raises InputError on any misfit."""
    paths, structure = jax.tree_util.tree_flatten_with_path(tree)
    leaves = []
    for path, leaf in paths:
        if not eqx.is_array(leaf) and not isinstance(leaf, jax.ShapeDtypeStruct):
            leaves.append(leaf)
            continue
        name = ".".join(_part(p) for p in path)
        if name not in arrays or arrays[name].shape != leaf.shape:
            found = "missing" if name not in arrays else f"of shape {arrays[name].shape}"
            raise InputError(f"{source}: array '{name}' is {found}, expected {leaf.shape}; the file is damaged or of another version.")
        leaves.append(jnp.asarray(arrays[name]))
    return jax.tree_util.tree_unflatten(structure, leaves)


def save_policy(path: str | Path, policy: Policy, card: dict[str, Any]) -> None:
    """Write weights, shape and `card` (how the policy was made; JSON values) whole or not at all."""
    metadata = {"format": FORMAT, "shape": _json(policy.shape.to_dict()), "card": _json(card)}
    with atomic_path(path) as temporary:
        save_file(named_arrays(policy), temporary, metadata)


def load_policy(path: str | Path) -> tuple[Policy, dict[str, Any]]:
    """A policy and its card from our `.safetensors` or a published `.pkl`. Raises InputError."""
    path = Path(path)
    if path.suffix == ".pkl":
        return load_published(path), {}
    arrays, metadata = read_safetensors(path)
    if metadata.get("format") != FORMAT:
        raise InputError(f"{path} is a safetensors file but no policy of this package; give one that `pretrain` or `finetune` wrote.")
    shape = PolicyShape.from_dict(json.loads(metadata["shape"]), str(path))
    blank = eqx.filter_eval_shape(Policy.init, jax.random.key(0), shape)
    return fill_arrays(blank, arrays, str(path)), json.loads(metadata["card"])


def read_safetensors(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Arrays and header metadata. Raises InputError for a missing or damaged file."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path} does not exist; check the path, or fetch or train a policy first.")
    try:
        with safe_open(path, framework="numpy") as stored:
            return {name: stored.get_tensor(name) for name in stored.keys()}, stored.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is no whole safetensors file ({error}); get it again.") from error


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
