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

from crystalformer_rl.errors import InputError
from crystalformer_rl.policy.published import load_published
from crystalformer_rl.policy.shape import PolicyShape
from crystalformer_rl.policy.transformer import Policy
from crystalformer_rl.resources.mistaken import mistaken_for
from crystalformer_rl.tables.parquet import atomic_path

FORMAT = "crystalformer_rl policy 1"
_METADATA_KEY = "crystalformer_rl"


def named_arrays(tree: Any) -> dict[str, np.ndarray]:
    """The arrays of a pytree by their path (`blocks.query.w`)."""
    leaves = jax.tree_util.tree_flatten_with_path(eqx.filter(tree, eqx.is_array))[0]
    return {leaf_name(path): np.asarray(leaf) for path, leaf in leaves}


def leaf_name(path: tuple[Any, ...]) -> str:
    """The name under which a leaf of a pytree is stored: `blocks.query.w`."""
    return ".".join(_part(entry) for entry in path)


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
        name = leaf_name(path)
        if name not in arrays or arrays[name].shape != leaf.shape:
            found = "missing" if name not in arrays else f"of shape {arrays[name].shape}"
            raise InputError(
                f"{source}: array '{name}' is {found}, expected {leaf.shape}; the file is damaged or of another version."
            )
        leaves.append(jnp.asarray(arrays[name]))
    return jax.tree_util.tree_unflatten(structure, leaves)


def save_policy(path: str | Path, policy: Policy, card: dict[str, Any]) -> None:
    """Write weights, shape and `card` (how the policy was made; JSON values) whole or not at all."""
    write_safetensors(path, named_arrays(policy), {"format": FORMAT, "shape": policy.shape.to_dict(), "card": card})


def load_policy(path: str | Path) -> tuple[Policy, dict[str, Any]]:
    """A policy and its card from our `.safetensors` or a published `.pkl`. Raises InputError."""
    path = Path(path)
    if path.suffix == ".pkl":
        return load_published(path), {}
    arrays, metadata = read_safetensors(path)
    if metadata.get("format") != FORMAT:
        raise InputError(
            f"{path} is a safetensors file but no policy of this package; give one that `pretrain` or `finetune` wrote."
        )
    for name in ("shape", "card"):
        if not isinstance(metadata.get(name), dict):
            raise InputError(f"{path} lacks its {name}; the file is damaged, so get it again.")
    shape = PolicyShape.from_dict(metadata["shape"], str(path))
    blank = eqx.filter_eval_shape(Policy.init, jax.random.key(0), shape)
    return fill_arrays(blank, arrays, str(path)), metadata["card"]


def write_safetensors(path: str | Path, arrays: dict[str, np.ndarray], metadata: dict[str, Any]) -> None:
    """Write arrays and JSON metadata, whole or not at all, the same bytes every time."""
    # One key: the format keeps several in no order, and two runs would differ.
    header = {_METADATA_KEY: json.dumps(metadata, sort_keys=True)}
    with atomic_path(path) as temporary:
        save_file(arrays, temporary, header)


def read_safetensors(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays and metadata (empty for a file of other origin). Raises InputError for a missing or damaged file."""
    path = Path(path)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise InputError(f"{path} {what}; check the path, or fetch or train a policy first.")
    try:
        if instead := mistaken_for(path, "safetensors"):
            raise InputError(f"{path} {instead}.")
        with safe_open(path, framework="numpy") as stored:
            arrays = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
            metadata = json.loads((stored.metadata() or {}).get(_METADATA_KEY, "{}"))
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path} is not a whole safetensors file ({error}); get it again.") from error
    return arrays, metadata if isinstance(metadata, dict) else {}
