"""Relaxation of many crystals at once, each along the coordinates that its symmetry leaves free.

Each crystal walks by itself (`potential.walker`). The potential sees all walkers' next geometries in one batch;
a walker that is done makes room for one that waits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from crystalformer_rl.crystal.encode import SYMPREC, EncodeError, symmetrize
from crystalformer_rl.crystal.lattice import lattice_matrix, lattice_parameters
from crystalformer_rl.crystal.structure import Crystal, crystal_columns
from crystalformer_rl.crystal.tokens import Sites, sort_sites, token_columns
from crystalformer_rl.potential.coordinates import Coordinates
from crystalformer_rl.potential.protocol import Potential, screen
from crystalformer_rl.potential.relax_settings import RelaxSettings
from crystalformer_rl.potential.walker import Relaxed, Walker
from crystalformer_rl.tables.crystal_columns import SITE_FRAC_COORDS
from crystalformer_rl.tables.status import Status

_MOST_ATOMS_TO_SYMMETRIZE = 2000
"""In the cell given, which may be a large supercell of a small primitive cell."""


def sites_of(crystal: Crystal, symprec: float = SYMPREC) -> Sites:
    """The symmetry's sites of a crystal; where no symmetry is found, every atom is its own site in P1."""
    try:
        return symmetrize(crystal, symprec)
    except EncodeError:
        return sites_without_symmetry(crystal)


def sites_without_symmetry(crystal: Crystal) -> Sites:
    """Every atom as its own site in space group 1."""
    ones, coords = np.ones(len(crystal), int), np.asarray(crystal.frac_coords) % 1.0
    return sort_sites(1, ones, crystal.atomic_numbers, coords, lattice_parameters(crystal.lattice))


def _walker(item: Sites | Crystal | str, settings: RelaxSettings, symprec: float) -> Walker | Relaxed:
    """The walker of a crystal, or at once the result of one that cannot be relaxed."""
    if isinstance(item, str):
        return Relaxed(item, 0)
    if isinstance(item, Crystal):
        status = screen(item, most_atoms=_MOST_ATOMS_TO_SYMMETRIZE)
        if status != Status.OK:
            return Relaxed(status, 0)
        item = sites_of(item, symprec)
    if len(item) == 0:
        return Relaxed(Status.EMPTY_CRYSTAL, 0)
    lattice = lattice_matrix(item.lattice_parameters)
    if not np.all(np.isfinite(lattice)) or np.linalg.det(lattice) <= 0:
        return Relaxed(Status.BAD_LATTICE, 0)
    if not np.all(np.isfinite(item.frac_coords)):
        return Relaxed(Status.BAD_COORDINATES, 0)
    return Walker(Coordinates.of(item), settings)


def relax(
    potential: Potential,
    crystals: Iterable[Sites | Crystal | str],
    settings: RelaxSettings | None = None,
    *,
    batch_size: int = 16,
    symprec: float = SYMPREC,
    ahead: bool = False,
    advance: Callable[[int], object] | None = None,
) -> list[Relaxed]:
    """Relax every crystal; one result each, in order.

    crystals: sites (used as they are), crystals (their symmetry is searched), or a status that stands for a
    crystal which failed before and is handed on. batch_size: walkers at a time. ahead: say where each walk would go next. `advance` is called with 1 whenever
    a crystal is done.
    """
    settings = settings or RelaxSettings()
    results: dict[int, Relaxed] = {}
    walkers: dict[int, Walker] = {}

    def finish(index: int, result: Relaxed) -> None:
        results[index] = result
        if advance is not None:
            advance(1)

    waiting = enumerate(crystals)
    while True:
        for index, item in waiting:
            walker = _walker(item, settings, symprec)
            if isinstance(walker, Relaxed):
                finish(index, walker)
            else:
                walkers[index] = walker
            if len(walkers) >= batch_size:
                break
        if not walkers:
            return [results[i] for i in range(len(results))]
        outcomes = potential.evaluate([w.trial() for w in walkers.values()], forces=True)
        for (index, walker), outcome in zip(list(walkers.items()), outcomes, strict=True):
            walker.advance(outcome)
            if walker.done:
                walkers.pop(index)
                result = walker.result()
                finish(index, replace(result, ahead=walker.ahead()) if ahead else result)


def relaxed_columns(results: Sequence[Relaxed]) -> dict[str, list[Any]]:
    """The columns of `tables.RELAXED` except `id`; a failure has a status and nulls."""
    columns = crystal_columns([r.crystal for r in results]) | token_columns(
        [r.sites for r in results], coords_name=SITE_FRAC_COORDS.name
    )
    names = (
        "energy",
        "energy_initial",
        "force_max",
        "stress_max",
        "evaluations",
        "converged",
        "energy_kept",
        "space_group_kept",
        "status",
    )
    return columns | {name: [getattr(r, name) for r in results] for name in names}
