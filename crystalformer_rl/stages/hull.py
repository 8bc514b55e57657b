"""Formation energy and energy above the convex hull of a reference."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from crystalformer_rl.errors import InputError
from crystalformer_rl.hull.chances import Chances
from crystalformer_rl.hull.convex_hull import Hull
from crystalformer_rl.hull.hull_table import hull_table
from crystalformer_rl.hull.stability import STABLE_BELOW
from crystalformer_rl.potential.stored_biases import stored_bias
from crystalformer_rl.reference.bias import Bias
from crystalformer_rl.reference.compatibility import check_same_potential
from crystalformer_rl.reference.corrections import MP2020, corrected
from crystalformer_rl.reference.foreign import for_potential
from crystalformer_rl.reference.identity import Corrections, Functional, PotentialIdentity
from crystalformer_rl.reference.joining import read_references
from crystalformer_rl.reference.scale import dft_identity, is_dft, must_add_mp2020
from crystalformer_rl.tables.column import pick
from crystalformer_rl.tables.energy_columns import RELAXED
from crystalformer_rl.tables.parquet import with_types
from crystalformer_rl.tables.provenance import record_of, with_record

NEEDED = pick(RELAXED, "id", "atomic_numbers", "energy")
_FOR_PROBABILITIES = ("energy_error", "energy_error_applicability", "space_group", "wyckoff")
_USED = pick(RELAXED, "energy_initial", *_FOR_PROBABILITIES, "status", "frac_coords", "lattice")
_SAME_REMEDY = "use a reference built with the same potential, or one with DFT energies on the potential's scale"
_DFT_REMEDY = (
    "use a reference built with the same potential, or ask for a comparison with DFT to set a potential's energies beside those "
    "of DFT all the same"
)

Advance = Callable[[int], object] | None
References = str | Path | Sequence[str | Path]


def hull(
    relaxed: pa.Table | Mapping[str, pa.Table],
    reference: References,
    *,
    bias: Bias | None = None,
    assume_same_potential: bool = False,
    against_dft: bool = False,
    potential_corrections: Corrections | None = None,
    stability: str | Path | None = None,
    stable_below: float = STABLE_BELOW,
    advance: Advance = None,
) -> pa.Table:
    """The HULL table of crystals with energies, row for row: eV/atom, negative below the hull.

    relaxed: a table of `relax`, or any with the columns id, atomic_numbers and energy (total energy, eV/atom), and perhaps
    energy_initial and status; or several by name, which become one. The potential is that of each table's record; a table
    that names none is refused unless `assume_same_potential`.

    reference: a file, or several: the phases of the others join those of the first, see `reference.joining`. A first one with DFT
    energies on a scale serves any potential on that scale: DFT energies alone compete then, with that potential's `bias`, by
    default the one that `potential install` stored.

    against_dft: set a potential's energies beside a reference of DFT energies alone. MP2020 corrections are added where the
    hull has them and the potential does not; potential_corrections: those in the potential's energies, where its identity does
    not say. What was done stands in the record, as `against_dft`.

    stability: a file of what was learned of a potential's errors, by which p_stable and p_on_hull are calibrated where it is of this one; elsewhere they
    follow from the bias alone. stable_below: eV/atom, of p_stable. How they came about stands in the record, as `probabilities`.

    Raises InputError for energies of two potentials, ids that occur twice, and scales that cannot be brought together.
    """
    tables = {"the table": relaxed} if isinstance(relaxed, pa.Table) else dict(relaxed)
    references = [reference] if isinstance(reference, str | Path) else list(reference)
    name, energies = ", ".join(str(path) for path in references), read_references(references)
    found = {path: PotentialIdentity.from_record(record_of(table).get("potential")) for path, table in tables.items()}
    where = Hull.of(energies)
    foreign = next((i for i in found.values() if i is not None and i != energies.identity), None)
    if foreign is not None and energies.bias is not None and not against_dft:
        used = bias or stored_bias(foreign)
        where = Hull.of(for_potential(energies, foreign, used))
        on_scale = dft_identity("", Functional.PBE, Corrections.MP2020)
        crystals = _joined(tables, with_structures=True)
        crystals, record = _on_the_dft_scale(crystals, found, name, on_scale, potential_corrections, advance)
        record["bias"] = None if used is None else used.as_record()
    elif against_dft:
        crystals = _joined(tables, with_structures=True)
        crystals, record = _on_the_dft_scale(crystals, found, name, energies.identity, potential_corrections, advance)
    else:
        crystals = _joined(tables, with_structures=False)
        if potential_corrections is not None:
            raise InputError(
                f"{name} holds energies of the crystals' own potential, so nothing is added to them; leave out what is said of "
                "their corrections."
            )
        remedy = _DFT_REMEDY if is_dft(energies.identity) else _SAME_REMEDY
        for path, identity in found.items():
            if identity is not None or not assume_same_potential:
                check_same_potential(path, identity, name, energies.identity, remedy)
        record = {"potential": energies.identity.as_record()}
    identity = PotentialIdentity.from_record(record["potential"])
    chances = Chances.of(energies, None if against_dft else identity, stability, stable_below)
    table = hull_table(where, crystals, advance, chances)
    return with_record(
        table, {"stage": "hull", "probabilities": chances.origin(table), "stable_below": stable_below, **record}
    )


def _joined(tables: Mapping[str, pa.Table], with_structures: bool) -> pa.Table:
    """What the hull needs of all tables, one after the other."""
    columns = _USED if with_structures else _USED[:-2]
    parts = []
    for path, table in tables.items():
        typed = with_types(table, columns, path)
        names = [column.name for column in (*NEEDED, *columns) if column.name in typed.column_names]
        parts.append(typed.select(names).replace_schema_metadata(None))
    crystals = pa.concat_tables(parts, promote_options="permissive")
    ids = crystals.column("id").to_pylist()
    if len(set(ids)) < len(ids):
        twice = next(name for name, n in Counter(ids).items() if n > 1)
        raise InputError(f"{', '.join(tables)}: id '{twice}' occurs twice; give each crystal an id of its own.")
    return crystals


def _on_the_dft_scale(
    crystals: pa.Table,
    found: Mapping[str, PotentialIdentity | None],
    reference: str,
    expected: PotentialIdentity | None,
    said: Corrections | None,
    advance: Advance,
) -> tuple[pa.Table, dict[str, Any]]:
    """The crystals with energies on the reference's scale, and what the record must say of it."""
    (first, identity), *others = found.items()
    assert expected is not None  # a file of a reference names it
    add = must_add_mp2020(first, identity, reference, expected, said)
    for path, other in others:  # one table of distances is on one scale
        if identity is not None or other is not None:
            check_same_potential(path, other, first, identity, "give tables of one potential")
    who = identity if identity is not None else "a potential that is not named"
    statement = f"energies of {who} against {expected}: "
    counted: dict[str, int] = {}
    if add:
        crystals, counted = corrected(crystals, MP2020(), advance)
        statement += (
            "MP2020 corrections added to the potential's energies, before and after relaxation, by the relaxed structure for "
            f"{counted['structure']} crystals, by the composition for {counted['composition']}, not possible for "
            f"{counted['failed']}"
        )
    else:
        statement += "nothing added to the potential's energies"
    record: dict[str, Any] = {
        "reference": expected.as_record(),
        "corrections_added": (Corrections.MP2020 if add else Corrections.NONE).value,
        "potential_corrections_by_user": None if said is None else said.value,
        "crystals": counted,
        "statement": statement,
    }
    return crystals, {"potential": None if identity is None else identity.as_record(), "against_dft": record}
