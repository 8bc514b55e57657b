"""Crystals with DFT labels relaxed from geometries 5 % off: what the probabilities of being stable are learned from.

The WBM rows of the data are taken in an order that mixes them; every free strain is moved by 5 %, up or down, and every free
coordinate of a site by 0.1 Å (normal), within the space group. A file of 256 rows each goes into the working folder; a run
that was killed goes on where it stood. With --start another folder, crystals begin at rest in another potential, as a
judge's do. With --known entries of the Materials Project are taken instead, as the reference has them relaxed.

    python scripts/stability_rows.py --work work/stability/chgnet
    python scripts/stability_rows.py --known 1536 --work work/stability/known
    python scripts/stability_rows.py --potential sevennet-0 --start work/stability/chgnet --work work/stability/sevennet-0
    python scripts/stability_rows.py --potential sevennet-0 --start work/stability/known --work work/stability/known_sevennet-0
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from tqdm import tqdm

from crystalformer_rl.crystal.encode import EncodeError, symmetrize
from crystalformer_rl.crystal.structure import Crystal, crystal_columns, crystals_from_table
from crystalformer_rl.crystal.tokens import Sites, token_columns
from crystalformer_rl.potential import load
from crystalformer_rl.potential.coordinates import Coordinates
from crystalformer_rl.stages.relax import relax
from crystalformer_rl.tables.column import make_table
from crystalformer_rl.tables.crystal_columns import CRYSTALS_AND_TOKENS, STATUS
from crystalformer_rl.tables.energy_columns import RELAXED
from crystalformer_rl.tables.parquet import read_table, write_table
from crystalformer_rl.tables.provenance import provenance, read_provenance
from crystalformer_rl.tables.status import OK

EMBEDDED = Path(__file__).resolve().parents[1] / "resources" / "embedded" / "reference.parquet"
STRUCTURES = Path(__file__).resolve().parents[2] / "shared" / "data" / "structures.parquet"
STRAIN, DISPLACEMENT = 0.05, 0.1
"""Of each free strain, and Å."""

SHARD = 256
MOST_ATOMS = 20


def moved(crystal: Crystal, name: str) -> Sites:
    """The crystal 5 % off, always the same for the same id."""
    coordinates = Coordinates.of(symmetrize(crystal))
    rng = np.random.default_rng(int(hashlib.sha256(name.encode()).hexdigest()[:16], 16))
    q = rng.normal(0.0, DISPLACEMENT, len(coordinates))
    signs = rng.choice([-1.0, 1.0], len(coordinates.strains))
    q[coordinates.n_positional :] = STRAIN * signs / np.abs(coordinates.strains).max(axis=(1, 2))
    return coordinates.sites(q)


def shards(structures: Path, n: int) -> list[pa.Table]:
    """Rows of WBM as crystals with tokens, `SHARD` at a time."""
    table = pq.read_table(structures)
    table = table.filter(pc.equal(table.column("source"), "wbm"))
    names = table.column("material_id").to_pylist()
    order = sorted(range(len(names)), key=lambda k: hashlib.sha256(names[k].encode()).hexdigest())[:n]
    part = table.take(pa.array(order)).rename_columns(["id", *table.column_names[1:]])
    return [part.slice(start, SHARD) for start in range(0, len(order), SHARD)]


def with_tokens(part: pa.Table) -> pa.Table:
    """A table of crystals 5 % off; those whose symmetry is not found are left out, and said."""
    crystals, _ = crystals_from_table(part)
    rows: list[tuple[str, Sites]] = []
    for name, crystal in zip(part.column("id").to_pylist(), crystals, strict=True):
        try:
            rows.append((name, moved(crystal, name)))  # type: ignore[arg-type]
        except EncodeError as error:
            print(f"{name}: {error.status}", file=sys.stderr)
    sites = [found for _, found in rows]
    cells = [Coordinates.of(found).crystal(np.zeros(len(Coordinates.of(found)))) for found in sites]
    columns = crystal_columns(cells) | token_columns(sites, coords_name="site_frac_coords")
    return make_table(
        (*CRYSTALS_AND_TOKENS, STATUS), {"id": [name for name, _ in rows], **columns, "status": [OK] * len(rows)}
    )


def known(n: int) -> list[pa.Table]:
    """Entries of the embedded reference that are of the Materials Project and were relaxed, as `relax` would write them."""
    table = pq.read_table(EMBEDDED)
    wanted = pc.and_(pc.is_valid(table.column("energy")), pc.is_valid(table.column("dft_formation_energy")))
    wanted = pc.and_(pc.and_(wanted, pc.is_valid(table.column("lattice"))), pc.not_equal(table.column("source"), "wbm"))
    table = table.filter(pc.and_(wanted, pc.less_equal(table.column("n_atoms"), MOST_ATOMS)))
    names = table.column("id").to_pylist()
    order = sorted(range(len(names)), key=lambda k: hashlib.sha256(names[k].encode()).hexdigest())[:n]
    chosen = table.take(pa.array(order))
    columns = {c.name: chosen.column(c.name).to_pylist() for c in RELAXED if c.name in chosen.column_names}
    whole = make_table(RELAXED, columns | {"status": [OK] * len(order)})
    return [whole.slice(start, SHARD) for start in range(0, len(order), SHARD)]


def main() -> None:
    """Move, relax, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--potential", default="chgnet")
    parser.add_argument(
        "--start", type=Path, help="folder of another potential's rows, from whose crystals relaxation begins"
    )
    parser.add_argument("--known", type=int, default=0, help="entries of the reference instead, so many")
    parser.add_argument("--structures", type=Path, default=STRUCTURES)
    parser.add_argument("--n", type=int, default=10**6)
    parser.add_argument("--work", type=Path, required=True)
    arguments = parser.parse_args()
    if arguments.known:
        record = read_provenance(EMBEDDED)["potential"]
        for k, part in enumerate(known(arguments.known)):
            write_table(arguments.work / f"{k:03d}.parquet", part, provenance("stability rows", {}, [], potential=record))
        return
    potential = load(arguments.potential)
    record = potential.identity.as_record()
    start = sorted(arguments.start.glob("*.parquet")) if arguments.start else shards(arguments.structures, arguments.n)
    for k, part in enumerate(tqdm(start, unit="shard")):
        path = arguments.work / f"{k:03d}.parquet"
        if not path.is_file():
            relaxed = relax(with_tokens(part) if isinstance(part, pa.Table) else read_table(part), potential)
            write_table(path, relaxed, provenance("stability rows", {}, [], potential=record))


if __name__ == "__main__":
    main()
