"""Crystals as padded arrays, and the symmetry tables that the network reads."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from crystalformer_rl.crystal.lattice import free_lattice_parameters
from crystalformer_rl.crystal.tokens import Sites
from crystalformer_rl.crystal.wyckoff import wyckoff_table


class TokenBatch(NamedTuple):
    """B crystals in S places each; the last used place of a crystal is followed by at least one padding place.

    g: space group; w: Wyckoff letters, 0 = padding; a: elements, 0 = padding; x: fractional
    coordinates of the representatives; l: a, b, c over (atoms in the conventional cell)^(1/3), angles in radians.
    """

    g: Int[Array, " b"]
    w: Int[Array, "b s"]
    a: Int[Array, "b s"]
    x: Float[Array, "b s 3"]
    l: Float[Array, "b 6"]

    @staticmethod
    def of_none(places: int) -> TokenBatch:
        """No crystals, as NumPy arrays."""
        whole, real = np.int32, np.float32
        shapes = (((0,), whole), ((0, places), whole), ((0, places), whole), ((0, places, 3), real), ((0, 6), real))
        leaves: list[Any] = [np.zeros(shape, kind) for shape, kind in shapes]
        return TokenBatch(*leaves)


class SymmetryArrays(NamedTuple):
    """Symmetry by [space group, letter]; see `crystal.wyckoff.WyckoffTable`.

    first_operation: (231, 28, 3, 4), op₀; free_lattice: (231, 6).
    """

    multiplicities: Int[np.ndarray, "231 28"]
    letters: Int[np.ndarray, " 231"]
    no_freedom: Bool[np.ndarray, "231 28"]
    free: Bool[np.ndarray, "231 28 3"]
    independent: Bool[np.ndarray, "231 28 3"]
    first_operation: Float[np.ndarray, "231 28 3 4"]
    free_lattice: Bool[np.ndarray, "231 6"]


@cache
def symmetry_arrays() -> SymmetryArrays:
    """The tables as numpy arrays, made once; under `jit` they are constants."""
    table = wyckoff_table()
    first = np.zeros((231, 28, 3, 4))
    free_lattice = np.zeros((231, 6), bool)
    for g in range(1, 231):
        free_lattice[g] = free_lattice_parameters(g)
        for w in range(1, table.n_letters(g) + 1):
            first[g, w] = table.operations(g, w)[0]
    return SymmetryArrays(
        table.multiplicities, table.letters, table.no_freedom, table.free, table.independent, first, free_lattice
    )


def scaled_lattice(sites: Sites) -> np.ndarray:
    """(6,) lengths over (atoms in the conventional cell)^(1/3), angles in radians."""
    lengths = sites.lattice_parameters[:3] / sites.n_atoms ** (1 / 3)
    return np.concatenate([lengths, np.radians(sites.lattice_parameters[3:])])


def make_batch(crystals: Sequence[Sites], places: int | None = None) -> TokenBatch:
    """Pad crystals to `places` sites (by default one more than the longest has).

    Coordinates and lattice are float32 whatever the precision of the weights, as in the published code.
    """
    longest = max(len(s) for s in crystals)
    places = longest + 1 if places is None else places
    if longest >= places:
        raise ValueError(f"{longest} sites do not fit in {places} places with one of padding")
    size = len(crystals)
    w, a = np.zeros((size, places), np.int32), np.zeros((size, places), np.int32)
    x = np.zeros((size, places, 3), np.float32)
    for i, sites in enumerate(crystals):
        w[i, : len(sites)], a[i, : len(sites)], x[i, : len(sites)] = sites.wyckoff, sites.elements, sites.frac_coords
    g = np.array([s.space_group for s in crystals], np.int32)
    l = np.array([scaled_lattice(s) for s in crystals], np.float32)
    return TokenBatch(*(jnp.asarray(array) for array in (g, w, a, x, l)))
