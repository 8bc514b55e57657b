"""Ways to fine-tune that stand side by side."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from crystalformer_rl.settings import Section, Seed, ascending


class ArmSettings(Section):
    """One way of spending the evaluations: settings of fine-tuning that differ from `finetune`, and seeds."""

    kind: Literal["finetune", "best_of_n"] = Field(
        "finetune",
        description="finetune: rounds of fine-tuning, then samples of the policy; best_of_n: samples of the base policy scored "
        "at the same cost, of which the best are kept.",
    )
    seeds: Annotated[list[Seed], AfterValidator(ascending)] = Field([0], min_length=1, description="Seeds, a policy each.")
    finetune: dict[str, Any] = Field(
        {},
        description="Settings of `finetune` that differ in this arm; `rounds` and the product of `updates` and `batch` must stay.",
    )


def _not_taken(name: str) -> str:
    """Refuse names that other policies of every run have."""
    if name in ("base", "tuned"):
        raise ValueError(f"'{name}' is the name of another policy; choose another")
    return name


class ArmsSettings(Section):
    """Policies side by side, each with the same number of crystals sampled and scored."""

    policies: dict[Annotated[str, Field(pattern="^[a-z][a-z0-9_]*$"), AfterValidator(_not_taken)], ArmSettings] = Field(
        {}, description="Arms by name: small letters, digits and underscores. None: no comparison."
    )
