"""What a crystal does when nothing keeps its symmetry: a second relaxation after the symmetric one.

Each atom is moved and the cell strained a little, so that a crystal on a saddle point leaves it, and relaxed in space group 1. The symmetry of
what comes out is searched and kept in a last, short relaxation, so that crystal, tokens and energy belong together.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from crystalformer_rl.crystal.structure import Crystal
from crystalformer_rl.potential.protocol import Potential
from crystalformer_rl.potential.relax_settings import RelaxSettings
from crystalformer_rl.potential.relaxation import relax, sites_of, sites_without_symmetry
from crystalformer_rl.potential.walker import Relaxed

RATTLE = 0.03
"""Å, standard deviation of each coordinate's displacement."""
STRAIN = 0.01
"""Standard deviation of each component of the strain."""
SYMPREC = 0.1
"""Å; relaxed atoms stay this near to the places that a symmetry would give them."""
LEAST_GAIN = 1e-3
"""eV/atom; without a gain of this much the crystal keeps the symmetry it had."""


def relax_freely(
    potential: Potential,
    results: Sequence[Relaxed],
    settings: RelaxSettings,
    *,
    batch_size: int = 16,
    advance: Callable[[int], object] | None = None,
) -> list[Relaxed]:
    """Relax each success of `relax` again without symmetry; failures are handed on.

    The result is the lower crystal, with all evaluations counted, and with `energy_kept` and `space_group_kept`, which
    belong to the symmetric relaxation. A free relaxation that fails, or gains less than 1 meV/atom, changes nothing.
    """
    starts = [sites_without_symmetry(rattled(r.crystal)) if r.crystal is not None else r.status for r in results]
    walked = relax(potential, starts, settings, batch_size=batch_size, advance=advance)
    found = [sites_of(w.crystal, SYMPREC) if w.crystal is not None else w.status for w in walked]
    polished = relax(potential, found, settings, batch_size=batch_size)
    return [_lower(*three) for three in zip(results, walked, polished, strict=True)]


def rattled(crystal: Crystal) -> Crystal:
    """The crystal with each atom moved by some hundredths of an Å and a strained cell; the same for the same crystal."""
    content = b"".join(np.round(np.asarray(a, float), 3).tobytes() for a in (crystal.atomic_numbers, crystal.lattice))
    rng = np.random.default_rng(np.frombuffer(hashlib.sha256(content).digest()[:8], np.uint64))
    moves = RATTLE * rng.normal(size=(len(crystal), 3))
    strain = STRAIN * rng.normal(size=(3, 3))
    coords = crystal.frac_coords + moves @ np.linalg.inv(crystal.lattice)
    return Crystal(crystal.atomic_numbers, coords, crystal.lattice @ (np.eye(3) + (strain + strain.T) / 2))


def _lower(kept: Relaxed, walked: Relaxed, polished: Relaxed) -> Relaxed:
    """The best of the three relaxations of one crystal."""
    if kept.energy is None or kept.sites is None:
        return kept
    evaluations = kept.evaluations + walked.evaluations + polished.evaluations
    best = walked
    if polished.energy is not None and walked.energy is not None and polished.energy <= walked.energy + LEAST_GAIN:
        best = polished
    if best.energy is None or best.energy > kept.energy - LEAST_GAIN:
        best = kept
    return replace(
        best,
        evaluations=evaluations,
        energy_initial=kept.energy_initial,
        energy_kept=kept.energy,
        space_group_kept=kept.sites.space_group,
    )
