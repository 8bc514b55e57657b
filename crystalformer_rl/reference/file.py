"""The file of a reference: writing it, and the elemental energies from which its formation energies count."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from crystalformer_rl.crystal.chemical_system import chemical_systems
from crystalformer_rl.crystal.elements import ATOMIC_NUMBERS
from crystalformer_rl.errors import InputError
from crystalformer_rl.tables.column import pick
from crystalformer_rl.tables.energy_columns import REFERENCE
from crystalformer_rl.tables.parquet import atomic_path
from crystalformer_rl.tables.provenance import PROVENANCE_KEY

(_SYSTEM,) = pick(REFERENCE, "chemical_system")


def read_elemental_energies(path: str | Path) -> dict[str, float]:
    """{symbol: eV/atom} from a JSON file. Raises InputError naming file and key."""
    path = Path(path)
    try:
        energies = json.loads(path.read_text())
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); give a JSON file {{symbol: eV/atom}}.") from error
    except ValueError as error:
        raise InputError(f"{path} is not JSON ({error}); give a file {{symbol: eV/atom}}.") from error
    if not isinstance(energies, dict) or not energies:
        raise InputError(f"{path} holds no table; give a JSON object {{symbol: eV/atom}}.")
    for symbol, value in energies.items():
        if symbol not in ATOMIC_NUMBERS:
            raise InputError(f"{path}, key '{symbol}' is not an element symbol; write a symbol such as Na or O.")
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise InputError(f"{path}, key '{symbol}': {value!r} is not an energy; give a number in eV/atom.")
    return {symbol: float(value) for symbol, value in sorted(energies.items())}


def write_reference(path: str | Path, table: pa.Table, made_by: Mapping[str, Any]) -> None:
    """Write a reference as small as Parquet goes, whole or not at all, with the chemical system of each entry."""
    columns = {name: table.column(name) for name in table.column_names}
    columns[_SYSTEM.name] = chemical_systems(table.column("formula"))
    fields = [column.field() for column in REFERENCE if column.name in columns]
    table = pa.table([columns[field.name] for field in fields], schema=pa.schema(fields))
    metadata = {PROVENANCE_KEY: json.dumps(made_by, sort_keys=True).encode()}
    with atomic_path(path) as temporary:
        # Rounded numbers repeat; without Parquet's dictionaries zstd sees the repetitions itself and does better.
        pq.write_table(
            table.replace_schema_metadata(metadata),
            temporary,
            compression="zstd",
            compression_level=19,
            use_dictionary=False,
        )
