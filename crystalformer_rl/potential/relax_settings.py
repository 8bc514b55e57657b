"""When a relaxation is done, and what is relaxed."""

from __future__ import annotations

from pydantic import Field, StrictBool

from crystalformer_rl.settings import Integer, Number, Section

BATCH_SIZE = 16
"""Crystals relaxed at a time."""


BATCH_SIZE_GPU = 1024
"""The same on a GPU, which is idle with fewer."""


class RelaxSettings(Section):
    """Relaxation of cell and positions in the potential, keeping the space group."""

    fmax: Number = Field(0.05, gt=0, le=10, description="Converged when no force exceeds this, eV/Å, and …")
    smax: Number = Field(0.5, gt=0, le=100, description="… no stress component this, GPa.")
    max_evaluations: Integer = Field(
        25, ge=1, le=100_000, description="Evaluations of the potential that a crystal may take; it then stays unconverged."
    )
    free: StrictBool = Field(
        False, description="Relax without symmetry afterwards; the lower crystal counts, with the symmetry it then has."
    )
