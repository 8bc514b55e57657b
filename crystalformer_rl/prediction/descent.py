"""Energies of candidates: each once as it was made, the lowest of each generator a few steps further, the lowest of these to rest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from crystalformer_rl.crystal.structure import Crystal, crystal_columns
from crystalformer_rl.crystal.tokens import Sites, primitive, token_columns
from crystalformer_rl.potential.relax_settings import RelaxSettings
from crystalformer_rl.prediction.generation import Proposed
from crystalformer_rl.prediction.merging import merged_at_rest
from crystalformer_rl.prediction.predict_settings import PredictSettings
from crystalformer_rl.tables.column import make_table
from crystalformer_rl.tables.crystal_columns import CRYSTALS_AND_TOKENS, SITE_FRAC_COORDS, STATUS
from crystalformer_rl.tables.status import OK, Status

SAME_ENERGY = 0.005
"""eV/atom; structures that match and differ by less are one."""

Advance = Callable[[int], object] | None


class Energies(Protocol):
    """A potential's answers on a table of crystals with tokens, row for row."""

    def once(self, crystals: pa.Table, advance: Advance) -> pa.Table:
        """`energy` (eV/atom) of the crystals as they are, and `status`."""
        ...

    def relaxed(self, crystals: pa.Table, settings: RelaxSettings, advance: Advance) -> pa.Table:
        """The RELAXED table."""
        ...


Tell = Callable[[str, int, int], object]
"""Called with what is done, how many candidates that concerns, and how many have just been finished."""


def descended(
    proposed: Sequence[Proposed], energies: Energies, settings: PredictSettings, tell: Tell | None = None
) -> list[dict[str, Any]]:
    """Columns of RELAXED for each candidate, all of which have sites: at rest with status ok, or as far as it came, `outdone`.

    Each generator has its own shares of the work, so that what one of them finds does not depend on the other.
    """
    rows = _single_points(proposed, energies, tell)
    tried = _lowest(proposed, rows, "energy_initial", settings.tried)
    few = _relaxed(tried, rows, energies, settings.few_steps, "first steps", tell)
    rows = _with(rows, few)
    chosen = _lowest(proposed, {k: few[k] for k in tried}, "energy", settings.relaxed, distinct=True)
    rest = _relaxed(chosen, few, energies, settings.to_rest, "to rest", tell)
    rows = _with(rows, rest)
    return [row if k in rest or row["status"] != OK else row | {"status": Status.OUTDONE} for k, row in rows.items()]


def _single_points(proposed: Sequence[Proposed], energies: Energies, tell: Tell | None) -> dict[int, dict[str, Any]]:
    table = _table([one.id for one in proposed], [one.sites for one in proposed])
    answer = energies.once(table, _advance("energies", len(proposed), tell))
    return {
        k: start | {"energy_initial": row["energy"], "evaluations": 1, "status": row["status"]}
        for k, (start, row) in enumerate(zip(table.to_pylist(), answer.to_pylist(), strict=True))
    }


def _lowest(
    proposed: Sequence[Proposed], rows: Mapping[int, Mapping[str, Any]], column: str, most: int, distinct: bool = False
) -> list[int]:
    """Of each generator the `most` candidates that are lowest in `column`; distinct: those that have become one structure count once."""
    chosen: list[int] = []
    for maker in sorted({one.made_by for one in proposed}):
        own = [k for k, row in rows.items() if proposed[k].made_by == maker and row["status"] == OK]
        own.sort(key=lambda k: (rows[k][column], k))
        chosen += _firsts(own, rows)[:most] if distinct else own[:most]
    return sorted(chosen)


def _firsts(ordered: Sequence[int], rows: Mapping[int, Mapping[str, Any]]) -> list[int]:
    crystals = [_crystal(rows[k]) for k in ordered]
    energies, groups = ([rows[k][name] for k in ordered] for name in ("energy", "space_group"))
    places = merged_at_rest(crystals, energies, groups, SAME_ENERGY)
    return [k for place, k in enumerate(ordered) if places[place] == place]


def _relaxed(
    chosen: Sequence[int],
    rows: Mapping[int, Mapping[str, Any]],
    energies: Energies,
    settings: RelaxSettings,
    what: str,
    tell: Tell | None,
) -> dict[int, dict[str, Any]]:
    columns = (*CRYSTALS_AND_TOKENS, STATUS)
    table = make_table(columns, {column.name: [rows[k][column.name] for k in chosen] for column in columns})
    answer = energies.relaxed(table, settings, _advance(what, len(chosen), tell))
    return dict(zip(chosen, answer.to_pylist(), strict=True))


def _advance(what: str, total: int, tell: Tell | None) -> Advance:
    return None if tell is None else lambda finished: tell(what, total, finished)


def _with(rows: Mapping[int, dict[str, Any]], later: Mapping[int, dict[str, Any]]) -> dict[int, dict[str, Any]]:
    """Rows with what became of some of them later; the first energy stays, and evaluations add up."""
    found = dict(rows)
    for k, new in later.items():
        spent = rows[k]["evaluations"] + (new["evaluations"] or 0)
        kept = {name: value for name, value in new.items() if value is not None}
        found[k] = rows[k] | kept | {"energy_initial": rows[k]["energy_initial"], "evaluations": spent}
    return found


def _table(ids: Iterable[str], sites: Iterable[Sites | None]) -> pa.Table:
    found = [own for own in sites if own is not None]
    columns = {
        "id": list(ids),
        **crystal_columns([primitive(own) for own in found]),
        **token_columns(found, coords_name=SITE_FRAC_COORDS.name),
        "status": [OK] * len(found),
    }
    return make_table((*CRYSTALS_AND_TOKENS, STATUS), columns)


def _crystal(row: Mapping[str, Any]) -> Crystal:
    return Crystal(
        np.array(row["atomic_numbers"]), np.reshape(row["frac_coords"], (-1, 3)), np.reshape(row["lattice"], (3, 3))
    )
