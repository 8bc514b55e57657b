"""A reference with the recovered structures that a policy is trained on beside the known ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from crystalformer_rl.crystal.split import held_out
from crystalformer_rl.errors import InputError
from crystalformer_rl.reference.competing import EnergyFrom
from crystalformer_rl.tables.column import make_table
from crystalformer_rl.tables.energy_columns import REFERENCE
from crystalformer_rl.tables.parquet import read_table
from crystalformer_rl.tables.recovery_columns import RECOVERED
from crystalformer_rl.tables.role import Role
from crystalformer_rl.tables.status import OK

_SHARED = ("id", "formula", "atomic_numbers", "frac_coords", "lattice", "space_group", "wyckoff", "elements",
           "site_frac_coords", "lattice_parameters", "energy", "formation_energy", "force_max", "stress_max", "evaluations")  # fmt: skip


def extend(reference: str | Path, recovered: str | Path) -> pa.Table:
    """The REFERENCE table with the rows of a RECOVERED table that count in pretraining after its own, in the role `recovered`.

    They take the place of those that were recovered before: a policy that is trained on this table has not seen the others. A crystal that
    matches one is not new to the policy; on the hull, in the bias and as a known structure they count nothing. Raises InputError where
    the reference has an entry of the same id in another role, or holds the formula out.
    """
    known, found = read_table(reference, REFERENCE), read_table(recovered, RECOVERED)
    known = known.filter(pc.not_equal(known.column("role"), Role.RECOVERED))
    learned = found.filter(pc.greater(found.column("weight"), 0))
    names = learned.column("formula").to_pylist()
    if not names:
        raise InputError(f"{recovered} holds no structure that counts in pretraining; there is nothing to add.")
    if wrong := next((name for name in names if held_out(name)), None):
        raise InputError(f"{recovered}: {wrong} is held out, so no policy may be trained on it; make the table again.")
    twice = set(learned.column("id").to_pylist()) & set(known.column("id").to_pylist())
    if twice:
        raise InputError(f"{reference} has {min(twice)} already, in another role; give one of the two another id.")
    columns: dict[str, list[Any]] = {name: learned.column(name).to_pylist() for name in _SHARED}
    n = len(names)
    columns |= {
        "role": [Role.RECOVERED] * n,
        "source": ["recovered"] * n,
        "n_atoms": [len(numbers) for numbers in columns["atomic_numbers"]],
        "energy_from": [EnergyFrom.RELAXED] * n,
        "status": [OK] * n,
    }
    own = [column.name for column in REFERENCE]
    parts = (known.select(own), make_table(REFERENCE, columns).select(own))
    return pa.concat_tables([part.replace_schema_metadata(None) for part in parts])
