"""Predicted structures of a formula for people: a line each, and what the best of them is worth."""

from __future__ import annotations

from collections.abc import Sequence

from crystalformer_rl.discovery.cif import space_group_symbol
from crystalformer_rl.formatting import UNKNOWN, signed
from crystalformer_rl.hull.stability import FAR_BELOW, STABLE_BELOW, is_stable
from crystalformer_rl.prediction.known_phase import KnownPhase
from crystalformer_rl.report.results import Row

_HEADINGS = ("rank", "above hull", "space group", "", "prototype", "made by", "donor", "known as")
_UNITS = ("", "eV/atom", "", "", "", "", "", "")

_SHOWN = 0.0005
"""eV/atom; what rounds to nothing."""

_AS_LOW = 0.01
"""eV/atom; energies that differ by less are told as equal."""


_ABOVE_KNOWN = 0.03
"""eV/atom above the known energy of a formula, from which a structure is probably not that of the energy."""


def predicted_lines(rows: Sequence[Row], most: int = 10) -> list[str]:
    """The ranked rows of a PREDICTED_STRUCTURES table as lines of a table, `most` of them."""
    ranked = [row for row in rows if row["rank"] is not None]
    table = [_HEADINGS, _UNITS, *(_cells(row) for row in ranked[:most])]
    widths = [max(len(line[k]) for line in table) for k in range(len(_HEADINGS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in table]
    return lines + ([f"and {len(ranked) - most} more."] if len(ranked) > most else [])


def verdict_on(formula: str, rows: Sequence[Row], known: KnownPhase | None, rank: int | None) -> list[str]:
    """Sentences: how far the best structure lies above the hull, and how it stands to what is known of the formula.

    known: the phase that competes for the hull at the formula, None where the reference does not know it; rank: of its structure.
    """
    best = next((row for row in rows if row["rank"] == 1), None)
    if best is None:
        return [f"No candidate of {formula} could be relaxed; the column status says why."]
    return [_height(formula, best), _against_known(formula, best, known, rank)]


def _height(formula: str, best: Row) -> str:
    height = best["e_above_hull"]
    if height is None:
        return f"The best structure of {formula} has no distance to the hull."
    if not is_stable(height, STABLE_BELOW):
        return (
            f"Warning: the best structure of {formula} lies {height:.3f} eV/atom above the hull, further than almost all that is made: "
            f"{formula} decomposes, or its structure was not found, or the potential errs."
        )
    if height < -FAR_BELOW:
        return (
            f"Warning: the best structure of {formula} lies {-height:.3f} eV/atom below the hull, further than a compound that was "
            "overlooked would: the potential errs here, or the hull lacks phases. Do not believe it unseen."
        )
    if abs(height) < _SHOWN:
        return f"The best structure of {formula} lies on the hull."
    side = "above" if height >= 0 else "below"
    return f"The best structure of {formula} lies {abs(height):.3f} eV/atom {side} the hull."


def _against_known(formula: str, best: Row, known: KnownPhase | None, rank: int | None) -> str:
    if known is None:
        return f"The reference does not know {formula}."
    above = best["formation_energy"] - known.formation_energy
    side = f"lies {abs(above):.3f} eV/atom {'above' if above > 0 else 'below'} it" if abs(above) > _AS_LOW else "lies as low"
    height = f"{signed(known.e_above_hull)} eV/atom above the hull"
    if not known.structure and above > _ABOVE_KNOWN:
        return (
            f"Of the known {formula} the reference has an energy of density-functional theory, {height}, and no structure: the best {side}, so "
            "that it is another structure than the known one, or the potential errs."
        )
    if not known.structure:
        return f"Of the known {formula} the reference has an energy of density-functional theory, {height}, and no structure: the best {side}."
    words = f"The {formula} that the reference holds is {known.id}, {height}: "
    return words + (f"found, rank {rank}." if rank is not None else f"not found; the best {side}.")


def _known(row: Row) -> str:
    level, partner = row["known_level"], row["known_partner"]
    if row["match_id"] is not None:
        return str(row["match_id"])
    if level is None:
        return UNKNOWN
    if partner is None:
        return "nothing"
    if level == "formula":
        return "formula alone"
    return f"{level.replace('_', ' ')} of {partner}"


def _cells(row: Row) -> tuple[str, ...]:
    height = UNKNOWN if row["e_above_hull"] is None else signed(row["e_above_hull"], 3)
    named = "" if row["structure_type"] in (None, "other") else f" ({row['structure_type']})"
    symbol = space_group_symbol(row["space_group"]).replace(" ", "")
    number = str(row["space_group"])
    return (
        str(row["rank"]), height, symbol, number, f"{row['prototype']}{named}", row["made_by"], row["donor"] or "", _known(row)
    )  # fmt: skip
