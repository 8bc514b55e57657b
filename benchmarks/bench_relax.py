"""Relaxation in symmetry coordinates against ASE's FIRE: work, time and energies.

Real crystals with their free coordinates and lattices pushed off the minimum are relaxed twice with the same CHGNet:
here in batches of primitive cells, and by ASE (FIRE, FrechetCellFilter, FixSymmetry, conventional cell, one after the
other, CHGNet's own calculator). The last line is JSON; `ratio` is the time of ASE over ours.

    python benchmarks/bench_relax.py crystals.parquet --n 20
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np

from crystalformer_rl.crystal.readers import read_crystals
from crystalformer_rl.crystal.structure import crystals_from_table
from crystalformer_rl.crystal.tokens import Sites, decode
from crystalformer_rl.potential import load
from crystalformer_rl.potential.coordinates import Coordinates
from crystalformer_rl.potential.relax import Settings, relax, sites_of


def distorted(paths: list[str], n: int, most_atoms: int, amplitude: float) -> list[Sites]:
    """`n` random crystals of the table, every free strain drawn with σ = amplitude, every free coordinate with 2 Å · amplitude."""
    rng = np.random.default_rng(0)
    crystals, statuses = crystals_from_table(read_crystals(paths))
    good = [c for c, s in zip(crystals, statuses, strict=True) if c is not None and s == "ok" and len(c) <= most_atoms]
    result = []
    for k in rng.choice(len(good), n, replace=False):
        coordinates = Coordinates.of(sites_of(good[k]))
        scale = np.full(len(coordinates), amplitude)
        scale[: coordinates.n_positional] *= 2
        result.append(coordinates.sites(scale * rng.normal(size=len(scale))))
    return result


def ase_relaxation(sites: Sites, calculator: object, fmax: float) -> tuple[float, int]:
    """Energy (eV/atom) and evaluations × atoms of ASE's relaxation."""
    from ase import Atoms
    from ase.constraints import FixSymmetry
    from ase.filters import FrechetCellFilter
    from ase.optimize import FIRE

    crystal = decode(sites)
    atoms = Atoms(numbers=crystal.atomic_numbers, scaled_positions=crystal.frac_coords, cell=crystal.lattice, pbc=True)
    atoms.set_constraint(FixSymmetry(atoms))
    atoms.calc = calculator
    optimizer = FIRE(FrechetCellFilter(atoms), logfile=None)
    optimizer.run(fmax=fmax, steps=500)
    return float(atoms.get_potential_energy()) / len(atoms), (optimizer.nsteps + 1) * len(atoms)


def main() -> None:
    """Run the comparison and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("crystals", nargs="+")
    parser.add_argument("--n", type=int, default=20)
    parser.add_argument("--most-atoms", type=int, default=12)
    parser.add_argument("--amplitude", type=float, default=0.05)
    parser.add_argument("--fmax", type=float, default=0.05)
    arguments = parser.parse_args()

    from chgnet.model import CHGNet
    from chgnet.model.dynamics import CHGNetCalculator

    starts = distorted(arguments.crystals, arguments.n, arguments.most_atoms, arguments.amplitude)
    potential = load("chgnet")
    calculator = CHGNetCalculator(model=CHGNet.load(use_device="cpu", verbose=False), use_device="cpu")

    begin = time.perf_counter()
    ours = relax(potential, starts, Settings(fmax=arguments.fmax, max_evaluations=200))
    our_time = time.perf_counter() - begin
    begin = time.perf_counter()
    theirs = [ase_relaxation(s, calculator, arguments.fmax) for s in starts]
    their_time = time.perf_counter() - begin

    excess = np.array([1000 * (r.energy - e) for r, (e, _) in zip(ours, theirs, strict=True) if r.energy is not None])
    our_work = sum(r.evaluations * len(r.crystal) for r in ours if r.crystal is not None)
    their_work = sum(w for r, (_, w) in zip(ours, theirs, strict=True) if r.crystal is not None)
    print(
        json.dumps(
            {
                "ratio": round(their_time / our_time, 2),
                "work_ratio": round(their_work / our_work, 2),
                "crystals": len(starts),
                "failed": len(starts) - len(excess),
                "within_2_meV_or_lower": float(np.mean(excess < 2.0)),
                "excess_meV_median": round(float(np.median(excess)), 3),
                "excess_meV_max": round(float(excess.max()), 3),
                "seconds_a_crystal": round(our_time / len(starts), 3),
                "evaluations_a_crystal": round(float(np.mean([r.evaluations for r in ours])), 2),
            }
        )
    )


if __name__ == "__main__":
    main()
