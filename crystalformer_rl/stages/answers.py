"""What a worker with a potential answers: stages as functions of a table, the potential and JSON values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa

from crystalformer_rl.crystal.encode import SYMPREC
from crystalformer_rl.potential.protocol import Potential
from crystalformer_rl.potential.recompute import self_test
from crystalformer_rl.potential.relax_settings import RelaxSettings
from crystalformer_rl.stages import properties as properties_stage
from crystalformer_rl.stages import relax as relax_stage

Advance = Callable[[int], object] | None


def relax(
    table: pa.Table,
    potential: Potential,
    settings: dict[str, Any],
    symprec: float = SYMPREC,
    stability: str | None = None,
    advance: Advance = None,
) -> pa.Table:
    """The stage `relax` with the settings as a mapping."""
    return relax_stage.relax(
        table, potential, RelaxSettings(**settings), symprec=symprec, stability=stability, advance=advance
    )


def predict(table: pa.Table, potential: Potential, models: str, advance: Advance = None) -> pa.Table:
    """The stage `properties` with the models in the file `models`."""
    return properties_stage.properties(table, models, potential, advance=advance)


def recompute(table: pa.Table, potential: Potential, reference: str, advance: Advance = None) -> pa.Table:
    """The largest deviation (eV/atom) of some energies of a reference file computed again, as a table of one number."""
    return pa.table({"deviation": [self_test(reference, potential)]})
