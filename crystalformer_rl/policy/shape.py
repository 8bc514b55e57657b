"""The shape of a policy's network and the form of its likelihood."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from crystalformer_rl.crystal.elements import ELEMENT_FEATURES
from crystalformer_rl.errors import InputError

Likelihood = Literal["normalized", "published"]


@dataclass(frozen=True)
class PolicyShape:
    """Sizes of the network; the names are those of the published configuration files.

    `likelihood` says what is counted. `normalized`: the density that is sampled, one mixture component
    for all six lattice parameters, only coordinates that are independent, and an end that is certain at the last
    place. `published`: each lattice parameter sums over the components by itself, a coordinate that the
    ones before it determine (y in (x, 2x, z)) counts too, and a sequence may run out of places.

    `density_temperature`: of coordinates and lattice about the means of their mixtures' components; 1 as trained. A fine-tuned
    policy may be narrower: the same choices, nearer to where it takes the atoms to be.

    `relatives`: size of the keys by which letters are chosen for their site symmetry; where it is not 0, space groups, Wyckoff positions and
    elements share parameters with those alike (`transformer.Relatives`). The published network has none.
    """

    Nf: int = 5
    Kx: int = 16
    Kl: int = 4
    n_max: int = 21
    h0_size: int = 256
    num_layers: int = 16
    num_heads: int = 16
    key_size: int = 64
    model_size: int = 64
    embed_size: int = 32
    atom_types: int = 119
    wyck_types: int = 28
    widening: int = 4
    relatives: int = 0
    likelihood: Likelihood = "normalized"
    density_temperature: float = 1.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name not in ("likelihood", "relatives", "density_temperature") and (
                not isinstance(value, int) or value < 1
            ):
                raise InputError(f"policy shape: {field.name} must be a whole number above zero, found {value!r}.")
        if self.key_size % 2:
            raise InputError(f"policy shape: key_size must be even for the rotary embedding, found {self.key_size}.")
        spread = self.density_temperature
        if isinstance(spread, bool) or not isinstance(spread, int | float) or not 1e-4 <= spread <= 10:
            raise InputError(f"policy shape: density_temperature must be a number from 0.0001 to 10, found {spread!r}.")
        if self.likelihood not in ("normalized", "published"):
            raise InputError(f"policy shape: likelihood must be 'normalized' or 'published', found {self.likelihood!r}.")

    @property
    def output_size(self) -> int:
        """Numbers at each output: room for elements with the lattice mixture, a coordinate mixture, or letters; of what relatives
        share there is one more for each feature of an element, and for each of a letter's keys.
        """
        shared = ELEMENT_FEATURES if self.relatives else 0
        return max(self.atom_types + self.Kl * 13 + shared, 3 * self.Kx, self.wyck_types + self.relatives)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_dict(values: dict[str, Any], source: str) -> PolicyShape:
        """Raises InputError naming `source` and the key for what is not a field."""
        known = {field.name for field in fields(PolicyShape)}
        for key in values:
            if key not in known:
                raise InputError(
                    f"{source}: '{key}' is not a field of a policy's shape; the fields are {', '.join(sorted(known))}."
                )
        return PolicyShape(**values)
