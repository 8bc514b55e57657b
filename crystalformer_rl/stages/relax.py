"""Relax crystals with a potential, keeping the space group."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from crystalformer_rl.crystal.encode import SYMPREC
from crystalformer_rl.crystal.structure import crystals_from_table
from crystalformer_rl.crystal.tokens import sites_from_table
from crystalformer_rl.potential.free import relax_freely
from crystalformer_rl.potential.protocol import Potential
from crystalformer_rl.potential.relax_settings import BATCH_SIZE, RelaxSettings
from crystalformer_rl.potential.relaxation import relax as relax_all
from crystalformer_rl.potential.relaxation import relaxed_columns
from crystalformer_rl.potential.walker import Relaxed
from crystalformer_rl.properties.energy_errors import EnergyErrors
from crystalformer_rl.properties.prediction import embed
from crystalformer_rl.resources.stability_file import read_header
from crystalformer_rl.tables.column import make_table
from crystalformer_rl.tables.energy_columns import RELAXED
from crystalformer_rl.tables.provenance import with_record
from crystalformer_rl.tables.status import OK

_TOKENS = {"space_group", "wyckoff", "elements", "site_frac_coords", "lattice_parameters"}


def relax(
    crystals: pa.Table,
    potential: Potential,
    settings: RelaxSettings | None = None,
    *,
    symprec: float = SYMPREC,
    batch_size: int = BATCH_SIZE,
    stability: str | Path | None = None,
    source: str = "the crystals",
    advance: Callable[[int], object] | None = None,
) -> pa.Table:
    """The RELAXED table of a crystals table, row for row: primitive cells at rest, tokens, energies in eV/atom.

    Rows that carry tokens (a table of samples) bring their symmetry along; for others it is searched at `symprec` (Å), and
    where none is found the crystal relaxes in space group 1. A row that cannot be relaxed keeps its place, with the
    status that says why. batch_size: crystals at a time. stability: a file of what was learned of a
    potential's errors; where it is of this one, what DFT is expected to add to the energies is told. `source` names the table in errors. The record of the table
    holds the potential's identity. Raises InputError for tokens that do not fit together.
    """
    settings = settings or RelaxSettings()
    items = _items(crystals, source)
    results = relax_all(potential, items, settings, batch_size=batch_size, symprec=symprec, advance=advance)
    if settings.free:
        results = relax_freely(potential, results, settings, batch_size=batch_size, advance=advance)
    columns = relaxed_columns(results) | {"id": crystals.column("id").to_pylist()}
    # A failed crystal has no relaxed geometry, but it keeps what it is made of, which its first energy needs.
    for name in ("formula", "atomic_numbers"):
        columns[name] = [new or old for new, old in zip(columns[name], crystals.column(name).to_pylist(), strict=True)]
    columns |= _errors(results, potential, stability)
    return with_record(make_table(RELAXED, columns), {"stage": "relax", "potential": potential.identity.as_record()})


def _errors(results: Sequence[Relaxed], potential: Potential, stability: str | Path | None) -> dict[str, Any]:
    """The columns of the expected errors; none where nothing was learned of this potential's."""
    if stability is None or read_header(stability)["potential"]["weights_sha256"] != potential.identity.digest:
        return {}
    model = EnergyErrors.load(stability)
    relaxed = [(k, r.crystal) for k, r in enumerate(results) if r.crystal is not None]
    found = np.full((2, len(results)), np.nan)
    if relaxed:
        embeddings, _ = embed(potential, [crystal for _, crystal in relaxed])
        rows = [k for k, _ in relaxed]
        found[:, rows] = model.predict([np.asarray(crystal.atomic_numbers) for _, crystal in relaxed], embeddings)
    return {
        name: pa.array(values, mask=~np.isfinite(values))
        for name, values in zip(("energy_error", "energy_error_applicability"), found, strict=True)
    }


def _items(table: pa.Table, source: str) -> list[Any]:
    """What to relax in each row: tokens where the table has them, else the crystal, else the row's status."""
    crystals, statuses = crystals_from_table(table)
    sites = sites_from_table(table, source) if set(table.column_names) >= _TOKENS else [None] * table.num_rows
    rows = zip(sites, crystals, statuses, strict=True)
    return [status if status != OK else s if s is not None else c for s, c, status in rows]
