"""What made a file, recorded in it: stage, parameters, digests of inputs, versions."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from crystalformer_rl import __version__
from crystalformer_rl.errors import InputError

PROVENANCE_KEY = b"crystalformer_rl"


_RECORDED_PACKAGES = ("numpy", "jax", "equinox", "optax", "torch", "chgnet", "mace-torch", "ase",
                      "pymatgen", "moyopy", "pyarrow")  # fmt: skip


def sha256(path: str | Path) -> str:
    """Hex digest of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def digest_json(value: Any) -> str:
    """Hex digest of a JSON value, independent of the order of keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def provenance(stage: str, parameters: Mapping[str, Any], inputs: Iterable[str | Path] = (), **more: Any) -> dict[str, Any]:
    """What made a file: the stage, its parameters and their digest, inputs' digests, versions.

    Inputs are recorded by file name and content (files of one name with their folders'
    names before it), never by their place on the disk, so that two clones write the same
    bytes. `more` holds what a stage must say besides, such as `potential={...}`; a value of
    None is left out.
    """
    versions = {"crystalformer_rl": __version__, "python": platform.python_version()}
    for package in _RECORDED_PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    record = {
        "stage": stage,
        "parameters": dict(parameters),
        "parameters_sha256": digest_json(dict(parameters)),
        "inputs": _digests(inputs),
        "versions": versions,
    }
    return record | {key: value for key, value in more.items() if value is not None}


def _digests(paths: Iterable[str | Path]) -> dict[str, str]:
    """Digests by file name, each with as many folders before it as tell files of one name apart."""
    found = list(dict.fromkeys(Path(path) for path in paths))
    return {_label(path, found): _digest(path) for path in found}


def _label(path: Path, others: list[Path]) -> str:
    for depth in range(1, len(path.parts)):
        if sum(other.parts[-depth:] == path.parts[-depth:] for other in others) == 1:
            return "/".join(path.parts[-depth:])
    return str(path)


def _digest(path: Path) -> str:
    """Of a file; of a folder, over the names and digests of the files in it."""
    if path.is_dir():
        return digest_json({file.name: sha256(file) for file in path.iterdir() if file.is_file()})
    return sha256(path)


def read_provenance(path: str | Path) -> dict[str, Any]:
    """The provenance record of a Parquet file; empty for a file of other origin."""
    try:
        metadata = pq.read_schema(path).metadata or {}
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{path} is not a readable Parquet file ({first_line(error)}); make it again.") from error
    return json.loads(metadata.get(PROVENANCE_KEY, b"{}"))


def first_line(error: BaseException) -> str:
    return str(error).strip().split("\n", 1)[0].rstrip(".")


def record_of(table: pa.Table) -> dict[str, Any]:
    """The provenance record that travels with a table in memory; empty where it brings none."""
    return json.loads((table.schema.metadata or {}).get(PROVENANCE_KEY, b"{}"))


def with_record(table: pa.Table, record: Mapping[str, Any]) -> pa.Table:
    """The table with `record` as its provenance, so that a stage in memory knows what a stage on files would read."""
    return table.replace_schema_metadata({PROVENANCE_KEY: json.dumps(dict(record), sort_keys=True).encode()})
