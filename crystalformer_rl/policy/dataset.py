"""Crystals to train on: held-out formulas apart, minibatches of equal length without padding work."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from jaxtyping import Float

from crystalformer_rl.crystal.descriptions import descriptions
from crystalformer_rl.crystal.elements import reduced_formula
from crystalformer_rl.crystal.split import held_out
from crystalformer_rl.crystal.structure import SHORTEST_DISTANCE, overlap
from crystalformer_rl.crystal.tokens import Sites, decode, sites_from_table
from crystalformer_rl.crystal.wyckoff import wyckoff_table
from crystalformer_rl.errors import InputError
from crystalformer_rl.policy.batch import TokenBatch, make_batch
from crystalformer_rl.tables.parquet import read_table

#: Longest crystal of each bucket, in sites. Lengths up to six cover most crystals exactly.
BUCKETS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20)


class Dataset(NamedTuple):
    """Crystals to train on and crystals of held-out formulas; weights: how much each to train on counts, all alike where None."""

    training: list[Sites]
    held_out: list[Sites]
    weights: np.ndarray | None = None


class Minibatch(NamedTuple):
    """A batch of constant size; `weight` is how much a crystal counts, and 0 for a row that fills up."""

    tokens: TokenBatch
    weight: Float[np.ndarray, " b"]


def load_dataset(path: str | Path, n_max: int) -> Dataset:
    """Read a tokens table, split by reduced formula; its column `weight`, where there is one, says how much each crystal counts.

    Raises InputError for crystals of more than n_max − 1 sites, for those whose atoms lie on one place, and for weights below 0.
    """
    table = read_table(path)
    found = list(zip(sites_from_table(table, str(path)), _weights(table, str(path)), strict=True))
    crystals = [s for s, _ in found if s is not None]
    too_long = sum(len(s) >= n_max for s in crystals)
    if too_long:
        raise InputError(f"{path}: {too_long} crystals have more than {n_max - 1} sites; leave them out or raise n_max.")
    overlapping = sum(overlap(decode(s)) is not None for s in crystals)
    if overlapping:
        raise InputError(
            f"{path}: {overlapping} crystals have atoms nearer than {SHORTEST_DISTANCE} Å, which no policy should learn; tokenize "
            "the crystals again, which leaves them out by name."
        )
    parts: dict[bool, list[tuple[Sites, float]]] = {False: [], True: []}
    for sites, weight in found:
        if sites is not None:
            parts[held_out(sites_formula(sites))].append((sites, weight))
    training = [(sites, weight) for sites, weight in parts[False] if weight > 0]
    if not training:
        raise InputError(f"{path} holds no crystal to train on; give a larger table.")
    weights = np.array([weight for _, weight in training], np.float32)
    return Dataset([s for s, _ in training], [s for s, _ in parts[True]], None if (weights == 1).all() else weights)


def _weights(table: pa.Table, source: str) -> list[float]:
    if "weight" not in table.column_names:
        return [1.0] * table.num_rows
    weights = [1.0 if value is None else float(value) for value in table.column("weight").to_pylist()]
    if not all(0 <= value < np.inf for value in weights):
        raise InputError(f"{source}: the column 'weight' holds values that are no weights; they must be 0 or larger.")
    return weights


def sites_formula(sites: Sites) -> str:
    """Reduced formula of a crystal given by its sites."""
    multiplicities = wyckoff_table().multiplicities[sites.space_group, sites.wyckoff]
    return reduced_formula(np.repeat(sites.elements, multiplicities))


def dataset_digest(dataset: Dataset) -> str:
    """SHA-256 of all crystals, their order and their weights."""
    digest = sha256()
    for crystals in (dataset.training, dataset.held_out):
        digest.update(f"{len(crystals)} crystals".encode())
        for sites in crystals:
            digest.update(f"{sites.space_group} {len(sites)}".encode())
            for values, kind in (
                (sites.wyckoff, "<i8"),
                (sites.elements, "<i8"),
                (sites.frac_coords, "<f8"),
                (sites.lattice_parameters, "<f8"),
            ):
                digest.update(np.ascontiguousarray(values, kind).tobytes())
    if dataset.weights is not None:
        digest.update(np.ascontiguousarray(dataset.weights, "<f4").tobytes())
    return digest.hexdigest()


def space_group_counts(crystals: Sequence[Sites], weights: np.ndarray | None = None) -> list[int]:
    """How many crystals each of the 230 space groups has, each counted by its weight."""
    counts = np.bincount([s.space_group for s in crystals], weights, minlength=231)[1:]
    return np.ceil(counts).astype(int).tolist()


def minibatches(
    crystals: Sequence[Sites], size: int, seed: tuple[int, ...] | None, weights: np.ndarray | None = None
) -> Iterator[Minibatch]:
    """One pass over `crystals` in batches of `size`, each from one bucket; weights: how much each counts, 1 where None.

    The order depends on `seed` alone; None keeps the order given. The last batch of a bucket
    is filled up with rows of weight 0, so that one compiled step serves a bucket.
    """
    lengths = np.array([len(s) for s in crystals])
    bucket = np.searchsorted(BUCKETS, lengths)
    random = None if seed is None else np.random.default_rng(seed)
    batches = []
    for number in np.unique(bucket):
        members = np.flatnonzero(bucket == number)
        if random is not None:
            members = random.permutation(members)
        batches += [(number, members[start : start + size]) for start in range(0, len(members), size)]
    for i in np.arange(len(batches)) if random is None else random.permutation(len(batches)):
        number, members = batches[i]
        rows = np.concatenate([members, np.full(size - len(members), members[0])])
        weight = np.zeros(size, np.float32)
        weight[: len(members)] = 1.0 if weights is None else weights[members]
        yield Minibatch(make_batch([crystals[j] for j in rows], BUCKETS[number] + 1), weight)


class Variations:
    """Every crystal with the descriptions that other origins and axes give it, to draw from in each epoch."""

    def __init__(self, crystals: Sequence[Sites]) -> None:
        self._choices = [(sites, descriptions(sites)) for sites in crystals]

    def draw(self, chance: float, seed: tuple[int, ...]) -> list[Sites]:
        """The crystals in their order, each with probability `chance` in a description drawn from all it has."""
        random = np.random.default_rng(seed)
        varied, numbers = random.random(len(self._choices)) < chance, random.random(len(self._choices))
        return [
            choices[int(number * len(choices))] if vary else sites
            for (sites, choices), vary, number in zip(self._choices, varied, numbers, strict=True)
        ]


def count_batches(crystals: Sequence[Sites], size: int) -> int:
    """How many batches `minibatches` gives."""
    bucket = np.searchsorted(BUCKETS, [len(s) for s in crystals])
    return int(sum(-(-n // size) for n in np.bincount(bucket) if n))
