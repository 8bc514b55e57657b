"""What fine-tuning aimed at, before and after: each term of the reward, and what the gain was bought with."""

from __future__ import annotations

from typing import Any

from crystalformer_rl.formatting import percent, signed

Row = dict[str, Any]

_OWN = ("reward_mean", "reward_std")
_SHARES = {
    "stable_fraction": "stable as scored",
    "sun_fraction": "stable, unique and of a new kind as scored",
    "known_fraction": "of a kind that the policy was trained on",
    "oxide_fraction": "oxides",
    "halide_fraction": "halides",
    "chalcogenide_fraction": "chalcogenides",
    "intermetallic_fraction": "intermetallics",
}
_NUMBERS = {
    "effective_templates": "effective number of Wyckoff templates",
    "effective_formulas": "effective number of anonymous formulas",
    "effective_elements": "effective number of elements",
    "kl": "KL divergence from the base policy, nat",
    "kl_needed": "least KL divergence for that stable share, nat",
}


def goal_lines(updates: list[Row]) -> list[tuple[str, str, str]]:
    """(what, in the first update, in the last) of the rows of UPDATES of a whole run, in the order of reading; nothing of fewer than two updates.

    The first update's crystals are the base policy's.
    """
    if len(updates) < 2:
        return []
    first, last = updates[0], updates[-1]
    terms = [name for name in last if name.startswith("reward_") and name not in _OWN]
    named = {"reward_mean": "reward, mean"} | {name: f"reward: {name.removeprefix('reward_')}" for name in terms}
    lines = [(words, _number(first, name), _number(last, name)) for name, words in named.items()]
    lines += [(words, _share(first, name), _share(last, name)) for name, words in _SHARES.items() if name in last]
    lines += [(words, _number(first, name), _number(last, name)) for name, words in _NUMBERS.items() if name in last]
    return lines


def _number(row: Row, name: str) -> str:
    value = row.get(name)
    return "–" if value is None else f"{value:.0f}" if abs(value) >= 10 else signed(value) if value < 0 else f"{value:.3f}"


def _share(row: Row, name: str) -> str:
    value = row.get(name)
    return "–" if value is None else percent(value)
