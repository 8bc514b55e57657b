"""Stored energies computed again: whether a reference was made with the potential at hand."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from crystalformer_rl.crystal.structure import Crystal, crystals_from_table
from crystalformer_rl.errors import InputError
from crystalformer_rl.potential.protocol import Potential
from crystalformer_rl.reference.compatibility import check_same_potential
from crystalformer_rl.reference.identity import PotentialIdentity
from crystalformer_rl.tables.energy_columns import REFERENCE
from crystalformer_rl.tables.parquet import read_table
from crystalformer_rl.tables.provenance import read_provenance
from crystalformer_rl.tables.status import OK

SELF_TEST_LIMIT = 2e-3
"""eV/atom; a stored energy that the potential at hand misses by more is another potential's."""


def self_test(reference: str | Path, potential: Potential, n: int = 8) -> float:
    """Recompute `n` stored entries and return the largest deviation, eV/atom.

    Raises InputError past 2 meV/atom, for another potential's identity, or where no entry can be recomputed.
    """
    stored = PotentialIdentity.from_record(read_provenance(reference).get("potential"))
    remedy = "build a reference for this potential with `crystalformer-rl reference`"
    check_same_potential(f"the potential {potential.identity.name}", potential.identity, str(reference), stored, remedy)
    part = _some_entries(reference, n)
    crystals, _ = crystals_from_table(part)
    energies = dict(zip(part.column("id").to_pylist(), part.column("energy").to_pylist(), strict=True))
    named = {i: c for i, c in zip(energies, crystals, strict=True) if c is not None}
    return _largest_deviation(potential, named, energies, str(reference))


def entries_to_recompute(reference: str | Path, n: int = 8) -> list[Crystal]:
    """The crystals that `self_test` recomputes."""
    return [c for c in crystals_from_table(_some_entries(reference, n))[0] if c is not None]


def has_crystals(reference: str | Path) -> bool:
    """Whether a reference holds geometries at all, so that some of its energies can be computed again."""
    if "lattice" not in pq.read_schema(reference).names:
        return False
    lattices = pq.read_table(reference, columns=["lattice"]).column("lattice")
    return bool(lattices.null_count < len(lattices))


def _some_entries(reference: str | Path, n: int) -> pa.Table:
    """`n` entries with crystal and energy, always the same ones."""
    table = read_table(reference, REFERENCE)
    usable = table.filter(pc.and_(pc.equal(table["status"], OK.value), pc.is_valid(table["lattice"])))
    if usable.num_rows == 0:
        raise InputError(f"{reference} has no entry with both crystal and energy; build it again with `reference`.")
    ids = usable.column("id").to_pylist()
    return usable.take(sorted(range(len(ids)), key=lambda k: hashlib.sha256(str(ids[k]).encode()).hexdigest())[:n])


def check_single_points(
    potential: Potential, crystals: Mapping[str, Crystal], energies: Mapping[str, float], n: int = 8
) -> float:
    """The same for single points given by id: the largest deviation of `n` of them, eV/atom."""
    chosen = sorted(crystals.keys() & energies.keys(), key=lambda i: hashlib.sha256(str(i).encode()).hexdigest())[:n]
    if not chosen:
        return 0.0
    return _largest_deviation(potential, {i: crystals[i] for i in chosen}, energies, "the table of single points")


def _largest_deviation(
    potential: Potential, crystals: Mapping[str, Crystal], energies: Mapping[str, float], source: str
) -> float:
    worst, worst_id = 0.0, ""
    for i, outcome in zip(crystals, potential.evaluate(list(crystals.values()), forces=False), strict=True):
        deviation = math.inf if isinstance(outcome, str) else abs(outcome.energy - energies[i])
        if deviation >= worst:
            worst, worst_id = deviation, i
    if worst > SELF_TEST_LIMIT:
        raise InputError(
            f"{source}: the energy of {worst_id} is off by {1000 * worst:.1f} meV/atom from {potential.identity.name} "
            f"computed here (limit {1000 * SELF_TEST_LIMIT:.0f}); it was made with another potential or another version, "
            f"so make it again."
        )
    return worst
