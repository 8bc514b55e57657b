"""Sort crystals into new and retrieved, and find repeats among them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

from crystalformer_rl.discovery.known_structures import Known
from crystalformer_rl.discovery.novelty_table import novelty_table
from crystalformer_rl.tables.provenance import with_record
from crystalformer_rl.tables.rows import unique_ids


def novelty(
    crystals: pa.Table, reference: str | Path | Known, *, advance: Callable[[int], object] | None = None
) -> pa.Table:
    """The NOVELTY table of a crystals table (id, atomic_numbers, frac_coords, lattice in Å, perhaps status), row for row.

    reference: a REFERENCE file, or what was read of one. A crystal is novel where no structure matches that the policy was
    pretrained on, and of the crystals of one structure the one with the smallest id is unique; a row of another status than ok keeps it. The record of
    the table names reference entries that could not be compared. Raises InputError for a file that is not a reference, and for ids that occur twice.
    """
    unique_ids(crystals, "the crystals")
    known = reference if isinstance(reference, Known) else Known.from_reference(reference)
    table = novelty_table(crystals, known, advance)
    unreadable = {"unreadable_entries": known.unreadable} if known.unreadable else {}
    return with_record(table, {"stage": "novelty", **unreadable})
