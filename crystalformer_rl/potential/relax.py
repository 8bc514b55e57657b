"""Relaxation of many crystals at once, each along the coordinates that its symmetry leaves free.

Each crystal walks by itself: a quasi-Newton walk (BFGS) inside a trust region,
from a model Hessian of springs between neighbours. The potential sees all walkers'
next geometries in one batch; a walker that is done makes room for one that waits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from crystalformer_rl.artifacts import SITE_FRAC_COORDS
from crystalformer_rl.crystal.encode import EncodeError, symmetrize
from crystalformer_rl.crystal.lattice import lattice_matrix, lattice_parameters
from crystalformer_rl.crystal.structure import Crystal, crystal_columns
from crystalformer_rl.crystal.tokens import Sites, sort_sites, token_columns
from crystalformer_rl.potential.coordinates import Coordinates
from crystalformer_rl.potential.graph import crystal_graph
from crystalformer_rl.potential.protocol import EV_PER_A3_IN_GPA, Evaluation, Outcome, Potential, screen

_ENERGY_NOISE = 2e-6
"""eV/atom; single-precision potentials cannot tell energies apart below this."""

_MOST_ATOMS_TO_SYMMETRIZE = 2000
"""In the cell given, which may be a large supercell of a small primitive cell."""


@dataclass(frozen=True)
class Settings:
    """When a relaxation is done and how far it may step.

    fmax: eV/Å, largest force on an atom; smax: GPa, largest stress component; max_evaluations: of the
    potential, the first included; max_displacement: Å, of any atom in one step; max_strain: largest
    component in one step.
    """

    fmax: float = 0.05
    smax: float = 0.5
    max_evaluations: int = 25
    max_displacement: float = 0.2
    max_strain: float = 0.04


@dataclass(frozen=True)
class Relaxed:
    """The best geometry that a walk met, and what remains there.

    sites: tokens; crystal: primitive cell; energies in eV/atom; force_max eV/Å; stress_max GPa.
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


@dataclass
class _Point:
    """One evaluated geometry: coordinates, total energy (eV), gradient, residual force and stress."""

    q: np.ndarray
    energy: float
    gradient: np.ndarray
    force_max: float
    stress_max: float


@dataclass
class _Walker:
    """The relaxation of one crystal, advanced from outside: `trial` out, `advance(outcome)` in."""

    coordinates: Coordinates
    settings: Settings
    q: np.ndarray = field(init=False)
    best: _Point | None = None
    hessian: np.ndarray = field(init=False)
    trust: float = 1.0
    evaluations: int = 0
    failures: int = 0
    energy_initial: float | None = None
    status: str = "ok"
    done: bool = False

    def __post_init__(self) -> None:
        self.q = np.zeros(len(self.coordinates))
        self.initial_volume = self.trial().volume

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
            self._step()

    def _point(self, evaluation: Evaluation) -> _Point:
        assert evaluation.forces is not None
        assert evaluation.stress is not None
        n = len(self.coordinates.numbers)
        return _Point(
            self.q,
            evaluation.energy * n,
            self.coordinates.gradient(self.q, evaluation.forces, evaluation.stress),
            float(np.linalg.norm(evaluation.forces, axis=1).max()),
            float(np.abs(evaluation.stress).max() * EV_PER_A3_IN_GPA),
        )

    def _fail(self, status: str) -> None:
        self.failures += 1
        if self.best is None:
            self.status, self.done = status, True
        elif self.failures >= 3:
            self.done = True
        else:
            self.trust *= 0.25

    def _learn(self, point: _Point) -> None:
        old, noise = self.best, _ENERGY_NOISE * len(self.coordinates.numbers)
        if old is None:
            self.energy_initial = point.energy / len(self.coordinates.numbers)
            self.hessian = model_hessian(self.coordinates)
            self.best = point
        else:
            step, change = point.q - old.q, point.gradient - old.gradient
            expected = old.gradient @ step + 0.5 * step @ self.hessian @ step
            self.hessian = updated_hessian(self.hessian, step, change)
            if point.energy > old.energy + noise:
                self.trust *= 0.4
            else:
                self.best = point
                good = expected < 0 and (point.energy - old.energy) / expected > 0.5
                self.trust = min(1.0, self.trust * (2.0 if good else 1.0))
        self.done = self._converged() or self._left_bounds() or self.trust < 1e-3

    def _converged(self) -> bool:
        assert self.best is not None
        return self.best.force_max <= self.settings.fmax and self.best.stress_max <= self.settings.smax

    def _left_bounds(self) -> bool:
        assert self.best is not None
        ratio = self.coordinates.crystal(self.best.q).volume / self.initial_volume
        if 0.5 <= ratio <= 2.0:
            return False
        self.status = "exploded" if ratio > 2.0 else "collapsed"
        return True

    def _step(self) -> None:
        assert self.best is not None
        values, vectors = np.linalg.eigh(self.hessian)
        scale = np.maximum(np.abs(values), 1e-3 * np.abs(values).max())
        step = -vectors @ ((vectors.T @ self.best.gradient) / scale)
        self.q = self.best.q + step * min(1.0, self.trust * self._reach(step))

    def _reach(self, step: np.ndarray) -> float:
        """The multiple of `step` that goes as far as the settings allow."""
        assert self.best is not None
        p = self.coordinates.n_positional
        moves = self.coordinates.displacements(self.best.q) @ step[:p]
        farthest = max(
            float(np.linalg.norm(moves, axis=1).max()) / self.settings.max_displacement,
            float(np.abs(self.coordinates.strain(step)).max()) / self.settings.max_strain,
        )
        return 1.0 / max(farthest, 1e-12)

    def result(self) -> Relaxed:
        if self.status != "ok" or self.best is None:
            return Relaxed(self.status, self.evaluations, energy_initial=self.energy_initial)
        best = self.best
        sites = self.coordinates.sites(best.q)
        return Relaxed(
            "ok",
            self.evaluations,
            sites,
            Coordinates.of(sites).crystal(np.zeros(len(self.coordinates))),
            best.energy / len(self.coordinates.numbers),
            self.energy_initial,
            best.force_max,
            best.stress_max,
            self._converged(),
        )


BOND_STIFFNESS = 1.6
"""eV/Å², of a bond of 2.5 Å in the model Hessian."""
BOND_EXPONENT = 5.0
"""How fast the stiffness of a bond falls with its length."""
ATOM_STIFFNESS = 0.5
"""eV/Å², holds each atom where it is, so that no direction is without curvature."""
CELL_STIFFNESS = 0.02
"""eV/Å³, the same for the strain of the cell."""


def model_hessian(coordinates: Coordinates) -> np.ndarray:
    """A guess of d²E/dq² (eV): springs along all bonds shorter than 6 Å, as stiff as k = 1.6 eV/Å² (2.5 Å / r)⁵.

    Model Hessians of springs are an old and good start for quasi-Newton steps (D. Packwood et al., J. Chem. Phys.
    144, 164109, 2016). Power and constants here were fitted to Hessians of CHGNet along the free
    coordinates of 127 crystals near their minimum: half of the curvatures lie within 0.5 to 1.6 times the guess,
    nine tenths within 0.05 to 3 times.
    """
    origin = np.zeros(len(coordinates))
    crystal = coordinates.crystal(origin)
    graph = crystal_graph(crystal, 6.0)
    stiffness = BOND_STIFFNESS * (2.5 / np.maximum(graph.lengths, 1.0)) ** BOND_EXPONENT
    moves = coordinates.displacements(origin)
    strained = np.einsum("bi,kij->bjk", graph.vectors, coordinates.strains)
    changes = np.concatenate([moves[graph.first] - moves[graph.second], strained], axis=2)
    along = np.einsum("bi,biq->bq", graph.vectors / graph.lengths[:, None], changes)
    diagonal = np.full(len(coordinates), ATOM_STIFFNESS)
    diagonal[coordinates.n_positional :] = CELL_STIFFNESS * crystal.volume
    return along.T @ (stiffness[:, None] * along) + np.diag(diagonal)


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


def sites_of(crystal: Crystal, symprec: float = 0.01) -> Sites:
    """The symmetry's sites of a crystal; where no symmetry is found, every atom is its own site in P1."""
    try:
        return symmetrize(crystal, symprec)
    except EncodeError:
        ones, coords = np.ones(len(crystal), int), np.asarray(crystal.frac_coords) % 1.0
        return sort_sites(1, ones, crystal.atomic_numbers, coords, lattice_parameters(crystal.lattice))


def _walker(item: Sites | Crystal | str, settings: Settings, symprec: float) -> _Walker | Relaxed:
    """The walker of a crystal, or at once the result of one that cannot be relaxed."""
    if isinstance(item, str):
        return Relaxed(item, 0)
    if isinstance(item, Crystal):
        status = screen(item, most_atoms=_MOST_ATOMS_TO_SYMMETRIZE)
        if status != "ok":
            return Relaxed(status, 0)
        item = sites_of(item, symprec)
    if len(item) == 0:
        return Relaxed("empty_crystal", 0)
    lattice = lattice_matrix(item.lattice_parameters)
    if not np.all(np.isfinite(lattice)) or np.linalg.det(lattice) <= 0:
        return Relaxed("bad_lattice", 0)
    if not np.all(np.isfinite(item.frac_coords)):
        return Relaxed("bad_coordinates", 0)
    return _Walker(Coordinates.of(item), settings)


def relax(
    potential: Potential,
    crystals: Iterable[Sites | Crystal | str],
    settings: Settings | None = None,
    *,
    batch_size: int = 16,
    symprec: float = 0.01,
    advance: Callable[[int], object] | None = None,
) -> list[Relaxed]:
    """Relax every crystal; one result each, in order.

    crystals: sites (used as they are), crystals (their symmetry is searched), or a status that stands for a
    crystal which failed before and is handed on. batch_size: walkers at a time. `advance` is called with 1 whenever
    a crystal is done.
    """
    settings = settings or Settings()
    results: dict[int, Relaxed] = {}
    walkers: dict[int, _Walker] = {}

    def finish(index: int, result: Relaxed) -> None:
        results[index] = result
        if advance is not None:
            advance(1)

    waiting = enumerate(crystals)
    while True:
        for index, item in waiting:
            walker = _walker(item, settings, symprec)
            if isinstance(walker, Relaxed):
                finish(index, walker)
            else:
                walkers[index] = walker
            if len(walkers) >= batch_size:
                break
        if not walkers:
            return [results[i] for i in range(len(results))]
        outcomes = potential.evaluate([w.trial() for w in walkers.values()], forces=True)
        for (index, walker), outcome in zip(list(walkers.items()), outcomes, strict=True):
            walker.advance(outcome)
            if walker.done:
                finish(index, walkers.pop(index).result())


def relaxed_columns(results: Sequence[Relaxed]) -> dict[str, list[Any]]:
    """The columns of `artifacts.RELAXED` except `id`; a failure has a status and nulls."""
    columns = crystal_columns([r.crystal for r in results]) | token_columns(
        [r.sites for r in results], coords_name=SITE_FRAC_COORDS.name
    )
    names = ("energy", "energy_initial", "force_max", "stress_max", "evaluations", "converged", "status")
    return columns | {name: [getattr(r, name) for r in results] for name in names}
