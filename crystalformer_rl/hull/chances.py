"""The columns of probability beside distances to the hull."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from crystalformer_rl.crystal.lattice import free_lattice_parameters
from crystalformer_rl.crystal.wyckoff import wyckoff_table
from crystalformer_rl.hull.convex_hull import Hull
from crystalformer_rl.hull.probability import Calibrations, normal_probability
from crystalformer_rl.hull.stability import STABLE_BELOW
from crystalformer_rl.reference.bias import Bias
from crystalformer_rl.reference.competing import EnergyFrom
from crystalformer_rl.reference.energies import ReferenceEnergies
from crystalformer_rl.reference.foreign import for_potential
from crystalformer_rl.reference.identity import PotentialIdentity

LEARNED, NORMAL, NONE = "learned", "normal", "none"
"""How probabilities come about: as they were learned of this potential, from its bias alone, or not at all."""


@dataclass(frozen=True)
class Chances:
    """What makes probabilities of distances.

    dft: the hull of the reference's DFT energies alone; calibrations: of the very potential; both None where nothing was
    learned of it. stable_below: eV/atom.
    """

    dft: Hull | None = None
    calibrations: Calibrations | None = None
    stable_below: float = STABLE_BELOW

    @classmethod
    def of(
        cls,
        energies: ReferenceEnergies,
        identity: PotentialIdentity | None,
        stability: str | Path | None,
        stable_below: float = STABLE_BELOW,
    ) -> Chances:
        """Those of a potential on a reference. stability: a stability file, or None. Raises InputError for a damaged one."""
        if stability is None or identity is None or energies.bias is None:
            return cls(stable_below=stable_below)
        calibrations = Calibrations.read(stability)
        if calibrations.digest != identity.digest:
            return cls(stable_below=stable_below)
        # DFT's energies as they are: what the potential's lack is added to the crystal's, not to the hull's
        on_scale = for_potential(energies, identity, Bias(energies.bias.scale))
        return cls(Hull.of(on_scale), calibrations, stable_below)

    def columns(self, hull: pa.Table, relaxed: pa.Table) -> dict[str, Any]:
        """e_above_hull_expected, p_stable, p_on_hull and p_stable_initial of the rows of a HULL table.

        relaxed: the table that it was made of, whose tokens and expected errors are used where it has them.
        """
        figures = self._figures(hull, relaxed)
        height, std = _floats(hull, "e_above_hull"), figures["std"]
        p_stable = normal_probability(height, std, self.stable_below)
        p_on_hull = normal_probability(height, std, 0.0)
        p_initial = np.full(len(height), np.nan)
        expected = figures["height"]
        if self.calibrations is not None:
            learned = np.isfinite(expected) & np.isfinite(figures["positional"])
            p_stable = np.where(learned, self.calibrations.at_rest(figures, self.stable_below), p_stable)
            p_on_hull = np.where(learned, self.calibrations.at_rest(figures, 0.0), p_on_hull)
            p_initial = self.sampled(
                _floats(hull, "e_above_hull_initial"), figures["support"], relaxed.column("atomic_numbers").to_pylist(),
                _column(relaxed, "space_group"), _column(relaxed, "wyckoff"),
            )  # fmt: skip
        return {
            "e_above_hull_expected": _nullable(expected),
            "p_stable": _nullable(p_stable),
            "p_on_hull": _nullable(p_on_hull),
            "p_stable_initial": _nullable(p_initial),
        }

    def sampled(
        self,
        height: np.ndarray,
        support: np.ndarray,
        numbers: Sequence[Sequence[int] | np.ndarray | None],
        space_groups: Sequence[int | None],
        letters: Sequence[Sequence[int] | np.ndarray | None],
    ) -> np.ndarray:
        """(N,) p_stable of crystals as sampled: height (N,) eV/atom above the hull, unrelaxed; NaN where unknown."""
        if self.calibrations is None:
            return np.full(len(height), np.nan)
        figures = {"height": height, "support": support, **freedom(numbers, space_groups, letters)}
        return self.calibrations.sampled.probability(figures, self.stable_below)

    def origin(self, hull: pa.Table) -> str:
        """How the probabilities of a HULL table came about."""
        if hull.column("p_stable").null_count == hull.num_rows:
            return NONE
        return LEARNED if hull.column("e_above_hull_expected").null_count < hull.num_rows else NORMAL

    def judged(self, hull: pa.Table, relaxed: pa.Table, judge: pa.Table, identity: PotentialIdentity) -> dict[str, Any]:
        """p_stable_judged, p_on_hull_judged and disagreement (eV/atom) of the rows of a HULL table.

        judge: the HULL table of the same crystals by a second potential, of `identity`. Where nothing was learned of the pair, the
        two distances count alike, and their difference as an error of each.
        """
        height, other = _floats(hull, "e_above_hull"), _floats(judge, "e_above_hull")
        figures = self._figures(hull, relaxed)
        spread = np.hypot(
            np.sqrt((_floats(hull, "e_above_hull_std") ** 2 + _floats(judge, "e_above_hull_std") ** 2) / 2),
            (other - height) / 2,
        )
        found = {
            name: normal_probability((height + other) / 2, spread, threshold)
            for name, threshold in (("p_stable_judged", self.stable_below), ("p_on_hull_judged", 0.0))
        }
        if self.calibrations is not None and self.calibrations.judge_digest == identity.digest:
            figures = figures | {"disagreement": other - figures["height"]}
            learned = np.isfinite(figures["disagreement"]) & np.isfinite(figures["positional"])
            for name, threshold in (("p_stable_judged", self.stable_below), ("p_on_hull_judged", 0.0)):
                found[name] = np.where(learned, self.calibrations.at_rest(figures, threshold, judged=True), found[name])
        return {name: _nullable(values) for name, values in found.items()} | {
            "judge_disagreement": _nullable(other - height)
        }

    def _figures(self, hull: pa.Table, relaxed: pa.Table) -> dict[str, np.ndarray]:
        """What `hull.probability` asks for, NaN where unknown."""
        numbers = relaxed.column("atomic_numbers").to_pylist()
        errors = _floats(relaxed, "energy_error")
        formation = _floats(hull, "formation_energy")
        support = _floats(hull, "hull_support")
        height = np.array([self._expected(z, e) for z, e in zip(numbers, formation + errors, strict=True)], float)
        known = np.array([_has_relaxed_entry(text) for text in _column(hull, "energy_from")], float)
        return {
            "height": height,
            "known": known,
            "offset": np.where(known > 0, _floats(hull, "e_above_hull") - height, 0.0),
            "error": errors,
            "applicability": _floats(relaxed, "energy_error_applicability"),
            "std": _floats(hull, "e_above_hull_std"),
            "support": support,
            **freedom(numbers, _column(relaxed, "space_group"), _column(relaxed, "wyckoff")),
        }

    def _expected(self, numbers: Sequence[int] | None, formation: float) -> float:
        """Above the hull of DFT's energies; NaN where there is none."""
        if self.dft is None or not numbers or not math.isfinite(formation):
            return math.nan
        return self.dft.distance(numbers, formation).e_above_hull


def _has_relaxed_entry(energy_from: str | None) -> bool:
    """Whether one phase competes, of the crystal's own composition therefore, with an energy that the potential relaxed."""
    return list(json.loads(energy_from or "{}").values()) == [EnergyFrom.RELAXED.value]


def freedom(
    numbers: Sequence[Sequence[int] | np.ndarray | None],
    space_groups: Sequence[int | None],
    letters: Sequence[Sequence[int] | np.ndarray | None],
) -> dict[str, np.ndarray]:
    """What symmetry leaves free in N crystals, and what they are made of, (N,) each: positional, strains, atoms, elements.

    numbers: of the atoms of primitive cells; letters: Wyckoff letters of the sites. NaN where unknown.
    """
    table = wyckoff_table()
    known = [
        (float(table.independent[g, np.array(w, int)].sum()), float(free_lattice_parameters(g).sum()))
        if g and w is not None and len(w)
        else (math.nan, math.nan)
        for g, w in zip(space_groups, letters, strict=True)
    ]
    return {
        "positional": np.array([p for p, _ in known], float),
        "strains": np.array([s for _, s in known], float),
        "atoms": np.array([len(z) if z is not None else math.nan for z in numbers], float),
        "elements": np.array([len(set(np.asarray(z).tolist())) if z is not None else math.nan for z in numbers], float),
    }


def _floats(table: pa.Table, name: str) -> np.ndarray:
    """(N,) of a column, NaN where it is null or not there."""
    if name not in table.column_names:
        return np.full(table.num_rows, np.nan)
    return table.column(name).cast(pa.float64()).to_numpy(zero_copy_only=False).astype(float)


def _column(table: pa.Table, name: str) -> list[Any]:
    return table.column(name).to_pylist() if name in table.column_names else [None] * table.num_rows


def _nullable(values: np.ndarray) -> pa.Array:
    return pa.array(values, mask=~np.isfinite(values))
