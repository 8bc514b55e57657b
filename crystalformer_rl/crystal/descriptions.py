"""The descriptions of one crystal that other origins and axes give, and the one among them that is standard here."""

from __future__ import annotations

from typing import Any

import numpy as np

from crystalformer_rl.crystal.elements import electronegativity_rank
from crystalformer_rl.crystal.normalizer import NormalizerMap, normalizer_maps
from crystalformer_rl.crystal.tokens import Sites, sort_sites
from crystalformer_rl.crystal.wyckoff import wyckoff_table

COORDINATE_TOLERANCE = 1e-4
"""Fractional; how far a point may be from its standard form and still satisfy it."""


def descriptions(sites: Sites, *, same_lattice: bool = False) -> list[Sites]:
    """The different descriptions of a crystal under `normalizer_maps`, sites sorted, in no particular order.

    With `same_lattice`, only those that keep the lattice parameters as they are.
    """
    found: dict[tuple[Any, ...], Sites] = {}
    for change in normalizer_maps(sites.space_group):
        if same_lattice and not _keeps_lengths(sites.space_group, change):
            continue
        image = transformed(sites, change)
        found.setdefault(_order(image), image)
    return list(found.values())


def standard_description(sites: Sites) -> Sites:
    """The standard one of the descriptions with the same lattice parameters.

    The first by letters, then by elements from the least electronegative, then by coordinates: cubic perovskites
    have the large cation at 1a, rock salts the cation at 4a. What a policy
    learns of one member of a family then holds for all.
    """
    return min(descriptions(sites, same_lattice=True), key=_order)


def transformed(sites: Sites, change: NormalizerMap) -> Sites:
    """The description of the same crystal that a map of the normalizer leads to."""
    g = sites.space_group
    table = wyckoff_table()
    general = table.operations(g, table.n_letters(g))
    letters = [change.letters[w] for w in sites.wyckoff]
    points = sites.frac_coords @ change.rotation.T + change.shift
    coords = [
        representative(g, letter, general[:, :, :3] @ point + general[:, :, 3])
        for letter, point in zip(letters, points, strict=True)
    ]
    axes = list(change.axes)
    lattice = np.concatenate([sites.lattice_parameters[:3][axes], sites.lattice_parameters[3:][axes]])
    return sort_sites(g, letters, sites.elements, coords, lattice)


def representative(g: int, letter: int, points: np.ndarray) -> np.ndarray | None:
    """Of the points (n, 3) of an orbit, the first by (x, y, z) that satisfies the standard form of `letter`; None if none does."""
    first = wyckoff_table().operations(g, letter)[0]
    images = points @ first[:, :3].T + first[:, 3]
    delta = images - points
    fits = np.abs(delta - np.rint(delta)).max(1) < COORDINATE_TOLERANCE
    if not fits.any():
        return None
    exact = _wrap(images[fits] - np.rint(delta[fits]))
    exact = _wrap(exact @ first[:, :3].T + first[:, 3])
    return exact[np.lexsort(np.round(exact, 6).T[::-1])[0]]


def _wrap(coords: np.ndarray) -> np.ndarray:
    """Into [0, 1); what rounding left just below 1 becomes 0."""
    wrapped = coords % 1.0
    return np.where(wrapped > 1.0 - 1e-9, 0.0, wrapped)


def _keeps_lengths(g: int, change: NormalizerMap) -> bool:
    return not 16 <= g <= 74 or change.axes == (0, 1, 2)


def _order(sites: Sites) -> tuple[Any, ...]:
    """Sorts descriptions; equal for equal ones. Coordinates to 1e-4, so that rounding makes no new one."""
    ranks = [electronegativity_rank(z) for z in sites.elements]
    places = sorted(zip(sites.wyckoff.tolist(), ranks, strict=True))
    coords = np.round(sites.frac_coords, 4) % 1.0
    return (
        tuple(sites.wyckoff.tolist()),
        tuple(places),
        tuple(coords.ravel().tolist()),
        tuple(ranks),
        tuple(np.round(sites.lattice_parameters, 4).tolist()),
    )
