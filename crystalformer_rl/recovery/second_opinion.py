"""What a second potential says of the structures that the first relaxed: their energies as they are, beside what DFT says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from crystalformer_rl.crystal.elements import composition
from crystalformer_rl.crystal.structure import Crystal
from crystalformer_rl.potential.foreign_hull import placed
from crystalformer_rl.potential.protocol import Evaluation, Potential
from crystalformer_rl.reference.bias import Bias
from crystalformer_rl.reference.corrections import MP2020, NoCorrectionError
from crystalformer_rl.reference.energies import ReferenceEnergies
from crystalformer_rl.reference.formation_energy import by_number


@dataclass
class SecondOpinion:
    """A potential on the scale of a reference: bias of its formation energies against DFT's, elements' energies (eV/atom), and the
    corrections that its energies want first, None where they hold them.
    """

    potential: Potential
    bias: Bias
    elemental: Mapping[int, float]
    scheme: MP2020 | None

    @classmethod
    def of(cls, energies: ReferenceEnergies, potential: Potential, name: str, reference: str) -> SecondOpinion:
        """Raises InputError for a potential of another scale, and for one whose bias was not measured."""
        own = placed(energies, potential.identity, name, reference)
        assert own.energies.bias is not None
        return cls(
            potential, own.energies.bias, by_number(own.energies.elemental_energies), MP2020() if own.add_mp2020 else None
        )

    def residuals(self, crystals: Sequence[Crystal], dft: Sequence[float]) -> list[float | None]:
        """Formation energy of each crystal less what its composition should have, `dft` (eV/atom) moved by the bias; None where there is none."""
        outcomes = self.potential.evaluate(crystals, forces=False) if crystals else []
        found: list[float | None] = []
        for crystal, outcome, known in zip(crystals, outcomes, dft, strict=True):
            energy = self._energy(crystal, outcome.energy) if isinstance(outcome, Evaluation) else None
            found.append(None if energy is None else energy - known - self.bias.of(composition(crystal.atomic_numbers)))
        return found

    def _energy(self, crystal: Crystal, energy: float) -> float | None:
        """The formation energy, eV/atom."""
        zero = float(np.mean([self.elemental[int(z)] for z in crystal.atomic_numbers]))
        if self.scheme is None:
            return energy - zero
        try:
            return energy - zero + self.scheme.correction(composition(crystal.atomic_numbers), crystal)
        except NoCorrectionError:
            return None
