"""The relaxation of one crystal, step by step, with its evaluations left to whoever drives it.

A quasi-Newton walk along the coordinates that the symmetry leaves free. The Hessian is made anew at each
geometry: springs between the neighbours of that place, corrected by what the last steps met (BFGS). Each step stays
inside a region that grows while the walk goes well and shrinks where it does not.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from crystalformer_rl.crystal.structure import Crystal
from crystalformer_rl.crystal.tokens import Sites
from crystalformer_rl.potential.coordinates import Coordinates
from crystalformer_rl.potential.protocol import EV_PER_A3_IN_GPA, Evaluation, Outcome
from crystalformer_rl.potential.relax_settings import RelaxSettings
from crystalformer_rl.potential.springs import model_hessian, pushed_apart
from crystalformer_rl.tables.status import Status

_ENERGY_NOISE = 2e-6
"""eV/atom; single-precision potentials cannot tell energies apart below this."""

_SECANTS = 20
"""Steps that correct the model Hessian."""
_SECANT_WINDOW = 0.1
"""eV/atom; a step that began further above than this says little about the Hessian here."""

_LONGEST_STEP, _LARGEST_STRAIN = 0.2, 0.04
"""Å, of any atom in one step, and largest component of the strain; both doubled at most while steps succeed."""
_WIDEST = 2.0
"""Largest region, in units of these two."""
_NARROWEST = 1e-3
_FAILURES = 8
"""Failing evaluations in a row that end a walk."""
_SHRUNK, _GROWN = 0.5, 2.0
"""Volumes of the cell, in units of the first, between which a walk is believed."""


@dataclass(frozen=True)
class Relaxed:
    """The best geometry that a walk met, and what remains there.

    sites: tokens; crystal: primitive cell; energies in eV/atom; force_max eV/Å; stress_max GPa. energy_kept and
    space_group_kept: energy with the first space group kept and that space group, where a free relaxation followed. ahead: where the
    walk would have gone next, if that was asked; not evaluated.
    All but status, evaluations (and, where it is known, energy_initial) are None for a failure.
    """

    status: str
    evaluations: int
    sites: Sites | None = None
    crystal: Crystal | None = None
    energy: float | None = None
    energy_initial: float | None = None
    force_max: float | None = None
    stress_max: float | None = None
    converged: bool | None = None
    energy_kept: float | None = None
    space_group_kept: int | None = None
    ahead: Sites | None = None


@dataclass
class _Point:
    """One evaluated geometry: coordinates, total energy (eV), gradient, residual force and stress."""

    q: np.ndarray
    energy: float
    gradient: np.ndarray
    force_max: float
    stress_max: float


@dataclass(frozen=True)
class _Secant:
    """One step, the change of the gradient along it, and the higher of the two energies at its ends (eV)."""

    step: np.ndarray
    change: np.ndarray
    energy: float


@dataclass
class Walker:
    """The relaxation of one crystal, advanced from outside: `trial` out, `advance(outcome)` in.

    q: of the trial; best: the lowest point so far, from which steps are taken; expected: the change of energy (eV)
    that the quadratic model promises for the trial; trust: radius of the region, in units of the largest steps.
    """

    coordinates: Coordinates
    settings: RelaxSettings
    q: np.ndarray = field(init=False)
    best: _Point | None = None
    secants: list[_Secant] = field(default_factory=list)
    expected: float = 0.0
    trust: float = 1.0
    evaluations: int = 0
    failures: int = 0
    energy_initial: float | None = None
    status: str = Status.OK
    done: bool = False

    def __post_init__(self) -> None:
        self.q = np.zeros(len(self.coordinates))
        self.first_volume = self.trial().volume

    @property
    def n_atoms(self) -> int:
        return len(self.coordinates.numbers)

    def trial(self) -> Crystal:
        """The geometry to evaluate next."""
        return self.coordinates.crystal(self.q)

    def advance(self, outcome: Outcome) -> None:
        """Take in what the potential said of `trial` and choose the next, or be done."""
        self.evaluations += 1
        if isinstance(outcome, str):
            self._fail(outcome)
        else:
            self._learn(self._point(outcome))
        if not self.done and self.evaluations >= self.settings.max_evaluations:
            self.done = True
        if not self.done:
            self._choose()

    def _point(self, evaluation: Evaluation) -> _Point:
        assert evaluation.forces is not None
        assert evaluation.stress is not None
        return _Point(
            self.q,
            evaluation.energy * self.n_atoms,
            self.coordinates.gradient(self.q, evaluation.forces, evaluation.stress),
            float(np.linalg.norm(evaluation.forces, axis=1).max()),
            float(np.abs(evaluation.stress).max() * EV_PER_A3_IN_GPA),
        )

    def _fail(self, status: str) -> None:
        self.failures += 1
        if self.best is None:
            self.status, self.done = status, True
        elif self.failures >= _FAILURES:
            self.done = True
        else:
            self.trust *= 0.25

    def _learn(self, point: _Point) -> None:
        self.failures = 0
        if self.best is None:
            self.energy_initial = point.energy / self.n_atoms
            self.best = point
        else:
            self._compare(self.best, point)
        self.done = self._converged() or self._left_bounds() or self.trust < _NARROWEST

    def _compare(self, old: _Point, point: _Point) -> None:
        """Keep the better of two points, and let the step between them set the Hessian and the region right."""
        change = point.energy - old.energy
        self.secants.append(_Secant(point.q - old.q, point.gradient - old.gradient, max(old.energy, point.energy)))
        if change > _ENERGY_NOISE * self.n_atoms:
            self.trust *= 0.4
            return
        good = self.expected < 0 and change / self.expected > 0.5
        self.trust = min(_WIDEST, self.trust * (2.0 if good else 1.0))
        self.best = point
        highest = point.energy + _SECANT_WINDOW * self.n_atoms
        near = [secant for secant in self.secants if secant.energy < highest]
        self.secants = (near or self.secants[-1:])[-_SECANTS:]

    def _hessian(self, at: _Point) -> np.ndarray:
        hessian = model_hessian(self.coordinates, at.q)
        for secant in self.secants:
            hessian = updated_hessian(hessian, secant.step, secant.change)
        return hessian

    def _converged(self) -> bool:
        assert self.best is not None
        return self.best.force_max <= self.settings.fmax and self.best.stress_max <= self.settings.smax

    def _left_bounds(self) -> bool:
        assert self.best is not None
        ratio = self.coordinates.crystal(self.best.q).volume / self.first_volume
        if _SHRUNK <= ratio <= _GROWN:
            return False
        self.status = Status.EXPLODED if ratio > _GROWN else Status.COLLAPSED
        return True

    def _choose(self) -> None:
        """The next trial: atoms pushed apart where the first ones were crowded, else a quasi-Newton step."""
        assert self.best is not None
        pushed = pushed_apart(self.coordinates, self.best.q) if self.evaluations == 1 else None
        if pushed is None:
            self._newton_step(self.best)
        else:
            self.q, self.expected = pushed, 0.0
            # Crowded atoms are in too small a cell, which may grow without having exploded.
            self.first_volume = max(self.first_volume, self.trial().volume)

    def _newton_step(self, at: _Point) -> None:
        hessian = self._hessian(at)
        values, vectors = np.linalg.eigh(hessian)
        scale = np.maximum(np.abs(values), 1e-3 * np.abs(values).max())
        step = -vectors @ ((vectors.T @ at.gradient) / scale)
        step *= min(1.0, self.trust * self._reach(step))
        self.q = at.q + step
        self.expected = float(at.gradient @ step + 0.5 * step @ hessian @ step)

    def _reach(self, step: np.ndarray) -> float:
        """The multiple of `step` that goes as far as the settings allow."""
        assert self.best is not None
        p = self.coordinates.n_positional
        moves = self.coordinates.displacements(self.best.q) @ step[:p]
        farthest = max(
            float(np.linalg.norm(moves, axis=1).max()) / _LONGEST_STEP,
            float(np.abs(self.coordinates.strain(step)).max()) / _LARGEST_STRAIN,
        )
        return 1.0 / max(farthest, 1e-12)

    def ahead(self) -> Sites | None:
        """Where the walk would go next, not evaluated: nearer to rest, as far as one may trust a step. None for a failure."""
        if self.status != Status.OK or self.best is None:
            return None
        if self._converged():
            return self.coordinates.sites(self.best.q)
        self._choose()
        return self.coordinates.sites(self.q)

    def result(self) -> Relaxed:
        """What was found, or why nothing was."""
        if self.status != Status.OK or self.best is None:
            return Relaxed(self.status, self.evaluations, energy_initial=self.energy_initial)
        best = self.best
        sites = self.coordinates.sites(best.q)
        return Relaxed(
            Status.OK,
            self.evaluations,
            sites,
            Coordinates.of(sites).crystal(np.zeros(len(self.coordinates))),
            best.energy / self.n_atoms,
            self.energy_initial,
            best.force_max,
            best.stress_max,
            self._converged(),
        )


def updated_hessian(hessian: np.ndarray, step: np.ndarray, change: np.ndarray) -> np.ndarray:
    """The BFGS update by a step and the change of the gradient along it, damped so that it stays positive.

    M. J. D. Powell's damping: where the curvature met is below a fifth of the one expected, it is mixed with it.
    """
    expected = hessian @ step
    curvature = float(step @ expected)
    if curvature <= 1e-12:
        return hessian
    met = float(step @ change)
    if met < 0.2 * curvature:
        mix = 0.8 * curvature / (curvature - met)
        change = mix * change + (1 - mix) * expected
        met = float(step @ change)
    return hessian + np.outer(change, change) / met - np.outer(expected, expected) / curvature
