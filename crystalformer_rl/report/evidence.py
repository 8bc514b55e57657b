"""What speaks for a candidate and what against it, in a line: what somebody who knows the field would look at first."""

from __future__ import annotations

from typing import NamedTuple

from crystalformer_rl.crystal.elements import ATOMIC_NUMBERS, SYMBOLS
from crystalformer_rl.discovery.cif import space_group_symbol
from crystalformer_rl.discovery.exchange import readily_exchanged
from crystalformer_rl.discovery.ordering import shared_sites, similar
from crystalformer_rl.formatting import counted
from crystalformer_rl.hull.stability import FAR_BELOW, LITTLE_SUPPORT
from crystalformer_rl.report.results import Row, from_json

UNLIKELY = 0.001
"""Probability of an exchange below which pymatgen's substitution model proposes none."""

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
    for reasons in (_analogue(row), _competition(row), _state(row)):
        speaks_for += reasons.speaks_for
        against += reasons.speaks_against
    return Evidence(speaks_for, against)


def _distance(row: Row) -> str:
    height, std = row["e_above_hull"], row["e_above_hull_std"]
    error = "" if std is None else f" ± {std:.3f}"
    if abs(height) < 0.0005:
        return f"on the hull{error and f' ({error[1:]} eV/atom)'}"
    side = "below" if height < 0 else "above"
    return f"{abs(height):.3f}{error} eV/atom {side} the hull"


def _analogue(row: Row) -> Evidence:
    """What is known that resembles it."""
    level, partner = row["known_level"], row["known_partner"]
    if level == "substitution":
        likelihood = row["known_exchange_likelihood"]
        how = "" if likelihood is None else f" (probability {likelihood:.2g})"
        if likelihood is None or likelihood < UNLIKELY:
            return Evidence(
                [], [f"the nearest compound of its structure, {partner}, is far from it ({row['known_exchange']})"]
            )
        found = f"{partner} has its structure, with {row['known_exchange']}{how}"
        series = _within_rare_earths(row["known_exchange"])
        known = ["one of a series of rare earths, which may be known elsewhere"] if series else []
        return Evidence([found], known)
    words = {
        "prototype": f"no compound of its structure is known, only {partner} on the same Wyckoff positions",
        "chemical_system": "no compound on its Wyckoff positions is known",
        "none": "no compound on its Wyckoff positions or of its elements is known",
    }
    return Evidence([], [words[level]] if level in words else [])


def _within_rare_earths(exchange: str) -> bool:
    pairs = [part.split(" → ") for part in exchange.split(", ")]
    return all(ATOMIC_NUMBERS[element] in _RARE_EARTHS for pair in pairs for element in pair)


def _competition(row: Row) -> Evidence:
    """How well the hull is known around it."""
    support, height = row["hull_support"], row["e_above_hull"]
    found: list[str] = []
    against: list[str] = []
    if support is not None:
        known = counted(support, "known compound")
        (against if support <= LITTLE_SUPPORT else found).append(
            f"{known} of its elements compete{'s' if support == 1 else ''}"
        )
    sources = [source for source in from_json(row["energy_from"]).values() if source]
    if sources and "relaxed" not in sources:
        against.append("the competing energies are DFT's, moved by the mean error of the potential")
    if height < -FAR_BELOW:
        against.append("so far below, the hull may be incomplete here")
    return Evidence(found, against)


def _state(row: Row) -> Evidence:
    """What the crystal itself says."""
    found: list[str] = []
    against: list[str] = []
    if row["charge_balanced"] is False:
        against.append("its usual oxidation states do not sum to zero")
    mixing = [SYMBOLS[z - 1] for z in sorted(shared_sites(frozenset(row["atomic_numbers"]), _mix))]
    if mixing:
        against.append(
            f"{', '.join(mixing[:-1])} and {mixing[-1]} readily replace each other, so it may be a solid solution"
        )
    if row["converged"] is False:
        against.append("not at rest within the evaluations allowed")
    if row["space_group_01"] not in (None, row["space_group"]):
        higher = space_group_symbol(row["space_group_01"]).replace(" ", "")
        against.append(f"at 0.1 Å its symmetry is {higher}")
    if len(row["found_by"]) > 1 or row["found_count"] > 1:
        found.append(f"found {row['found_count']} times")
    return Evidence(found, against)


def _mix(a: int, b: int) -> bool:
    """Whether two elements form solid solutions, by the rule of Hume-Rothery and by what is found in each other's place."""
    return similar(a, b, 0.15, 0.4) and readily_exchanged(a, b)


def best_new(candidates: list[Row], n: int) -> list[Row]:
    """The first stable new ones of ranked candidates, without those that the ranking leaves out."""
    return [row for row in candidates if row["verdict"] == "new" and row["stable"] and row["left_out"] is None][:n]
