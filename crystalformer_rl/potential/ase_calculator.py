"""Any ASE calculator as a potential, by its import path."""

from __future__ import annotations

import hashlib
import importlib
import json
import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from crystalformer_rl.crystal.structure import Crystal
from crystalformer_rl.errors import InputError
from crystalformer_rl.potential.protocol import MOST_ATOMS, Evaluation, Outcome, checked, screen, screen_distances
from crystalformer_rl.reference.identity import PotentialIdentity
from crystalformer_rl.tables.status import Status

_logger = logging.getLogger(__name__)


class AseCalculator:
    """`package.module:Class`, called without arguments, as a `Potential`; one crystal after the other.

    The class is any ASE calculator with energy, forces and stress. A function that returns a
    calculator serves too, and is the place for arguments. Raises InputError for a path that leads to none.
    """

    def __init__(self, path: str, *, most_atoms: int = MOST_ATOMS) -> None:
        self._path = path
        self._most_atoms = most_atoms
        self._calculator = _make(path)
        self._told: set[str] = set()

    @property
    def identity(self) -> PotentialIdentity:
        """Import path and a digest of the calculator's parameters."""
        parameters = getattr(self._calculator, "parameters", None)
        text = json.dumps(_plain(parameters if isinstance(parameters, Mapping) else {}), sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()
        return PotentialIdentity(f"ASE {self._path}", digest)

    def evaluate(self, crystals: Sequence[Crystal], *, forces: bool = True) -> list[Outcome]:
        """One outcome a crystal; see `Potential`."""
        return [self._evaluate_one(crystal, forces) for crystal in crystals]

    def embed(self, crystals: Sequence[Crystal]) -> np.ndarray:
        """Calculators have no features: always InputError."""
        raise InputError(f"the potential 'ase:{self._path}' has no embeddings; use chgnet or a MACE checkpoint for them.")

    def _evaluate_one(self, crystal: Crystal, forces: bool) -> Outcome:
        from ase import Atoms
        from ase.calculators.calculator import PropertyNotImplementedError

        status = screen(crystal, most_atoms=self._most_atoms)
        if status == Status.OK:
            status = screen_distances(crystal)
        if status != Status.OK:
            return status
        atoms = Atoms(
            numbers=crystal.atomic_numbers, scaled_positions=crystal.frac_coords, cell=crystal.lattice, pbc=True,
            calculator=self._calculator,
        )  # fmt: skip
        try:
            energy = float(atoms.get_potential_energy()) / len(atoms)
            if not forces:
                return checked(Evaluation(energy))
            derivatives = np.array(atoms.get_forces()).reshape(len(atoms), 3), np.array(atoms.get_stress(voigt=False))
            return checked(Evaluation(energy, *derivatives))
        except PropertyNotImplementedError as error:
            raise InputError(f"the calculator {self._path} gives no forces or stress; relaxation needs both.") from error
        # Calculators raise whatever they like for a crystal that they cannot do; the others must not suffer.
        except Exception as error:
            self._tell(error)
            if hasattr(self._calculator, "reset"):
                self._calculator.reset()  # a half-done calculation must not be taken up by the next crystal
            return Status.OUT_OF_MEMORY if isinstance(error, MemoryError) else Status.POTENTIAL_FAILED

    def _tell(self, error: Exception) -> None:
        """Say what was raised, each kind once: a fault of the calculator would look like one of the crystals otherwise."""
        kind = type(error).__name__
        if kind not in self._told:
            self._told.add(kind)
            _logger.warning("ase:%s cannot evaluate a crystal (%s: %s)", self._path, kind, error)


def _plain(value: Any) -> Any:
    """A parameter as JSON that is the same in every process: arrays in full, objects without their address."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return value.tolist()
    if value is None or isinstance(value, str | int | float):
        return value
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def _make(path: str) -> Any:
    module_name, _, attribute = path.partition(":")
    if not module_name or not attribute:
        raise InputError(f"'ase:{path}' is not an import path; write ase:package.module:Class.")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # a module runs when it is imported
        raise InputError(f"'ase:{path}': cannot import {module_name} ({error}); install it or correct the path.") from error
    factory = getattr(module, attribute, None)
    if not callable(factory):
        raise InputError(f"'ase:{path}': {module_name} has no class or function {attribute}; correct the path.")
    try:
        calculator = factory()
    except TypeError as error:
        raise InputError(f"'ase:{path}' cannot be called without arguments ({error}); name a function that can.") from error
    # Constructors look for programs, files and settings, and raise whatever they like where these are missing.
    except Exception as error:
        raise InputError(f"'ase:{path}' cannot be made ({type(error).__name__}: {error}); set up what it needs.") from error
    if not hasattr(calculator, "get_potential_energy"):
        raise InputError(
            f"'ase:{path}' makes a {type(calculator).__name__}, which is not an ASE calculator; correct the path."
        )
    return calculator
