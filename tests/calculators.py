"""Calculators that tests name by their import path; a module of their own, so that a worker imports little with them."""

from __future__ import annotations

import os
import signal
from typing import Any

import numpy as np
from ase.calculators.calculator import Calculator, all_changes
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


def failing_for_salt() -> Any:
    """A calculator that sets itself up for each kind of crystal, breaks down half-way at chlorine and has odd parameters."""

    class Failing(Calculator):
        implemented_properties = ("energy", "forces", "stress")

        def calculate(self, atoms: Any = None, properties: Any = (), system_changes: Any = all_changes) -> None:
            super().calculate(atoms, properties, system_changes)
            if "numbers" in system_changes and 17 in atoms.numbers:
                raise AssertionError("no parameters for chlorine")
            self.results = {"energy": -len(atoms), "forces": np.zeros((len(atoms), 3)), "stress": np.zeros(6)}

    calculator = Failing()
    calculator.parameters.update({("a", 1): object(), "table": np.arange(2000.0)})
    return calculator


def without_settings() -> Any:
    """A calculator whose surroundings are not set up."""
    raise ValueError("the variable PROGRAM is not set")


def failing() -> Any:
    """A calculator that has parameters for no element."""

    class Failing(Calculator):
        implemented_properties = ("energy", "forces", "stress")

        def calculate(self, *args: Any, **kwargs: Any) -> None:
            raise KeyError("no parameters")

    return Failing()


def pushing() -> Any:
    """A calculator whose forces are not the derivative of its energy."""

    class Pushing(Calculator):
        implemented_properties = ("energy", "forces", "stress")

        def calculate(self, atoms: Any = None, *args: Any, **kwargs: Any) -> None:
            self.results = {"energy": -len(atoms), "forces": np.ones((len(atoms), 3)), "stress": np.zeros(6)}

    return Pushing()
