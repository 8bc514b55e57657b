"""Which objectives there are: ours by one line each here, others' by an entry point of their package.

The entry-point group is `crystalformer_rl.objectives`: a name, and `package.module:Class` of an `objectives.Objective`.
Nothing here imports a framework, so that a configuration can be checked anywhere.
"""

from __future__ import annotations

import difflib
import importlib.metadata

ENTRY_POINTS = "crystalformer_rl.objectives"

NONE = "none"
"""Sampling and scoring alone."""

BUILT_IN = {
    name: f"crystalformer_rl.finetune.objectives:{maker}"
    for name, maker in (
        ("balance", "TrajectoryBalance"),
        ("ppo", "PPO"),
        ("grpo", "GRPO"),
        ("rloo", "RLOO"),
        ("dpo", "DPO"),
        ("sft", "SFT"),
    )
}
NAMES = (*BUILT_IN, NONE)


def registered() -> dict[str, str]:
    """`package.module:Class` by name; an installed package's own cannot take the names of ours."""
    found = dict(BUILT_IN)
    for point in importlib.metadata.entry_points(group=ENTRY_POINTS):
        found.setdefault(point.name, point.value)
    return found


def known_objective(name: str) -> str:
    """The name itself. Raises ValueError with one sentence for a name that is not an objective's."""
    names = [*registered(), NONE]
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        advice = f"did you mean '{near[0]}'" if near else f"choose one of {', '.join(names)}"
        raise ValueError(f"'{name}' is not an objective; {advice}")
    return name
