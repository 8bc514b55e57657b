"""Neighbour graphs of a batch of crystals, as flat arrays.

Message-passing potentials see a crystal as atoms, bonds (pairs within a cutoff,
periodic images apart) and angles (ordered pairs of short bonds at one atom). Here
all of them are index arrays over the whole batch, built with array operations:
no object for each edge, which is what makes the usual converters slow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from crystalformer_rl.crystal.distances import reduction
from crystalformer_rl.crystal.structure import SHORTEST_DISTANCE, Crystal
from crystalformer_rl.potential.protocol import Outcome, screen
from crystalformer_rl.tables.status import Status

MOST_ANGLES = 1_000_000
"""Angles of one crystal; beyond, its atoms are piled up and the arrays would fill the memory."""

MOST_IMAGES = 20_000
"""Periodic images that a neighbour search may have to visit; more need only cells with absurd angles, which are reduced first."""

MOST_CUBES = 10_000_000
"""Cubes, as wide as the cutoff, that the space around the atoms is sorted into; some bytes each, and more in absurdly large cells."""

Result = TypeVar("Result")


class GraphError(Exception):
    """A crystal has no usable graph; `status` is one of `tables.STATUSES`."""

    def __init__(self, status: str) -> None:
        super().__init__(status)
        self.status = status


@dataclass(frozen=True)
class CrystalGraph:
    """Bonds and angles of one crystal.

    Each bond is listed once, short ones (below the angle cutoff) before long ones. It runs from atom `first` to
    the periodic image `image` of atom `second`; directed bond `first` → `second` has sign +1, its reverse -1.

    positions: (N, 3) Å, inside the cell or, of a very oblique one, its reduced cell; first, second: (U,) atoms; image: (U, 3) whole lattice vectors;
    vectors: (U, 3) Å, position of `first` minus that of the image of `second`; lengths: (U,) Å;
    n_short: number of short bonds; angle_center: (A,) atom; angle_bonds: (A, 2) bonds; angle_signs:
    (A, 2) +1 where the centre is the bond's `first`, else -1.
    """

    positions: np.ndarray
    first: np.ndarray
    second: np.ndarray
    image: np.ndarray
    vectors: np.ndarray
    lengths: np.ndarray
    n_short: int
    angle_center: np.ndarray
    angle_bonds: np.ndarray
    angle_signs: np.ndarray

    @property
    def rows(self) -> int:
        """Directed bonds and angles: what time and memory grow with."""
        return 2 * len(self.first) + len(self.angle_center)


def crystal_graph(crystal: Crystal, cutoff: float, angle_cutoff: float = 0.0, *, neighborless: bool = False) -> CrystalGraph:
    """The graph of one crystal, bonds shorter than `cutoff` and angles of bonds shorter than `angle_cutoff` (Å).

    A pair and its reverse are kept or left together: rounding at the cutoff cannot split them. Raises GraphError
    for overlapping atoms, for isolated ones unless `neighborless`, and for crystals whose graph would be enormous.
    """
    from pymatgen.optimization.neighbors import find_points_in_spheres

    given = np.ascontiguousarray(crystal.lattice, float)
    change = reduction(given) if _images_to_visit(given, cutoff) > MOST_IMAGES else np.eye(3)
    lattice = np.ascontiguousarray(change @ given)
    if _images_to_visit(lattice, cutoff) > MOST_IMAGES:
        raise GraphError(Status.BAD_LATTICE)
    positions = np.ascontiguousarray((np.asarray(crystal.frac_coords, float) @ np.linalg.inv(change) % 1.0) @ lattice)
    if _cubes(positions, cutoff) > MOST_CUBES:
        raise GraphError(Status.OUT_OF_MEMORY)
    first, second, image, _ = find_points_in_spheres(
        positions, positions, r=cutoff + 1e-6, pbc=np.ones(3, np.int64), lattice=lattice, tol=1e-8
    )
    forward = (first < second) | ((first == second) & _lexicographically_positive(image))
    first, second, image = first[forward], second[forward], image[forward]
    vectors = positions[first] - positions[second] - image @ lattice
    lengths = np.linalg.norm(vectors, axis=1)
    order = np.lexsort((image[:, 2], image[:, 1], image[:, 0], second, first, lengths >= angle_cutoff))
    order = order[lengths[order] < cutoff]
    first, second, image, vectors, lengths = (a[order] for a in (first, second, image, vectors, lengths))
    n_short = int(np.count_nonzero(lengths < angle_cutoff))
    _check(first, second, lengths, n_short, len(crystal), neighborless)
    return CrystalGraph(
        positions, first, second, image @ change.astype(int), vectors, lengths, n_short,
        *_angles(first[:n_short], second[:n_short], len(crystal)),
    )  # fmt: skip


def _images_to_visit(lattice: np.ndarray, cutoff: float) -> float:
    volume = abs(np.linalg.det(lattice))
    heights = volume / np.linalg.norm(np.cross(np.roll(lattice, -1, 0), np.roll(lattice, -2, 0)), axis=1)
    return float(np.prod(2 * np.ceil(cutoff / heights) + 1))


def _cubes(positions: np.ndarray, cutoff: float) -> float:
    return float(np.prod(np.ptp(positions, axis=0) / cutoff + 3))


def _check(
    first: np.ndarray, second: np.ndarray, lengths: np.ndarray, n_short: int, n_atoms: int, neighborless: bool
) -> None:
    if len(lengths) and lengths.min() < SHORTEST_DISTANCE:
        raise GraphError(Status.OVERLAPPING_ATOMS)
    neighbors = np.bincount(first, minlength=n_atoms) + np.bincount(second, minlength=n_atoms)
    if neighbors.min() == 0 and not neighborless:
        raise GraphError(Status.ISOLATED_ATOMS)
    short = np.bincount(first[:n_short], minlength=n_atoms) + np.bincount(second[:n_short], minlength=n_atoms)
    if int((short * (short - 1)).sum()) > MOST_ANGLES:
        raise GraphError(Status.OVERLAPPING_ATOMS)


def _lexicographically_positive(image: np.ndarray) -> np.ndarray:
    x, y, z = image.T
    return (x > 0) | ((x == 0) & ((y > 0) | ((y == 0) & (z > 0))))


def _angles(first: np.ndarray, second: np.ndarray, n_atoms: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ordered pairs of different directed bonds that leave the same atom."""
    n = len(first)
    center = np.concatenate([first, second])
    bond = np.tile(np.arange(n), 2)
    sign = np.repeat([1, -1], n)
    order = np.argsort(center, kind="stable")
    center, bond, sign = center[order], bond[order], sign[order]
    counts = np.bincount(center, minlength=n_atoms)
    starts = np.cumsum(counts) - counts
    partners = counts[center]
    left = np.repeat(np.arange(2 * n), partners)
    right = np.arange(len(left)) - np.repeat(np.cumsum(partners) - partners, partners) + np.repeat(starts[center], partners)
    different = left != right
    left, right = left[different], right[different]
    return center[left], np.stack([bond[left], bond[right]], 1), np.stack([sign[left], sign[right]], 1)


def screened_graphs(
    crystals: Sequence[Crystal],
    build: Callable[[Crystal], CrystalGraph],
    *,
    supported: frozenset[int] | None = None,
    most_atoms: int,
) -> tuple[list[Outcome], dict[int, CrystalGraph]]:
    """The graph of each crystal that can be evaluated, by index, and a list with the status of each."""
    outcomes: list[Outcome] = []
    graphs: dict[int, CrystalGraph] = {}
    for i, crystal in enumerate(crystals):
        status = screen(crystal, supported=supported, most_atoms=most_atoms)
        if status == Status.OK:
            try:
                graphs[i] = build(crystal)
            except GraphError as error:
                status = error.status
            except MemoryError:
                status = Status.OUT_OF_MEMORY
        outcomes.append(status)
    return outcomes, graphs


@dataclass(frozen=True)
class BatchGraph:
    """Graphs of B crystals laid end to end, with all short bonds before all long ones.

    numbers: (N,) atomic numbers; owner: (N,) crystal of each atom; counts: (B,) atoms; volumes: (B,) Å³;
    bond_owner: (U,) crystal of each bond; the rest as in `CrystalGraph`, over the batch's atoms and bonds.
    """

    numbers: np.ndarray
    owner: np.ndarray
    counts: np.ndarray
    volumes: np.ndarray
    first: np.ndarray
    second: np.ndarray
    vectors: np.ndarray
    bond_owner: np.ndarray
    n_short: int
    angle_center: np.ndarray
    angle_bonds: np.ndarray
    angle_signs: np.ndarray


def join(crystals: Sequence[Crystal], graphs: Sequence[CrystalGraph]) -> BatchGraph:
    """Lay the graphs of a batch end to end."""
    counts = np.array([len(c) for c in crystals])
    atoms = (np.cumsum(counts) - counts).tolist()
    short = np.array([g.n_short for g in graphs])
    bonds = (np.cumsum(short) - short).tolist()
    long = np.array([len(g.first) for g in graphs]) - short
    index = np.arange(len(crystals))

    def short_then_long(arrays: Sequence[np.ndarray]) -> np.ndarray:
        pairs = list(zip(arrays, short.tolist(), strict=True))
        return np.concatenate([*(a[:k] for a, k in pairs), *(a[k:] for a, k in pairs)])

    return BatchGraph(
        numbers=np.concatenate([np.asarray(c.atomic_numbers, np.int64) for c in crystals]),
        owner=np.repeat(index, counts),
        counts=counts,
        volumes=np.array([c.volume for c in crystals]),
        first=short_then_long([g.first + k for g, k in zip(graphs, atoms, strict=True)]),
        second=short_then_long([g.second + k for g, k in zip(graphs, atoms, strict=True)]),
        vectors=short_then_long([g.vectors for g in graphs]),
        bond_owner=np.concatenate([np.repeat(index, short), np.repeat(index, long)]),
        n_short=int(short.sum()),
        angle_center=np.concatenate([g.angle_center + k for g, k in zip(graphs, atoms, strict=True)]),
        angle_bonds=np.concatenate([g.angle_bonds + k for g, k in zip(graphs, bonds, strict=True)]),
        angle_signs=np.concatenate([g.angle_signs for g in graphs]),
    )


def forces_and_stresses(batch: BatchGraph, gradient: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Forces (N, 3) and stresses (B, 3, 3) from the gradient (U, 3) of the energy by the bond vectors.

    A bond vector is r_first - r_second - image, so the force on its first atom is minus the gradient and on
    its second plus; under a strain ε every vector v becomes v(1 + ε), so dE/dε = Σ v ⊗ ∂E/∂v.
    """
    n, b = len(batch.numbers), len(batch.counts)
    forces = np.stack([np.bincount(batch.second, g, n) - np.bincount(batch.first, g, n) for g in gradient.T], axis=1)
    outer = (batch.vectors[:, :, None] * gradient[:, None, :]).reshape(-1, 9)
    virial = np.stack([np.bincount(batch.bond_owner, column, b) for column in outer.T], axis=1).reshape(-1, 3, 3)
    return forces, 0.5 * (virial + virial.transpose(0, 2, 1)) / batch.volumes[:, None, None]


def run_packs(
    graphs: dict[int, CrystalGraph], rows: int, run: Callable[[list[int]], Sequence[Result]]
) -> dict[int, Result | str]:
    """What `run` says of each crystal, given in `packs`; one that exhausts the memory is halved and tried again.

    A crystal that exhausts it alone is `out_of_memory`.
    """
    outcomes: dict[int, Result | str] = {}
    waiting = packs(graphs, rows)
    while waiting:
        part = waiting.pop(0)
        try:
            outcomes.update(zip(part, run(part), strict=True))
        except (MemoryError, RuntimeError) as error:
            if not _memory_exhausted(error):
                raise
            if len(part) == 1:
                outcomes[part[0]] = Status.OUT_OF_MEMORY
            else:
                waiting[:0] = [part[: len(part) // 2], part[len(part) // 2 :]]
    return outcomes


def _memory_exhausted(error: BaseException) -> bool:
    """Torch raises an error of its own on a GPU and a plain RuntimeError on a CPU."""
    words = ("out of memory", "not enough memory", "can't allocate memory")
    return isinstance(error, MemoryError) or any(word in str(error).lower() for word in words)


def packs(graphs: dict[int, CrystalGraph], rows: int) -> list[list[int]]:
    """The keys of `graphs` in groups, in order, whose directed bonds and angles together stay below `rows`."""
    groups: list[list[int]] = []
    room = 0
    for i, graph in graphs.items():
        if not groups or graph.rows > room:
            groups.append([])
            room = rows
        groups[-1].append(i)
        room -= graph.rows
    return groups
