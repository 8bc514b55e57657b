"""How far a potential's formation energies lie from the scale of a reference's DFT energies, and where that is stored."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from crystalformer_rl.crystal.elements import composition
from crystalformer_rl.crystal.structure import Crystal, crystals_from_table
from crystalformer_rl.errors import InputError
from crystalformer_rl.potential.protocol import Outcome, Potential
from crystalformer_rl.reference.bias import Bias, fit_bias
from crystalformer_rl.reference.corrections import MP2020, NoCorrectionError
from crystalformer_rl.reference.energies import read_energies
from crystalformer_rl.reference.formation_energy import by_number, formation_energy
from crystalformer_rl.reference.identity import Corrections, Functional
from crystalformer_rl.reference.scale import MP2020_SCALE, dft_identity, must_add_mp2020
from crystalformer_rl.tables.column import pick
from crystalformer_rl.tables.energy_columns import REFERENCE
from crystalformer_rl.tables.parquet import read_table

ENTRIES = 200
NEAR_HULL = 0.1
"""eV/atom; entries higher above DFT's hull say little of the phases that compete."""

MOST_ATOMS = 12
"""Of an entry that is chosen, so that two hundred take seconds."""

_OF_EACH = 4
"""Entries with an element that are chosen before any others, so that rare elements are not missed."""


_CHUNK = 20


class NoBiasError(InputError):
    """The potential has no bias against the scale: it learned another, or does not say which."""


def measure_bias(
    potential: Potential,
    reference: str | Path,
    *,
    corrections: Corrections | None = None,
    entries: int = ENTRIES,
    advance: Callable[[int], object] | None = None,
) -> Bias:
    """The bias of a potential by single points on entries of a reference near DFT's hull, at their stored geometries.

    corrections: those in the potential's energies, where its identity does not say. MP2020 corrections are added to uncorrected
    energies. Raises NoBiasError where the two cannot be brought to one scale, InputError for a reference without DFT energies on one.
    """
    energies = read_energies(reference)
    if energies.bias is None:
        raise InputError(
            f"{reference} has no DFT energies on a scale; take one that `crystalformer-rl reference` made with them."
        )
    scale = dft_identity("", Functional.PBE, Corrections.MP2020)
    try:
        add = must_add_mp2020("the potential", potential.identity, str(reference), scale, corrections)
    except InputError as error:
        raise NoBiasError(str(error)) from error
    elemental, scheme = by_number(energies.elemental_energies), MP2020()
    compositions, differences = [], []
    for crystal, known, outcome in _evaluated(potential, _chosen(reference, entries), advance):
        counts = composition(crystal.atomic_numbers.tolist())
        if isinstance(outcome, str):
            continue
        try:
            added = scheme.correction(counts, crystal) if add else 0.0
        except NoCorrectionError:
            continue
        found = formation_energy(counts, outcome.energy + added, elemental)
        if found is not None:
            compositions.append(counts)
            differences.append(found - known)
    return fit_bias(MP2020_SCALE, compositions, np.array(differences))


def _evaluated(
    potential: Potential, entries: list[tuple[Crystal, float]], advance: Callable[[int], object] | None
) -> Iterator[tuple[Crystal, float, Outcome]]:
    """The entries with their single points, some at a time so that progress is seen."""
    for start in range(0, len(entries), _CHUNK):
        part = entries[start : start + _CHUNK]
        for (crystal, known), outcome in zip(part, potential.evaluate([c for c, _ in part], forces=False), strict=True):
            yield crystal, known, outcome
        if advance is not None:
            advance(len(part))


def _chosen(reference: str | Path, n: int) -> list[tuple[Crystal, float]]:
    """Entries with their DFT formation energies, always the same: some of each element first, then any."""
    columns = ("id", "atomic_numbers", "frac_coords", "lattice", "dft_formation_energy", "dft_e_above_hull", "n_atoms")
    table = read_table(reference, pick(REFERENCE, *columns))
    near = pc.and_(pc.less_equal(table.column("dft_e_above_hull"), NEAR_HULL), pc.is_valid(table.column("lattice")))
    table = table.filter(pc.and_(near, pc.less_equal(table.column("n_atoms"), MOST_ATOMS)))
    table = table.filter(pc.is_valid(table.column("dft_formation_energy")))
    names = table.column("id").to_pylist()
    order = sorted(range(len(names)), key=lambda k: hashlib.sha256(names[k].encode()).hexdigest())
    elements = [set(numbers) for numbers in table.column("atomic_numbers").to_pylist()]
    seen: Counter[int] = Counter()
    first = []
    for k in order:
        if any(seen[z] < _OF_EACH for z in elements[k]):
            first.append(k)
            seen.update(elements[k])
    chosen = [*first, *(k for k in order if k not in set(first))][:n]
    part = table.take(pa.array(sorted(chosen), pa.int64()))
    crystals, _ = crystals_from_table(part)
    pairs = zip(crystals, part.column("dft_formation_energy").to_pylist(), strict=True)
    return [(crystal, energy) for crystal, energy in pairs if crystal is not None]
