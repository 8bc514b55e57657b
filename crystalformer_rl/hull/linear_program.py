"""The cheapest mixture of phases that has a given composition: a small linear program, solved by the simplex method."""

from __future__ import annotations

import numpy as np

OPTIMAL = 1e-11
"""eV/atom; a phase whose reduced cost is above minus this cannot lower the mixture any more."""

_PIVOT = 1e-9  # an element of the tableau smaller than this is rounding, no pivot
_MOST_PIVOTS = 10_000


def cheapest_mixture(fractions: np.ndarray, energies: np.ndarray, composition: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The phases and their amounts that minimize the energy at a fixed composition.

    Minimizes ``energies @ x`` over x >= 0 with ``fractions @ x = composition``: the
    ground state of a closed system at zero temperature, whose value is the convex
    hull at that composition (S. P. Ong et al., Chem. Mater. 20, 1798, 2008).

    fractions: (k, n) atom fraction of each of the k elements in each phase; the
    first k columns must be the elements themselves (the identity), from which the
    search starts. energies: (n,) eV/atom. composition: (k,), positive, sum 1.
    Returns the columns (k,) of the optimal basis and their amounts (k,), atom
    fractions that sum to 1; some may be zero.

    Dantzig's rule enters the phase of steepest descent; where the composition lies
    on the boundary of a simplex steps may have no length, and after a few of those
    Bland's rule takes over, which cannot cycle.
    """
    k, n = fractions.shape
    tableau = np.empty((k + 1, n + 1))
    tableau[:k, :n] = fractions
    tableau[:k, n] = composition
    tableau[k, :n] = energies - energies[:k] @ fractions
    tableau[k, n] = -energies[:k] @ composition
    basis = np.arange(k)
    idle = 0
    for _ in range(_MOST_PIVOTS):
        reduced = tableau[k, :n]
        entering = int(np.argmax(reduced < -OPTIMAL)) if idle > k else int(np.argmin(reduced))
        if reduced[entering] >= -OPTIMAL:
            return basis, _amounts(fractions, basis, composition)
        leaving, step = _leaving_row(tableau, basis, entering)
        idle = 0 if step > 0 else idle + 1
        _pivot(tableau, leaving, entering)
        basis[leaving] = entering
    raise ArithmeticError(f"the simplex method took more than {_MOST_PIVOTS} pivots on {n} phases of {k} elements")


def _leaving_row(tableau: np.ndarray, basis: np.ndarray, entering: int) -> tuple[int, float]:
    """The basic phase that the entering one uses up first, and how much of the latter enters; ties by lowest column."""
    column = tableau[:-1, entering]
    rows = np.flatnonzero(column > _PIVOT)
    ratios = np.maximum(tableau[rows, -1], 0.0) / column[rows]
    step = ratios.min()
    tied = rows[ratios <= step + 1e-14]
    return int(tied[np.argmin(basis[tied])]) if len(tied) > 1 else int(tied[0]), float(step)


def _pivot(tableau: np.ndarray, row: int, column: int) -> None:
    tableau[row] /= tableau[row, column]
    factors = tableau[:, column].copy()
    factors[row] = 0.0
    tableau -= factors[:, None] * tableau[row]
    tableau[:, column] = 0.0
    tableau[row, column] = 1.0


def _amounts(fractions: np.ndarray, basis: np.ndarray, composition: np.ndarray) -> np.ndarray:
    """Amounts of the basic phases, solved afresh so that they carry none of the tableau's rounding."""
    amounts = np.maximum(np.linalg.solve(fractions[:, basis], composition), 0.0)
    return amounts / amounts.sum()
