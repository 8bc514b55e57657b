"""Whether a crystal counts as stable, from its distance to the hull: the one place where that is decided.

Every function takes numbers or arrays of them (eV/atom; NaN where unknown) and gives booleans of the same shape.
"""

from __future__ import annotations

from typing import overload

import numpy as np

SUSPECT_BELOW = 0.1
"""eV/atom; a crystal further than this below the hull is more likely a fault of the potential than a discovery."""

STABLE_BELOW = 0.1
"""eV/atom above the hull; the bound under which the literature calls a generated crystal stable, and the default."""


@overload
def is_suspect(e_above_hull: float) -> bool: ...


@overload
def is_suspect(e_above_hull: np.ndarray) -> np.ndarray: ...


def is_suspect(e_above_hull: float | np.ndarray) -> bool | np.ndarray:
    """So far below the hull that the energy is not to be believed; an unknown distance is not suspect."""
    found = np.asarray(e_above_hull, float) < -SUSPECT_BELOW
    return bool(found) if found.ndim == 0 else found


@overload
def is_stable(e_above_hull: float, threshold: float) -> bool: ...


@overload
def is_stable(e_above_hull: np.ndarray, threshold: float) -> np.ndarray: ...


def is_stable(e_above_hull: float | np.ndarray, threshold: float) -> bool | np.ndarray:
    """At most `threshold` above the hull, and not suspect; an unknown distance is not stable."""
    distance = np.asarray(e_above_hull, float)
    found = (distance <= threshold) & ~np.asarray(is_suspect(distance))
    return bool(found) if found.ndim == 0 else found


def is_on_hull(e_above_hull: float | np.ndarray) -> bool | np.ndarray:
    """Stable with nothing to spare: on the hull or below it, and not suspect."""
    return is_stable(e_above_hull, 0.0)
