"""The reward as the configuration writes it: terms with weights, transforms and conditions, and the price of failing."""

from __future__ import annotations

import os
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, StrictBool, WithJsonSchema, model_validator

from crystalformer_rl.settings import Integer, Number, Section, Text

LARGEST = 1e6
"""Weights, prices and shares are no larger than this in size, so that gradients, which are float32, stay finite."""


def _as_list(value: Any) -> Any:
    """One text for a list of it, and null for none."""
    return [] if value is None else [value] if isinstance(value, str) else value


_text = {"type": "string", "minLength": 1}
Texts = Annotated[
    list[Text],
    BeforeValidator(_as_list),
    WithJsonSchema({"anyOf": [{"type": "array", "items": _text}, _text, {"type": "null"}]}),
]


class TermSettings(Section):
    """One term: weight · transformed(figure), where its conditions hold.

    The figure passes its transforms in this order: target, confidence, log, threshold, clip.
    """

    term: Text = Field(
        ...,
        description="Figure that is rewarded: e_above_hull, formation_energy, force, band_gap, eps_electronic, eps_total, fom, "
        "fom_total, novelty, new_formula, n_elements, element_fraction, element_table, a registered term, or package.module:name.",
    )
    weight: Number = Field(
        1.0,
        ge=-LARGEST,
        le=LARGEST,
        description="Reward for one unit of the transformed figure; negative where less is better.",
    )
    target: Number | None = Field(None, description="Value to meet: the figure becomes its absolute distance from it.")
    confidence: Number = Field(
        0.0, ge=0, le=10, description="Standard deviations by which an uncertain figure is taken worse than its mean."
    )
    log: StrictBool = Field(False, description="Take the natural logarithm; figures below 1e-3 count as 1e-3.")
    threshold: Number | None = Field(None, description="1 where the figure reaches this, 0 where it does not.")
    clip: Annotated[list[Number], Field(min_length=2, max_length=2)] | None = Field(
        None, description="Lowest and highest value that counts."
    )
    only_if: Texts = Field(
        [], description="Conditions such as `e_above_hull < 0.1`; where one does not hold the term is `otherwise`."
    )
    otherwise: Number = Field(
        0.0,
        ge=-LARGEST,
        le=LARGEST,
        description="What the term gives, before its weight, where a condition does not hold.",
    )
    options: dict[str, Any] = Field({}, description="What the term itself takes, such as elements or a table.")

    @model_validator(mode="after")
    def _clip_is_an_interval(self) -> Self:
        if self.clip is not None and self.clip[0] > self.clip[1]:
            raise ValueError(f"its lowest value {self.clip[0]} is above its highest {self.clip[1]}")
        return self


class WalkSettings(Section):
    """How far a crystal is relaxed before it is rewarded."""

    max_evaluations: Integer = Field(
        1,
        ge=1,
        le=1000,
        description="Evaluations of the potential that a crystal may take before it is judged, the space group kept; 1 judges it as it was sampled.",
    )


class RewardSettings(Section):
    """The sum of its terms; crystals that fail at any stage earn `failure`."""

    terms: list[TermSettings] = Field(
        [
            TermSettings(term="e_above_hull", weight=-1.0, threshold=0.1),
            TermSettings(term="novelty", weight=0.5, only_if=["e_above_hull < 0.1"]),
            TermSettings(term="new_formula", weight=1.0, only_if=["e_above_hull < 0.1"]),
        ],
        min_length=1,
        description="What is added up.",
    )
    failure: Number = Field(
        -1.0, ge=-LARGEST, le=LARGEST, description="Reward of a crystal that fails, or lacks a figure that counts."
    )

    relax: WalkSettings = Field(WalkSettings(), description="Relaxation before the reward, by default none.")

    @property
    def files(self) -> list[str]:
        """Paths of the files that options name, such as tables, each once; other texts among the options name none."""
        texts = [value for term in self.terms for value in term.options.values() if isinstance(value, str)]
        return [path for path in dict.fromkeys(texts) if os.path.isfile(path)]  # pathlib's is_file may raise
