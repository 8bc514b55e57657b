"""Compute some energies of a reference again, before a run compares with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from crystalformer_rl.potential.foreign_hull import placed
from crystalformer_rl.potential.protocol import Potential
from crystalformer_rl.potential.recompute import entries_to_recompute, self_test
from crystalformer_rl.reference.energies import read_energies


def check_reference(potential: Potential, reference: str | Path, entries: int = 8, name: str = "") -> dict[str, Any]:
    """Recompute up to `entries` entries of a reference file that hold a crystal, always the same ones.

    Returns the potential's identity, the number of entries and the largest deviation (eV/atom). Of another potential than the
    reference's, `name` as `load` takes it, nothing is recomputed: its bias against the DFT energies is returned. Raises InputError past
    2 meV/atom, and where potential and reference are of two scales, or the bias was not measured.
    """
    identity = potential.identity
    where = placed(read_energies(reference), identity, name or identity.name, str(reference))
    if not where.own:
        return {
            "potential": identity.as_record(),
            "entries": 0,
            "bias": where.energies.bias.as_record() if where.energies.bias else None,
        }
    deviation = self_test(reference, potential, entries)
    found = len(entries_to_recompute(reference, entries))  # a small reference may have fewer
    return {
        "potential": potential.identity.as_record(),
        "entries": found,
        "largest_deviation_of_entries": deviation,
    }
