"""What every section of the configuration is made of: types of its values, and a model that refuses unknown keys."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from crystalformer_rl.crystal.elements import ATOMIC_NUMBERS


def _not_boolean(value: Any) -> Any:
    """Refuse true and false where a number is meant; pydantic would take them for 1 and 0."""
    if isinstance(value, bool):
        raise ValueError("Input should be a number, not true or false")
    return value


def ascending(values: list[int]) -> list[int]:
    """Sorted without repeats, so that two spellings of one choice are one run."""
    return sorted(set(values))


def known_elements(symbols: list[str]) -> list[str]:
    """The symbols, all of them an element's."""
    for name in symbols:
        if name not in ATOMIC_NUMBERS:
            raise ValueError(f"'{name}' is not an element symbol; write symbols such as Na or O")
    return symbols


# Numbers may come as text: YAML 1.1 reads `1e-4` (no dot) so, and Snakemake whatever its command line nests.
Integer = Annotated[int, BeforeValidator(_not_boolean)]
Number = Annotated[float, BeforeValidator(_not_boolean), Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False), BeforeValidator(_not_boolean)]
SpaceGroup = Annotated[int, Field(ge=1, le=230), BeforeValidator(_not_boolean)]
Seed = Annotated[int, Field(ge=0, lt=2**31), BeforeValidator(_not_boolean)]
Text = Annotated[str, Field(min_length=1)]
Elements = Annotated[list[Text], AfterValidator(known_elements)]


class Section(BaseModel):
    """A group of settings, checked when it is made and never changed after."""

    model_config = ConfigDict(extra="forbid", frozen=True)
