"""Compute some energies of a reference again, before a run compares with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from crystalformer_rl.potential.protocol import Potential
from crystalformer_rl.potential.recompute import entries_to_recompute, self_test


def check_reference(potential: Potential, reference: str | Path, entries: int = 8) -> dict[str, Any]:
    """Recompute up to `entries` entries of a reference file that hold a crystal, always the same ones.

    Returns the potential's identity, the number of entries and the largest deviation (eV/atom). Raises InputError past
    2 meV/atom, and where the reference's energies come from another potential: it was made with another one, or with
    another version.
    """
    deviation = self_test(reference, potential, entries)
    found = len(entries_to_recompute(reference, entries))  # a small reference may have fewer
    return {
        "potential": potential.identity.as_record(),
        "entries": found,
        "largest_deviation_of_entries": deviation,
    }
