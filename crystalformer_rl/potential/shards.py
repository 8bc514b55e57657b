"""Long computations in shards, each a file in a working folder, so that a run which was killed goes on where it stood."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from crystalformer_rl.crystal.structure import Crystal, crystal_columns
from crystalformer_rl.crystal.tokens import Sites, token_columns
from crystalformer_rl.errors import InputError
from crystalformer_rl.potential import load
from crystalformer_rl.potential.devices import CPU
from crystalformer_rl.potential.protocol import Potential
from crystalformer_rl.potential.relax_settings import RelaxSettings
from crystalformer_rl.potential.relaxation import relax
from crystalformer_rl.potential.walker import Relaxed
from crystalformer_rl.reference.identity import PotentialIdentity
from crystalformer_rl.tables.column import table_of_rows
from crystalformer_rl.tables.crystal_columns import ID
from crystalformer_rl.tables.energy_columns import REFERENCE
from crystalformer_rl.tables.parquet import read_table, write_table
from crystalformer_rl.tables.provenance import digest_json, provenance
from crystalformer_rl.tables.status import OK

SHARD = 256
"""Crystals a file in the working folder."""

LABELS = ("dft_formation_energy", "dft_e_above_hull", "dft_band_gap")
_SHARD_COLUMNS = (
    ID,
    *(c for c in REFERENCE if c.name not in {"id", "role", "source", "formation_energy", *LABELS}),
)


@dataclass(frozen=True)
class Shard:
    """A part of the work: rows of the input, their crystals, and the digest that names their result."""

    kind: str
    rows: list[int]
    ids: list[str]
    crystals: list[Crystal]
    settings: dict[str, Any] | None
    digest: str

    def path(self, work: Path) -> Path:
        return work / f"{self.kind}_{self.digest[:16]}.parquet"


def shards_of(
    kind: str,
    rows: list[int],
    ids: list[str],
    crystals: Sequence[Crystal | None],
    settings: dict[str, Any] | None,
    identity: PotentialIdentity,
) -> list[Shard]:
    """Shards in an order that mixes the input, so that the first ones are representative of all."""
    order = sorted(rows, key=lambda k: hashlib.sha256(str(ids[k]).encode()).hexdigest())
    shards = []
    for start in range(0, len(order), SHARD):
        part = order[start : start + SHARD]
        chosen = [c for c in (crystals[k] for k in part) if c is not None]
        content = [crystal_columns(chosen), [ids[k] for k in part], settings, identity.as_record()]
        shards.append(Shard(kind, part, [ids[k] for k in part], chosen, settings, digest_json(content)))
    return shards


def run_shards(
    shards: Sequence[Shard], work: Path, name: str, potential: Potential, processes: int, device: str = CPU
) -> Iterator[tuple[Shard, pa.Table]]:
    """The result of each shard, computed or found in `work`."""
    ready = [s for s in shards if s.path(work).is_file()]
    for shard in ready:
        yield shard, read_table(shard.path(work))
    missing = [s for s in shards if not s.path(work).is_file()]
    if processes <= 1 or len(missing) <= 1:
        for shard in missing:
            yield shard, _compute(shard, work, potential)
        return
    with ProcessPoolExecutor(min(processes, len(missing)), get_context("spawn"), _start_process, (name, device)) as pool:
        futures = [(shard, pool.submit(_compute_in_process, shard, work)) for shard in missing]
        for shard, future in futures:
            future.result()
            yield shard, read_table(shard.path(work))


_process_potential: list[Potential] = []


def _start_process(name: str, device: str) -> None:
    _process_potential.append(load(name, device=device))


def _compute_in_process(shard: Shard, work: Path) -> None:
    _compute(shard, work, _process_potential[0])


def _compute(shard: Shard, work: Path, potential: Potential) -> pa.Table:
    rows = _relaxed_rows(shard, potential) if shard.settings is not None else _single_point_rows(shard, potential)
    rows = [row | {"id": name} for row, name in zip(rows, shard.ids, strict=True)]
    table = table_of_rows(_SHARD_COLUMNS, rows)
    write_table(shard.path(work), table, provenance("reference shard", {"digest": shard.digest}))
    return table


def _single_point_rows(shard: Shard, potential: Potential) -> list[dict[str, Any]]:
    rows = []
    for crystal, outcome in zip(shard.crystals, potential.evaluate(shard.crystals, forces=False), strict=True):
        row: dict[str, Any] = {
            "formula": crystal.formula,
            "n_atoms": len(crystal),
            "evaluations": 1,
            "energy_from": "single_point",
        }
        if isinstance(outcome, str):
            rows.append(row | {"status": outcome})
        else:
            rows.append(row | {"status": OK, "energy": round(outcome.energy, 6)})
    return rows


def _relaxed_rows(shard: Shard, potential: Potential) -> list[dict[str, Any]]:
    assert shard.settings is not None
    results = relax(potential, shard.crystals, RelaxSettings(**shard.settings))
    return [_relaxed_row(crystal, result) for crystal, result in zip(shard.crystals, results, strict=True)]


def _relaxed_row(crystal: Crystal, result: Relaxed) -> dict[str, Any]:
    row = {
        "formula": crystal.formula,
        "n_atoms": len(crystal),
        "evaluations": result.evaluations,
        "status": result.status,
        "energy_from": "relaxed",
    }
    if result.status != OK:
        return row
    assert result.crystal is not None
    assert result.sites is not None
    assert result.energy is not None
    kept, sites = rounded(result.crystal), rounded_sites(result.sites)
    columns = crystal_columns([kept]) | token_columns([sites], coords_name="site_frac_coords")
    return (
        row
        | {name: values[0] for name, values in columns.items()}
        | {
            "n_atoms": len(kept),
            "energy": round(result.energy, 6),
            "force_max": maybe_round(result.force_max, 4),
            "stress_max": maybe_round(result.stress_max, 4),
        }
    )


def maybe_round(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def rounded(crystal: Crystal) -> Crystal:
    """Fractional coordinates in [0, 1) to 1e-6, lattice to 1e-5 Å: what a reference stores."""
    # Adding zero turns a rounded -0.0 into 0.0.
    coords = np.round(np.asarray(crystal.frac_coords) % 1.0, 6) % 1.0 + 0.0
    return Crystal(np.asarray(crystal.atomic_numbers), coords, np.round(crystal.lattice, 5) + 0.0)


def rounded_sites(sites: Sites) -> Sites:
    """Tokens with coordinates to 1e-6, lengths to 1e-5 Å and angles to 1e-5 degrees."""
    coords = np.round(sites.frac_coords, 6) % 1.0 + 0.0
    return Sites(sites.space_group, sites.wyckoff, sites.elements, coords, np.round(sites.lattice_parameters, 5))


@contextmanager
def work_folder(work: str | Path | None) -> Iterator[Path]:
    """The folder for shards: the one given, which stays, or a temporary one."""
    if work is not None:
        path = Path(work)
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"{path} cannot be made ({error.strerror}); choose another folder for finished parts."
            ) from error
        yield path
        return
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        yield Path(name)
