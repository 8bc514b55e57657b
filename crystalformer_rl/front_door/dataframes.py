"""Tables of the pipeline as pandas DataFrames, and crystals out of their rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from crystalformer_rl.crystal.inputs import table_of_frame
from crystalformer_rl.crystal.structure import crystals_from_table
from crystalformer_rl.errors import InputError
from crystalformer_rl.tables.provenance import record_of
from crystalformer_rl.tables.status import OK

if TYPE_CHECKING:
    import pandas as pd
    from pymatgen.core import Structure


def dataframe(table: pa.Table, **attrs: Any) -> pd.DataFrame:
    """The table as a DataFrame, a row a row; `attrs` holds the provenance record, units of the columns, and what is given."""
    frame = table.to_pandas()
    units = {field.name: (field.metadata or {}).get(b"unit", b"").decode() for field in table.schema}
    meanings = {field.name: (field.metadata or {}).get(b"meaning", b"").decode() for field in table.schema}
    frame.attrs.update({"provenance": record_of(table), "units": units, "meanings": meanings, **attrs})
    return frame


def structures_of(table: pd.DataFrame | pa.Table) -> list[Structure | None]:
    """A pymatgen Structure for each row, None for a row without a crystal. Raises InputError without the columns of one."""
    from crystalformer_rl.discovery.matching import to_structure

    plain = table if isinstance(table, pa.Table) else table_of_frame(table)
    for name in ("atomic_numbers", "frac_coords", "lattice"):
        if name not in plain.column_names:
            raise InputError(f"the table has no column '{name}', so its rows hold no crystals; give one of crystals.")
    crystals, _ = crystals_from_table(plain.select(["atomic_numbers", "frac_coords", "lattice"]))
    statuses = plain.column("status").to_pylist() if "status" in plain.column_names else [OK] * plain.num_rows
    return [
        None if crystal is None or (status != OK and not len(crystal)) else to_structure(crystal)
        for crystal, status in zip(crystals, statuses, strict=True)
    ]
