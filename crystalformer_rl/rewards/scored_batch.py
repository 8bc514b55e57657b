"""What a reward may look at: the figures of a batch of crystals, and which computation each belongs to."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from crystalformer_rl.crystal.tokens import Sites
from crystalformer_rl.hull.stability import below_hull
from crystalformer_rl.tables.figure_columns import FIGURES
from crystalformer_rl.tables.status import OK

ENERGY, FORCE, PROPERTIES, NOVELTY, STABILITY = "energy", "force", "properties", "novelty", "stability"
NEW_FORMULA = "new_formula"
GROUPS = (ENERGY, FORCE, PROPERTIES, NOVELTY, STABILITY)
"""What can be computed, each group of figures at once."""

_ENERGIES = ("energy", "formation_energy", "e_above_hull")
"""Figures that are lifted where a crystal lies below the hull."""

GROUP_OF = {
    column.name: ENERGY if column.name in (*_ENERGIES, "hull_support") else FORCE if column.name == "force" else PROPERTIES
    for column in FIGURES
} | {"novelty": NOVELTY, NEW_FORMULA: NOVELTY, "p_stable": STABILITY}

FROM_CRYSTAL: dict[str, Callable[[Sites | None, np.ndarray], float]] = {
    "n_elements": lambda sites, numbers: float(len(np.unique(numbers))),
    "n_atoms": lambda sites, numbers: float(len(numbers)),
    "space_group": lambda sites, numbers: np.nan if sites is None else float(sites.space_group),
}
"""Figures that need no computation: elements, atoms in the primitive cell, number of the space group."""


@dataclass(frozen=True)
class Batch:
    """N crystals with what is known of them.

    atomic_numbers: of each crystal's primitive cell, None where there is no crystal; statuses: N names; figures: name →
    (N,), NaN where unknown, `<name>_std` beside those that are uncertain, in the units of `tables.FIGURES`; `novelty`
    is 1 where the pretraining set has no crystal of this kind, else 0, and `new_formula` 1 where it has none of this formula. sites: space group, letters
    and elements, None where unknown; reasons: group of figures → N statuses that
    say why its figures are missing, `ok` where they are not.
    """

    atomic_numbers: Sequence[np.ndarray | None]
    statuses: Sequence[str]
    figures: Mapping[str, np.ndarray]
    sites: Sequence[Sites | None] = ()
    reasons: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n = len(self.statuses)
        if not self.sites:
            object.__setattr__(self, "sites", (None,) * n)
        lengths = {"atomic_numbers": len(self.atomic_numbers), "sites": len(self.sites)}
        lengths |= {name: len(values) for name, values in self.figures.items()}
        for name, length in lengths.items():
            if length != n:
                raise ValueError(f"{n} statuses, but {length} values of {name}")

    def __len__(self) -> int:
        return len(self.statuses)

    @property
    def ok(self) -> np.ndarray:
        """(N,) bool: there is a crystal, and no stage failed for it."""
        return np.array([s == OK and z is not None for s, z in zip(self.statuses, self.atomic_numbers, strict=True)], bool)

    def figure(self, name: str) -> np.ndarray:
        """(N,) values of a figure; NaN where unknown, and everywhere where it was not computed."""
        if name in self.figures:
            return np.asarray(self.figures[name], float)
        if name not in FROM_CRYSTAL:
            return np.full(len(self), np.nan)
        rule = FROM_CRYSTAL[name]
        pairs = zip(self.sites, self.atomic_numbers, strict=True)
        return np.array([np.nan if numbers is None else rule(sites, numbers) for sites, numbers in pairs], float)

    def take(self, rows: np.ndarray) -> Batch:
        """The crystals of the given places."""
        chosen = [int(i) for i in rows]
        return Batch(
            [self.atomic_numbers[i] for i in chosen],
            [self.statuses[i] for i in chosen],
            {name: np.asarray(values)[chosen] for name, values in self.figures.items()},
            [self.sites[i] for i in chosen],
            {group: [statuses[i] for i in chosen] for group, statuses in self.reasons.items()},
        )

    def sealed(self) -> Batch:
        """The same for one term: arrays that refuse to be written, in containers of its own, so that it changes no other's."""
        return Batch(
            [None if numbers is None else _sealed(numbers) for numbers in self.atomic_numbers],
            list(self.statuses),
            {name: _sealed(values) for name, values in self.figures.items()},
            [None if sites is None else _sealed_sites(sites) for sites in self.sites],
            {group: list(statuses) for group, statuses in self.reasons.items()},
        )

    def on_the_hull(self) -> Batch:
        """The same with crystals below the hull lifted to it: depth, where a hull may be incomplete, earns nothing."""
        lift = np.nan_to_num(below_hull(self.figure("e_above_hull")), nan=0.0)
        lifted = {name: self.figure(name) + lift for name in _ENERGIES if name in self.figures}
        if "e_above_hull" in lifted:  # exactly, free of rounding
            lifted["e_above_hull"] = np.maximum(self.figure("e_above_hull"), 0.0)
        return dataclasses.replace(self, figures={**self.figures, **lifted})


def _sealed(values: np.ndarray) -> np.ndarray:
    view = np.asarray(values).view()
    view.flags.writeable = False
    return view


def _sealed_sites(sites: Sites) -> Sites:
    arrays = (sites.wyckoff, sites.elements, sites.frac_coords, sites.lattice_parameters)
    return Sites(sites.space_group, *map(_sealed, arrays))


def known_figures() -> tuple[str, ...]:
    """Names of all figures, those of the crystal itself last."""
    return (*GROUP_OF, *FROM_CRYSTAL)
