"""Calculators that tests name by their import path; a module of their own, so that a worker imports little with them."""

from __future__ import annotations

import os
import signal
from typing import Any

import numpy as np
from ase.calculators.calculator import Calculator
from ase.calculators.lj import LennardJones


def _deadly(to: Any) -> Any:
    """A calculator that takes its process with it, as a system short of memory does."""

    class Deadly(Calculator):
        implemented_properties = ("energy", "forces", "stress")

        def calculate(self, atoms: Any, *args: Any, **kwargs: Any) -> None:
            if to(atoms):
                os.kill(os.getpid(), signal.SIGKILL)
            self.results = {"energy": -1.0, "forces": np.zeros((len(atoms), 3)), "stress": np.zeros(6)}

    return Deadly()


def deadly() -> Any:
    """Deadly to all."""
    return _deadly(lambda _: True)


def deadly_to_quartz() -> Any:
    """Deadly to crystals with silicon."""
    return _deadly(lambda atoms: 14 in atoms.numbers)


def without_forces() -> Any:
    """A calculator that knows only energies."""

    class OnlyEnergy(Calculator):
        implemented_properties = ("energy",)

        def calculate(self, *args: Any, **kwargs: Any) -> None:
            self.results = {"energy": -1.0}

    return OnlyEnergy()


def lennard_jones() -> LennardJones:
    """A calculator with a smooth cutoff."""
    return LennardJones(sigma=2.2, epsilon=0.2, rc=6.0, smooth=True)


def noisy() -> LennardJones:
    """A calculator that prints where Arrow streams flow."""
    print("good morning")
    return lennard_jones()
