"""What speaks for a candidate and what against it, in a line: what somebody who knows the field would look at first."""

from __future__ import annotations

from typing import NamedTuple

from crystalformer_rl.crystal.elements import ATOMIC_NUMBERS
from crystalformer_rl.discovery.cif import space_group_symbol
from crystalformer_rl.discovery.solid_solution import mixing
from crystalformer_rl.formatting import counted, percent
from crystalformer_rl.hull.stability import (
    ASKED_BELOW,
    DISAGREEMENT,
    INCOMPLETE_HULL,
    LITTLE_SUPPORT,
    STABLE_BELOW,
    judged_word,
)
from crystalformer_rl.report.results import Row, from_json

UNLIKELY = 0.001
"""Probability of an exchange below which pymatgen's substitution model proposes none."""

_SURE = 0.98

_FEW = 2
"""Elements that may be exchanged for a known compound to speak for a crystal."""

_RARE_EARTHS = frozenset(ATOMIC_NUMBERS[name] for name in ("Sc", "Y")) | frozenset(range(57, 72))


class Evidence(NamedTuple):
    """Reasons, each the part of a sentence."""

    speaks_for: list[str]
    speaks_against: list[str]


def line(row: Row) -> str:
    """A CANDIDATES row in a line: what it is, what speaks for it and what against."""
    found = evidence(row)
    parts = [f"{name(row)}: {_distance(row)}"]
    if found.speaks_for:
        parts.append(f"For: {'; '.join(found.speaks_for)}")
    if found.speaks_against:
        parts.append(f"Against: {'; '.join(found.speaks_against)}")
    return ". ".join(parts) + "."


def name(row: Row) -> str:
    """`CeSnPd2 (Fm-3m)`."""
    symbol = space_group_symbol(row["space_group"]).replace(" ", "") if row["space_group"] else "no symmetry"
    return f"{row['formula']} ({symbol})"


def evidence(row: Row) -> Evidence:
    """What is to be said of a CANDIDATES row."""
    speaks_for, against = [], []
    for reasons in (_analogue(row), _second_opinion(row), _competition(row), _state(row)):
        speaks_for += reasons.speaks_for
        against += reasons.speaks_against
    return Evidence(speaks_for, against)


def _distance(row: Row) -> str:
    height, std = row["e_above_hull"], row["e_above_hull_std"]
    error = "" if std is None else f" ± {std:.3f}"
    if abs(height) < 0.0005:
        return f"on the hull{error and f' ({error[1:]} eV/atom)'}{_chance(row)}"
    return f"{_height(height, error)} the hull{_chance(row)}"


def _height(height: float, error: str = "") -> str:
    return f"{abs(height):.3f}{error} eV/atom {'below' if height < 0 else 'above'}"


def _chance(row: Row) -> str:
    """The probability of being stable, in words of its sources."""
    if row["p_stable_judged"] is not None:
        return f", stable by DFT with {_percent(row['p_stable_judged'])} probability by both potentials"
    return "" if row["p_stable"] is None else f", stable by DFT with {_percent(row['p_stable'])} probability"


def _percent(probability: float) -> str:
    """Nobody calibrates what happens once in a hundred times."""
    return f"over {percent(_SURE, 0)}" if probability > _SURE else percent(probability, 0)


def _second_opinion(row: Row) -> Evidence:
    """What the judge says."""
    judge, height = row["judge"], row["judge_e_above_hull"]
    if judge is None:
        return Evidence([], [])
    if height is None:
        return Evidence([], [f"{judge} gives no energy ({row['judge_status']})"])
    word = judged_word(row["e_above_hull"], height, STABLE_BELOW)
    if word == INCOMPLETE_HULL:
        return Evidence([], [f"{judge} puts it {_height(height)}, too: the hull lacks a phase here"])
    if word == DISAGREEMENT:
        return Evidence([], [f"{judge} puts it {_height(height)}: one of the two potentials is at fault"])
    return Evidence([f"{judge}, relaxing it again, puts it {_height(height)}"], [])


def _analogue(row: Row) -> Evidence:
    """What is known that resembles it."""
    level, partner = row["known_level"], row["known_partner"]
    if level == "substitution":
        return _donor(row)
    words = {
        "prototype": f"no compound of its structure is known, only {partner} on the same Wyckoff positions",
        "chemical_system": "no compound on its Wyckoff positions is known",
        "none": "no compound on its Wyckoff positions or of its elements is known",
    }
    return Evidence([], [words[level]] if level in words else [])


def _donor(row: Row) -> Evidence:
    """What a compound says of it that becomes it by an exchange of elements."""
    partner, words, likelihood = row["known_partner"], row["known_exchange"], row["known_exchange_likelihood"]
    if not row["known_exchange_matches"]:
        alike = f"its Wyckoff positions are those of {partner} ({words}), but not its coordinates"
        return Evidence([], [f"no compound of its structure is known: {alike}"])
    if words.count("→") > _FEW or (likelihood is not None and likelihood < UNLIKELY):
        return Evidence([], [f"the nearest compound of its structure, {partner}, is far from it ({words})"])
    how = "" if likelihood is None else f" (probability {likelihood:.2g})"
    series = _within_rare_earths(words)
    return Evidence(
        [f"{partner} has its structure, with {words}{how}"],
        ["its rare-earth analogue is known, so it may be known elsewhere, too"] if series else [],
    )


def _within_rare_earths(exchange: str) -> bool:
    pairs = [part.split(" → ") for part in exchange.split(", ")]
    return all(ATOMIC_NUMBERS[element] in _RARE_EARTHS for pair in pairs for element in pair)


def _competition(row: Row) -> Evidence:
    """How well the hull is known around it."""
    support, height = row["hull_support"], row["e_above_hull"]
    found: list[str] = []
    against: list[str] = []
    if support is not None:
        known = f"{counted(support, 'composition')} of its elements {'is' if support == 1 else 'are'} known"
        (against if support <= LITTLE_SUPPORT else found).append(known)
    sources = [source for source in from_json(row["energy_from"]).values() if source]
    if sources and "relaxed" not in sources:
        against.append("the competing energies are DFT's, moved by the mean error of the potential")
    if height < -ASKED_BELOW and row["judge_e_above_hull"] is None:
        against.append("so far below, the hull may be incomplete here")
    return Evidence(found, against)


def _state(row: Row) -> Evidence:
    """What the crystal itself says."""
    against: list[str] = []
    if row["low_dimensional"]:
        against.append("a layer, chain or molecule with vacuum around it, no bulk crystal")
    if row["charge_balanced"] is False:
        against.append("no oxidation states that are seen in the ICSD sum to zero")
    mixed = mixing(frozenset(row["atomic_numbers"]))
    if mixed:
        against.append(f"{', '.join(mixed[:-1])} and {mixed[-1]} readily replace each other, so it may be a solid solution")
    if row["converged"] is False:
        against.append("not at rest within the evaluations allowed")
    if row["space_group_01"] not in (None, row["space_group"]):
        higher = space_group_symbol(row["space_group_01"]).replace(" ", "")
        against.append(f"at 0.1 Å its symmetry is {higher}")
    return Evidence([], against)


def best_new(candidates: list[Row], n: int) -> list[Row]:
    """The first stable new bulk crystals of ranked candidates, without those that the ranking leaves out."""
    new = [row for row in candidates if row["verdict"] == "new" and row["stable"] and not row["low_dimensional"]]
    return [row for row in new if row["left_out"] is None][:n]
