"""Whether a crystal counts as stable, from its distance to the hull: the one place where that is decided.

Every function takes numbers or arrays of them (eV/atom; NaN where unknown) and gives numbers or booleans of the same shape.
A distance below the hull is a question to the hull before it is a discovery, and counts as the hull does: no less, and no more.
"""

from __future__ import annotations

from typing import overload

import numpy as np

STABLE_BELOW = 0.1
"""eV/atom above the hull; the bound under which the literature calls a generated crystal stable, and the default."""

ROUNDING = 1e-6
"""eV/atom by which a distance may miss a threshold and still meet it. References round their energies (given ones to 1e-8), so that
a phase found again lies as far from the hull as rounding left it, on either side.
"""

LITTLE_SUPPORT = 3
"""Compositions of two or more elements in the chemical system; with no more than these, the hull may be incomplete there."""

ASKED_BELOW = 0.05
"""eV/atom below the hull from which words ask whether the hull is complete."""

CONFIRMED, INCOMPLETE_HULL, DISAGREEMENT = "confirmed", "incomplete_hull", "disagreement"
"""What a second potential's opinion comes to."""

AGREED = 0.05
"""eV/atom by which two potentials' distances may differ and still say the same."""

FAR_BELOW = 0.1
"""eV/atom below the hull beyond which crystals are counted as far below."""


@overload
def below_hull(e_above_hull: float) -> float: ...


@overload
def below_hull(e_above_hull: np.ndarray) -> np.ndarray: ...


def below_hull(e_above_hull: float | np.ndarray) -> float | np.ndarray:
    """How far below the hull, eV/atom; 0 on it and above; NaN stays."""
    found = np.maximum(-np.asarray(e_above_hull, float), 0.0) + 0.0
    return float(found) if found.ndim == 0 else found


@overload
def is_stable(e_above_hull: float, threshold: float) -> bool: ...


@overload
def is_stable(e_above_hull: np.ndarray, threshold: float) -> np.ndarray: ...


def is_stable(e_above_hull: float | np.ndarray, threshold: float) -> bool | np.ndarray:
    """At most `threshold` above the hull, to within `ROUNDING`; an unknown distance is not stable."""
    found = np.asarray(e_above_hull, float) <= threshold + ROUNDING
    return bool(found) if found.ndim == 0 else found


def is_on_hull(e_above_hull: float | np.ndarray) -> bool | np.ndarray:
    """Stable with nothing to spare: on the hull, to within `ROUNDING`, or below it."""
    return is_stable(e_above_hull, 0.0)


def hull_may_be_incomplete(e_above_hull: float | None, support: int | None) -> bool:
    """Whether words must say so: far below the hull, or below it where little competes."""
    if e_above_hull is None or support is None:
        return False
    return e_above_hull < -ASKED_BELOW or (e_above_hull < -ROUNDING and support <= LITTLE_SUPPORT)


def judged_word(e_above_hull: float, by_judge: float, threshold: float) -> str:
    """How a second potential's distance stands to the first's: confirmed, incomplete_hull or disagreement.

    incomplete_hull: both lie far below, so the hull lacks a phase, rather than two potentials err alike; disagreement: they differ
    by more than `AGREED`, and only one of them calls the crystal stable or puts it far below, so a potential is at fault.
    """
    first, second = e_above_hull < -ASKED_BELOW, by_judge < -ASKED_BELOW
    agreed = abs(e_above_hull - by_judge) <= AGREED
    if (first and second) or (agreed and (e_above_hull + by_judge) / 2 < -ASKED_BELOW):
        return INCOMPLETE_HULL
    if not agreed and (first != second or is_stable(e_above_hull, threshold) != is_stable(by_judge, threshold)):
        return DISAGREEMENT
    return CONFIRMED
