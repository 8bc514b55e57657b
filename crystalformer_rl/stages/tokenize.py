"""Turn crystals into space group, Wyckoff sites and lattice: what a policy trains on."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc

from crystalformer_rl.crystal.encode import SYMPREC, encode
from crystalformer_rl.crystal.structure import crystals_from_table
from crystalformer_rl.crystal.tokens import token_columns
from crystalformer_rl.errors import InputError
from crystalformer_rl.tables.column import make_table
from crystalformer_rl.tables.crystal_columns import NOTE, STATUS, TOKENS, WEIGHT
from crystalformer_rl.tables.provenance import with_record
from crystalformer_rl.tables.status import OK, Status


def tokenize(crystals: pa.Table, symprec: float = SYMPREC, *, advance: Callable[[int], object] | None = None) -> pa.Table:
    """The TOKENS table, with note and status, of a crystals table, row for row.

    symprec: Å, how far atoms may be from their symmetric places. A crystal that cannot be described in 20 sites keeps its
    row, with the reason in `status`. A column `weight` (how much a crystal counts in pretraining) is kept; by it a recovered structure counts that
    is probable and not accepted.
    """
    weights = crystals.column("weight").to_pylist() if "weight" in crystals.column_names else None
    parsed, given = crystals_from_table(_with_probable(crystals))
    encoded = encode([c if s == OK else None for c, s in zip(parsed, given, strict=True)], symprec, advance)
    statuses = [own if own != OK else found for own, (_, found) in zip(given, encoded, strict=True)]
    columns = {"id": crystals.column("id").to_pylist(), **token_columns([s for s, _ in encoded]), "status": statuses}
    if "note" in crystals.column_names:
        columns["note"] = crystals.column("note").to_pylist()
    if weights is not None:
        columns["weight"] = weights
    return with_record(make_table((*TOKENS, WEIGHT, NOTE, STATUS), columns), {"stage": "tokenize"})


def _with_probable(crystals: pa.Table) -> pa.Table:
    """The crystals, with status ok for those of status not_accepted that have a weight."""
    if not {"weight", "status"} <= set(crystals.column_names):
        return crystals
    status = crystals.column("status")
    counts = pc.fill_null(pc.greater(crystals.column("weight"), 0), False)
    probable = pc.and_(counts, pc.fill_null(pc.equal(status, Status.NOT_ACCEPTED), False))
    place = crystals.schema.get_field_index("status")
    return crystals.set_column(place, crystals.schema.field(place), pc.if_else(probable, OK, status))


def within_limits(
    crystals: pa.Table, most_atoms: int | None, max_e_above_hull: float | None, source: str = "the crystals"
) -> pa.Table:
    """The rows of at most so many atoms in the cell given, and at most so far above the hull (eV/atom) by their own column.

    Raises InputError where a limit needs a column that is not there, and where no crystal is within the limits.
    """
    if most_atoms is not None:
        crystals = crystals.filter(pc.less_equal(pc.list_value_length(crystals.column("atomic_numbers")), most_atoms))
    if max_e_above_hull is not None:
        name = next((n for n in ("e_above_hull", "dft_e_above_hull") if n in crystals.column_names), None)
        if name is None:
            raise InputError(
                f"{source}: a limit on the energy above hull needs a column e_above_hull or dft_e_above_hull; there is none."
            )
        crystals = crystals.filter(pc.less_equal(crystals.column(name), max_e_above_hull))
    if crystals.num_rows == 0:
        raise InputError(f"{source}: no crystal is within the limits given; raise them.")
    return crystals
