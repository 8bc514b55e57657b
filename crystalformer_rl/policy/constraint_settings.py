"""What every crystal must be, in fine-tuning as in sampling."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import AfterValidator, Field, StrictBool, model_validator

from crystalformer_rl.crystal.elements import atomic_number, parse_formula
from crystalformer_rl.errors import InputError
from crystalformer_rl.policy.request import Request
from crystalformer_rl.settings import Elements, Integer, Section, SpaceGroup, Text, ascending


class ConstraintSettings(Section):
    """What every crystal must be, in fine-tuning as in sampling; the defaults ask for nothing."""

    space_groups: Annotated[list[SpaceGroup], AfterValidator(ascending)] = Field(
        [],
        description="Space groups to draw crystals in (1 to 230); none means the distribution that the policy was trained on.",
    )
    elements: Elements = Field([], description="Symbols of the elements that may be used; none means all.")
    forbid: Elements = Field([], description="Symbols of elements that are never used.")
    require: Elements = Field([], description="Symbols of elements that every crystal holds, such as Li.")
    min_elements: Integer = Field(1, ge=1, le=10, description="Fewest different elements in a crystal.")
    charge_balanced: StrictBool = Field(
        False, description="Whether known oxidation states of its elements must add up to zero; alloys of metals do."
    )
    formula: Text | None = Field(None, description="Exactly this reduced formula, such as Cs2LiLuF6; null means any.")
    wyckoff: list[Text] = Field([], description="Exactly these sites, such as [1a, 1b, 3c], of the one space group named.")
    max_atoms: Integer | None = Field(
        None, ge=1, le=1000, description="Most atoms in the primitive cell; null means any number, with a formula 40."
    )

    @model_validator(mode="after")
    def _possible(self) -> Self:
        allowed = set(self.elements) - set(self.forbid)
        for name in self.require:
            if name in self.forbid or (self.elements and name not in allowed):
                raise ValueError(f"'require' names {name}, which may not be used; allow it")
        if self.elements and not allowed:
            raise ValueError("'forbid' leaves none of 'elements'; allow one")
        if self.elements and len(allowed) < self.min_elements:
            raise ValueError(f"'min_elements' asks for {self.min_elements} elements, and {len(allowed)} are allowed")
        if self.formula is not None:
            try:
                held = parse_formula(self.formula)
            except InputError as error:
                raise ValueError(str(error)) from error
            missing = {atomic_number(name) for name in self.require} - held.keys()
            if missing or len(held) < self.min_elements:
                raise ValueError(f"'formula' {self.formula} does not hold what 'require' and 'min_elements' ask for")
        if self.wyckoff and len(self.space_groups) != 1:
            raise ValueError("'wyckoff' names positions of one space group; name exactly one in 'space_groups'")
        return self

    def request(self, temperature: float = 1.0) -> Request:
        """What can be held inside the likelihood, by masks: all but `require`, `min_elements` and `charge_balanced`."""
        return Request(
            temperature=temperature,
            elements={atomic_number(name) for name in self.elements} or None,
            forbidden={atomic_number(name) for name in self.forbid},
            wyckoff=tuple(self.wyckoff),
            formula=self.formula or "",
            max_atoms=self.max_atoms,
        )

    @property
    def tested(self) -> bool:
        """Whether there is something that no mask holds, and crystals are drawn again until they meet it."""
        return bool(self.require) or self.min_elements > 1 or self.charge_balanced
