"""A reference: what a hull and a novelty search compare with, its energies all from one potential.

Entries near the hull and small enough to be trained on are relaxed and kept with crystal
and tokens (roles `pretraining` and `held_out`); the others only hold the hull up: formula and
energy, no geometry (role `hull_only`). The work goes in shards, each a file in a working folder, so
that a run which was killed goes on where it stood.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from crystalformer_rl.crystal.elements import atomic_number, composition
from crystalformer_rl.crystal.split import held_out
from crystalformer_rl.crystal.structure import Crystal, crystal_columns, crystals_from_table
from crystalformer_rl.crystal.tokens import Sites, sites_from_table, token_columns
from crystalformer_rl.errors import InputError
from crystalformer_rl.potential import load
from crystalformer_rl.potential.protocol import Potential
from crystalformer_rl.potential.relaxation import relax
from crystalformer_rl.potential.walker import Relaxed, Settings
from crystalformer_rl.tables.column import make_table
from crystalformer_rl.tables.crystal_columns import ID
from crystalformer_rl.tables.energy_columns import REFERENCE
from crystalformer_rl.tables.parquet import read_table, write_table
from crystalformer_rl.tables.provenance import digest_json, provenance, read_provenance

SHARD = 256
"""Crystals a file in the working folder."""

SELF_TEST_LIMIT = 2e-3
"""eV/atom; a stored energy that the potential at hand misses by more is another potential's."""

_LABELS = ("dft_formation_energy", "dft_e_above_hull", "dft_band_gap")
_SHARD_COLUMNS = (
    ID,
    *(c for c in REFERENCE if c.name not in {"id", "role", "source", "formation_energy", *_LABELS}),
)


@dataclass(frozen=True)
class Selection:
    """Which entries a policy is trained on: near the DFT hull (eV/atom) and small (atoms in the cell given); or none."""

    max_atoms: int = 20
    max_e_above_hull: float = 0.1
    hull_only: bool = False

    def role(self, crystal: Crystal, dft_e_above_hull: float | None) -> str:
        """`pretraining`, `held_out` or `hull_only`; an entry without a DFT label is `hull_only`."""
        if self.hull_only:
            return "hull_only"
        if dft_e_above_hull is None or not dft_e_above_hull <= self.max_e_above_hull or len(crystal) > self.max_atoms:
            return "hull_only"
        return "held_out" if held_out(crystal.formula) else "pretraining"


def formation_energy(atomic_numbers: Iterable[int], energy: float, elemental: Mapping[int, float]) -> float | None:
    """Energy minus the composition's share of the elemental energies, eV/atom; None where an element has none."""
    counts = composition(atomic_numbers)
    if not elemental.keys() >= counts.keys():
        return None
    total = sum(counts.values())
    return energy - sum(n * elemental[z] for z, n in counts.items()) / total


def build_reference(
    table: pa.Table,
    potential_name: str,
    elemental_energies: Mapping[str, float] | None,
    work: Path,
    *,
    settings: Settings,
    selection: Selection | None = None,
    single_points: Mapping[str, float] | None = None,
    processes: int = 1,
    advance: Callable[[int], object] | None = None,
) -> tuple[pa.Table, dict[str, Any]]:
    """The reference of the crystals in `table`, and what its provenance must say of the potential.

    table: crystals with `id`, and `dft_formation_energy`, `dft_e_above_hull`, `dft_band_gap` and `source` where known.
    elemental_energies: {symbol: eV/atom}; None takes the lowest elemental entries, see `potential.elemental`.
    single_points: {id: eV/atom in this very potential} for entries that are not relaxed; those that it lacks are
    computed, and a few of those that it has are checked. work: folder of the finished shards.
    """
    read, statuses = crystals_from_table(table)
    # what is made of no element has no formula, by which entries are sorted
    crystals = [None if status == "unknown_element" else c for c, status in zip(read, statuses, strict=True)]
    ids = table.column("id").to_pylist()
    if len(set(ids)) != len(ids):
        raise InputError("two crystals have the same id; give each its own, since a hull names its entries by them.")
    labels = {name: _column(table, name) for name in (*_LABELS, "source")}
    selection = selection or Selection()
    roles = [
        "hull_only" if c is None else selection.role(c, label)
        for c, label in zip(crystals, labels["dft_e_above_hull"], strict=True)
    ]
    known = dict(single_points or {})
    potential = load(potential_name)
    if known:
        check_single_points(potential, {i: c for i, c in zip(ids, crystals, strict=True) if c is not None}, known)

    sound = [k for k, status in enumerate(statuses) if status == "ok"]
    to_relax = [k for k in sound if roles[k] != "hull_only"]
    to_evaluate = [k for k in sound if roles[k] == "hull_only" and ids[k] not in known]
    rows: dict[int, dict[str, Any]] = {}
    shards = [
        *_shards("relaxed", to_relax, ids, crystals, asdict(settings), potential.identity),
        *_shards("single_points", to_evaluate, ids, crystals, None, potential.identity),
    ]
    for shard, result in _run(shards, work, potential_name, potential, processes):
        rows.update(zip(shard.rows, result.to_pylist(), strict=True))
        if advance is not None:
            advance(len(shard.rows))
    found = [rows.get(k) or _known_row(c, statuses[k], known.get(ids[k])) for k, c in enumerate(crystals)]
    zero = _recorded_zero(elemental_energies, potential, ids, crystals, found)
    elemental = {atomic_number(symbol): energy for symbol, energy in zero["elemental_energies"].items()}
    entries = []
    for k, (crystal, row) in enumerate(zip(crystals, found, strict=True)):
        row |= {"id": ids[k], "role": roles[k]} | {name: values[k] for name, values in labels.items()}
        entries.append(_with_formation_energy(row, crystal, elemental))
    data = {c.name: [entry.get(c.name) for entry in entries] for c in REFERENCE}
    used = sum(1 for k, i in enumerate(ids) if roles[k] == "hull_only" and i in known)
    origins = {
        "pretraining and held_out": f"relaxed with the space group kept, at most {settings.max_evaluations} "
        f"evaluations, to {settings.fmax} eV/Å and {settings.smax} GPa; force_max and stress_max say what remains",
        "hull_only": f"single points on the geometries given, {used} of them from a table that was spot-checked",
    }
    if selection.hull_only:
        del origins["pretraining and held_out"]
    record = {"potential": potential.identity, **zero, "energies": origins}
    return make_table(REFERENCE, data), record


def _column(table: pa.Table, name: str) -> list[Any]:
    return table.column(name).to_pylist() if name in table.column_names else [None] * table.num_rows


def _recorded_zero(
    given: Mapping[str, float] | None,
    potential: Potential,
    ids: list[str],
    crystals: Sequence[Crystal | None],
    rows: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """The elemental energies as the provenance records them: those given, or the lowest of this very potential."""
    if given is not None:
        return {"elemental_energies": dict(given)}
    from crystalformer_rl.potential.elemental import elemental_energies, recorded

    sound = [
        (name, np.asarray(c.atomic_numbers).tolist(), row["energy"])
        for name, c, row in zip(ids, crystals, rows, strict=True)
        if c is not None and row["status"] == "ok"
    ]
    return recorded(elemental_energies(potential, {z for _, numbers, _ in sound for z in numbers}, sound))


def compact(table: pa.Table) -> pa.Table:
    """The reference without what a hull does not ask: energies to 1e-5 eV/atom, no DFT labels, no counts of atoms."""
    data: dict[str, Any] = {name: table.column(name).to_pylist() for name in ("id", "formula", "role", "source", "status")}
    for name in ("energy", "formation_energy"):
        data[name] = [_maybe_round(value, 5) for value in table.column(name).to_pylist()]
    return make_table(REFERENCE, data)


def _known_row(crystal: Crystal | None, status: str, energy: float | None) -> dict[str, Any]:
    """A row for an entry that was not computed: its energy was given, or it failed when read."""
    formula = crystal.formula if crystal is not None and len(crystal) else None
    row: dict[str, Any] = {"formula": formula, "n_atoms": len(crystal) if crystal is not None else None, "evaluations": 0}
    if status != "ok":
        return row | {"status": status}
    if energy is None or not math.isfinite(energy):
        return row | {"status": "potential_failed"}
    return row | {"status": "ok", "energy": round(energy, 6)}


def _with_formation_energy(row: dict[str, Any], crystal: Crystal | None, elemental: Mapping[int, float]) -> dict[str, Any]:
    if row["status"] != "ok" or crystal is None:
        return row
    formation = formation_energy(crystal.atomic_numbers, row["energy"], elemental)
    if formation is None:
        return row | {"status": "no_reference_energy"}
    return row | {"formation_energy": round(formation, 6)}


@dataclass(frozen=True)
class _Shard:
    """A part of the work: rows of the input, their crystals, and the digest that names their result."""

    kind: str
    rows: list[int]
    ids: list[str]
    crystals: list[Crystal]
    settings: dict[str, Any] | None
    digest: str

    def path(self, work: Path) -> Path:
        return work / f"{self.kind}_{self.digest[:16]}.parquet"


def _shards(
    kind: str,
    rows: list[int],
    ids: list[str],
    crystals: Sequence[Crystal | None],
    settings: dict[str, Any] | None,
    identity: dict[str, Any],
) -> list[_Shard]:
    """Shards in an order that mixes the input, so that the first ones are representative of all."""
    order = sorted(rows, key=lambda k: hashlib.sha256(str(ids[k]).encode()).hexdigest())
    shards = []
    for start in range(0, len(order), SHARD):
        part = order[start : start + SHARD]
        chosen = [c for c in (crystals[k] for k in part) if c is not None]
        content = [crystal_columns(chosen), [ids[k] for k in part], settings, identity]
        shards.append(_Shard(kind, part, [ids[k] for k in part], chosen, settings, digest_json(content)))
    return shards


def _run(
    shards: Sequence[_Shard], work: Path, name: str, potential: Potential, processes: int
) -> Iterator[tuple[_Shard, pa.Table]]:
    """The result of each shard, computed or found in `work`."""
    ready = [s for s in shards if s.path(work).is_file()]
    for shard in ready:
        yield shard, read_table(shard.path(work))
    missing = [s for s in shards if not s.path(work).is_file()]
    if processes <= 1 or len(missing) <= 1:
        for shard in missing:
            yield shard, _compute(shard, work, potential)
        return
    with ProcessPoolExecutor(min(processes, len(missing)), get_context("spawn"), _start_process, (name,)) as pool:
        futures = [(shard, pool.submit(_compute_in_process, shard, work)) for shard in missing]
        for shard, future in futures:
            future.result()
            yield shard, read_table(shard.path(work))


_process_potential: list[Potential] = []


def _start_process(name: str) -> None:
    _process_potential.append(load(name))


def _compute_in_process(shard: _Shard, work: Path) -> None:
    _compute(shard, work, _process_potential[0])


def _compute(shard: _Shard, work: Path, potential: Potential) -> pa.Table:
    rows = _relaxed_rows(shard, potential) if shard.settings is not None else _single_point_rows(shard, potential)
    data = {c.name: [row.get(c.name) for row in rows] for c in _SHARD_COLUMNS} | {"id": shard.ids}
    table = make_table(_SHARD_COLUMNS, data)
    write_table(shard.path(work), table, provenance("reference shard", {"digest": shard.digest}))
    return table


def _single_point_rows(shard: _Shard, potential: Potential) -> list[dict[str, Any]]:
    rows = []
    for crystal, outcome in zip(shard.crystals, potential.evaluate(shard.crystals, forces=False), strict=True):
        row: dict[str, Any] = {"formula": crystal.formula, "n_atoms": len(crystal), "evaluations": 1}
        if isinstance(outcome, str):
            rows.append(row | {"status": outcome})
        else:
            rows.append(row | {"status": "ok", "energy": round(outcome.energy, 6)})
    return rows


def _relaxed_rows(shard: _Shard, potential: Potential) -> list[dict[str, Any]]:
    assert shard.settings is not None
    results = relax(potential, shard.crystals, Settings(**shard.settings))
    return [_relaxed_row(crystal, result) for crystal, result in zip(shard.crystals, results, strict=True)]


def _relaxed_row(crystal: Crystal, result: Relaxed) -> dict[str, Any]:
    row = {"formula": crystal.formula, "n_atoms": len(crystal), "evaluations": result.evaluations, "status": result.status}
    if result.status != "ok":
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
            "force_max": _maybe_round(result.force_max, 4),
            "stress_max": _maybe_round(result.stress_max, 4),
        }
    )


def _maybe_round(value: float | None, digits: int) -> float | None:
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


def check_identity(path: str | Path, identity: Mapping[str, Any]) -> None:
    """Raise InputError where the reference's energies come from another potential than `identity`."""
    stored = read_provenance(path).get("potential")
    if stored is None:
        raise InputError(f"{path} does not say which potential its energies are from; build it with `reference`.")
    if dict(stored) != dict(identity):
        raise InputError(
            f"{path} holds energies of {_describe(stored)}, not of {_describe(identity)}; "
            f"energies of two potentials do not compare: build a reference for this one with `reference`."
        )


def _describe(identity: Mapping[str, Any]) -> str:
    weights = str(identity.get("weights_sha256"))[:12]
    return f"{identity.get('name')} (weights {weights}, corrections: {identity.get('corrections')})"


def self_test(reference: str | Path, potential: Potential, n: int = 8) -> float:
    """Recompute `n` stored entries and return the largest deviation, eV/atom.

    Raises InputError past 2 meV/atom, for another potential's identity, or where no entry can be recomputed.
    """
    check_identity(reference, potential.identity)
    part = _some_entries(reference, n)
    crystals, _ = crystals_from_table(part)
    energies = dict(zip(part.column("id").to_pylist(), part.column("energy").to_pylist(), strict=True))
    named = {i: c for i, c in zip(energies, crystals, strict=True) if c is not None}
    return _largest_deviation(potential, named, energies, str(reference))


def entries_to_recompute(reference: str | Path, n: int = 8) -> list[Crystal]:
    """The crystals that `self_test` recomputes."""
    return [c for c in crystals_from_table(_some_entries(reference, n))[0] if c is not None]


def _some_entries(reference: str | Path, n: int) -> pa.Table:
    """`n` entries with crystal and energy, always the same ones."""
    table = read_table(reference, REFERENCE)
    usable = table.filter(pc.and_(pc.equal(table["status"], "ok"), pc.is_valid(table["lattice"])))
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
            f"{source}: the energy of {worst_id} is off by {1000 * worst:.1f} meV/atom from {potential.identity['name']} "
            f"computed here (limit {1000 * SELF_TEST_LIMIT:.0f}); it was made with another potential or another version, "
            f"so make it again."
        )
    return worst


def reference_sites(path: str | Path) -> list[Sites | None]:
    """The tokens of every entry; None for entries that hold none."""
    return sites_from_table(read_table(path, REFERENCE), str(path))


@contextmanager
def work_folder(work: str | Path | None) -> Iterator[Path]:
    """The folder for shards: the one given, which stays, or a temporary one."""
    if work is not None:
        path = Path(work)
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{path} cannot be made ({error.strerror}); choose another --work folder.") from error
        yield path
        return
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        yield Path(name)
