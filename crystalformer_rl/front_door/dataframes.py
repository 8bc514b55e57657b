"""Tables of the pipeline as pandas DataFrames, and crystals out of their rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from crystalformer_rl.crystal.structure import crystals_from_table
from crystalformer_rl.errors import InputError
from crystalformer_rl.reading.objects import table_of_frame
from crystalformer_rl.tables.provenance import record_of
from crystalformer_rl.tables.status import OK

if TYPE_CHECKING:
    import pandas as pd
    from pymatgen.core import Structure


def dataframe(table: pa.Table, **attrs: Any) -> pd.DataFrame:
    """The table as a DataFrame, a row a row; `attrs` holds the provenance record, units of the columns, and what is given.

    Lists stay lists. Whole numbers and truth values are pandas' nullable ones, so that `frame[frame["stable"]]` takes the
    stable rows whatever failed.
    """
    import pandas as pd

    frame = table.to_pandas(types_mapper={pa.int64(): pd.Int64Dtype(), pa.bool_(): pd.BooleanDtype()}.get)
    for field in table.schema:
        if pa.types.is_list(field.type):
            frame[field.name] = pd.Series(table.column(field.name).to_pylist(), index=frame.index, dtype=object)
    units = {field.name: (field.metadata or {}).get(b"unit", b"").decode() for field in table.schema}
    meanings = {field.name: (field.metadata or {}).get(b"meaning", b"").decode() for field in table.schema}
    frame.attrs.update({"provenance": record_of(table), "units": units, "meanings": meanings, **attrs})
    return frame


def structures_of(table: pd.DataFrame | pa.Table) -> list[Structure | None]:
    """A pymatgen Structure for each row, None for a row without a crystal. Raises InputError without the columns of one.

    A row that failed after its crystal was known, as for want of a reference energy, still has it.
    """
    from crystalformer_rl.discovery.matching import to_structure

    plain = table if isinstance(table, pa.Table) else table_of_frame(table)
    for name in ("atomic_numbers", "frac_coords", "lattice"):
        if name not in plain.column_names:
            raise InputError(f"the table has no column '{name}', so its rows hold no crystals; give one of crystals.")
    crystals, sound = crystals_from_table(plain.select(["atomic_numbers", "frac_coords", "lattice"]))
    return [
        None if crystal is None or status != OK else to_structure(crystal)
        for crystal, status in zip(crystals, sound, strict=True)
    ]
