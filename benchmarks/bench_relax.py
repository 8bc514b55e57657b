"""Relaxation in symmetry coordinates against ASE's FIRE: work, time and energies, with the same CHGNet.

Crystals sampled from the embedded policy, and crystals of the embedded reference with every free coordinate and strain
pushed off the minimum, are relaxed twice: here in batches of primitive cells, and by ASE as is usual (FIRE, FrechetCellFilter,
FixSymmetry, conventional cell, one after the other, CHGNet's own calculator). The two take turns, so that both
see the same machine. The last line is JSON; `ratio` is ASE's wall time over ours.

    python benchmarks/bench_relax.py [--samples 100] [--reference-rows 100]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from crystalformer_rl.crystal.tokens import Sites, decode, sites_from_table
from crystalformer_rl.potential import load
from crystalformer_rl.potential.coordinates import Coordinates
from crystalformer_rl.potential.protocol import Potential
from crystalformer_rl.potential.relax_settings import RelaxSettings
from crystalformer_rl.potential.relaxation import relax
from crystalformer_rl.potential.walker import Relaxed
from crystalformer_rl.tables.parquet import read_table

T = TypeVar("T")
EMBEDDED = Path(__file__).resolve().parents[1] / "resources" / "embedded"
SAME = 2e-3
"""eV/atom; an energy that is no more than this above ASE's is as good."""
MOST_EVALUATIONS = 500
"""A crystal, for both."""


@dataclass(frozen=True)
class Start:
    """A crystal to relax and where it comes from."""

    kind: str
    sites: Sites


@dataclass(frozen=True)
class AseResult:
    """Energy (eV/atom; None where ASE failed), evaluations, whether converged, cell's volume over its first."""

    energy: float | None
    evaluations: int
    converged: bool
    volume_ratio: float


def sampled(n: int, most_atoms: int) -> list[Start]:
    """Crystals that the embedded policy draws (seed 0); JAX stays in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "samples.parquet"
        command = [sys.executable, "-m", "crystalformer_rl", "sample", "--policy", str(EMBEDDED / "policy.safetensors")]
        subprocess.run(
            [*command, "--n", str(2 * n), "--seed", "0", "--out", str(path)], check=True, stdout=subprocess.DEVNULL
        )
        return _chosen("sample", path, n, most_atoms)


def distorted(n: int, most_atoms: int, amplitude: float) -> list[Start]:
    """Rows of the reference, each free strain drawn with σ = amplitude and each free displacement with 2 Å · amplitude."""
    rng = np.random.default_rng(0)
    starts = []
    for start in _chosen("reference", EMBEDDED / "reference.parquet", n, most_atoms, rng):
        coordinates = Coordinates.of(start.sites)
        scale = np.full(len(coordinates), amplitude)
        scale[: coordinates.n_positional] *= 2
        starts.append(Start("reference", coordinates.sites(scale * rng.normal(size=len(scale)))))
    return starts


def _chosen(kind: str, path: Path, n: int, most_atoms: int, rng: np.random.Generator | None = None) -> list[Start]:
    rows = [s for s in sites_from_table(read_table(path), str(path)) if s is not None and len(decode(s)) <= most_atoms]
    order = np.arange(len(rows)) if rng is None else rng.permutation(len(rows))
    return [Start(kind, rows[k]) for k in order[:n]]


def ase_relaxation(sites: Sites, calculator: object, fmax: float) -> AseResult:
    """What ASE makes of a crystal."""
    from ase import Atoms
    from ase.constraints import FixSymmetry
    from ase.filters import FrechetCellFilter
    from ase.optimize import FIRE

    crystal = decode(sites)
    atoms = Atoms(numbers=crystal.atomic_numbers, scaled_positions=crystal.frac_coords, cell=crystal.lattice, pbc=True)
    steps = 0
    try:
        atoms.set_constraint(FixSymmetry(atoms))
        atoms.calc = calculator
        optimizer = FIRE(FrechetCellFilter(atoms), logfile=None)
        for _ in optimizer.irun(fmax=fmax, steps=MOST_EVALUATIONS - 1):
            steps = optimizer.nsteps
        converged = optimizer.converged(optimizer.optimizable.get_gradient())
        return AseResult(
            float(atoms.get_potential_energy()) / len(atoms), steps + 1, bool(converged), atoms.get_volume() / crystal.volume
        )
    # Overlapping atoms, isolated atoms, symmetry that is lost: each library on the way raises its own.
    except Exception:
        return AseResult(None, steps + 1, False, float("nan"))


def relaxed_by_ase(starts: Iterable[Sites], calculator: Any, fmax: float) -> list[AseResult]:
    """Each crystal by itself."""
    return [ase_relaxation(sites, calculator, fmax) for sites in starts]


def timed(run: Callable[[], list[T]]) -> tuple[list[T], float]:
    """What `run` returns and the wall time it took, s."""
    begin = time.perf_counter()
    result = run()
    return result, time.perf_counter() - begin


def figures(starts: list[Start], ours: list[Relaxed], theirs: list[AseResult]) -> dict[str, object]:
    """Agreement and work."""
    atoms = np.array([len(decode(s.sites)) for s in starts])
    cells = np.array([len(Coordinates.of(s.sites).numbers) for s in starts])
    our_work = float(np.sum(cells * [r.evaluations for r in ours]))
    their_work = float(np.sum(atoms * [r.evaluations for r in theirs]))
    both = [
        (r.energy - a.energy) for r, a in zip(ours, theirs, strict=True) if r.energy is not None and a.energy is not None
    ]
    as_good = sum(_as_good(r, a) for r, a in zip(ours, theirs, strict=True))
    return {
        "crystals": len(starts),
        "as_good": as_good,
        "as_good_fraction": round(as_good / len(starts), 4),
        "work_ratio": round(their_work / our_work, 2),
        "failed": sum(r.status != "ok" for r in ours),
        "failed_ase": sum(a.energy is None for a in theirs),
        "converged": sum(bool(r.converged) for r in ours),
        "converged_ase": sum(a.converged for a in theirs),
        "excess_meV_median": round(1000 * float(np.median(both)), 3),
        "lower_by_2_meV": sum(e < -SAME for e in both),
        "evaluations_a_crystal": round(float(np.mean([r.evaluations for r in ours])), 2),
        "evaluations_a_crystal_ase": round(float(np.mean([a.evaluations for a in theirs])), 2),
    }


def _as_good(ours: Relaxed, theirs: AseResult) -> bool:
    """No energy at all is as good only where ASE has none either."""
    return theirs.energy is None or (ours.energy is not None and ours.energy <= theirs.energy + SAME)


def compare(
    potential: Potential, starts: list[Start], fmax: float, chunk: int
) -> tuple[list[Relaxed], list[AseResult], float, float]:
    """Both relaxations of all crystals, in turns, and their wall times, s."""
    from chgnet.model import CHGNet
    from chgnet.model.dynamics import CHGNetCalculator
    from tqdm import tqdm

    calculator = CHGNetCalculator(model=CHGNet.load(use_device="cpu", verbose=False), use_device="cpu")
    settings = RelaxSettings(fmax=fmax, max_evaluations=MOST_EVALUATIONS)
    ours: list[Relaxed] = []
    theirs: list[AseResult] = []
    times = [0.0, 0.0]
    for first in range(0, len(starts), chunk):
        part = [s.sites for s in starts[first : first + chunk]]
        results, seconds = timed(partial(relax, potential, part, settings))
        ours += results
        times[0] += seconds
        bar = tqdm(part, desc=f"ASE, from {first}", disable=not sys.stderr.isatty())
        found, seconds = timed(partial(relaxed_by_ase, bar, calculator, fmax))
        theirs += found
        times[1] += seconds
    return ours, theirs, times[0], times[1]


def main() -> None:
    """Run the comparison and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--reference-rows", type=int, default=100)
    parser.add_argument("--most-atoms", type=int, default=40, help="in the conventional cell, for ASE's sake")
    parser.add_argument("--amplitude", type=float, default=0.05)
    parser.add_argument("--fmax", type=float, default=0.05, help="eV/Å")
    parser.add_argument("--threads", type=int, default=1, help="of torch, for both; more gain nothing on small cells")
    parser.add_argument("--chunk", type=int, default=50, help="crystals before it is the other's turn")
    parser.add_argument("--details", type=Path, help="JSON file for the result of each crystal")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")

    starts = sampled(arguments.samples, arguments.most_atoms)
    starts += distorted(arguments.reference_rows, arguments.most_atoms, arguments.amplitude)
    ours, theirs, our_time, their_time = compare(load("chgnet", arguments.threads), starts, arguments.fmax, arguments.chunk)
    if arguments.details:
        arguments.details.write_text(json.dumps(_details(starts, ours, theirs), indent=1))
    for kind in ("sample", "reference"):
        chosen = [k for k, s in enumerate(starts) if s.kind == kind]
        if chosen:
            print(
                kind,
                json.dumps(figures([starts[k] for k in chosen], [ours[k] for k in chosen], [theirs[k] for k in chosen])),
            )
    times = {"ratio": round(their_time / our_time, 2), "seconds_a_crystal": round(our_time / len(starts), 3)}
    print(json.dumps(times | figures(starts, ours, theirs)))


def _details(starts: list[Start], ours: list[Relaxed], theirs: list[AseResult]) -> list[dict[str, object]]:
    return [
        {
            "kind": s.kind, "formula": decode(s.sites).formula, "space_group": s.sites.space_group, "status": r.status,
            "energy": r.energy, "converged": r.converged, "evaluations": r.evaluations, "ase": asdict(a),
        }
        for s, r, a in zip(starts, ours, theirs, strict=True)
    ]  # fmt: skip


if __name__ == "__main__":
    main()
