"""How often recovered structures are right: attempts on compositions whose structure is known and was left out.

python scripts/calibrate_recovery.py --work work/recovery [--compositions mp_compositions.parquet] [--n 1200] [--write]

Compositions of pretraining entries of at most 20 atoms, the lowest of their composition, and half as many that are known in larger
cells alone, where nothing may be accepted; these count such that they are half of all. Right is what StructureMatcher finds equal to the known
structure. Figures are cross-validated in ten parts; --write makes crystalformer_rl/recovery/acceptance.json anew.
"""

from __future__ import annotations

import argparse
import json
import pickle
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Structure
from tqdm import tqdm

from crystalformer_rl.crystal.elements import parse_formula, reduced_formula
from crystalformer_rl.crystal.split import held_out
from crystalformer_rl.crystal.structure import Crystal, crystals_from_table
from crystalformer_rl.recovery.acceptance import FILE, Acceptance, features, fit, groups, has_second
from crystalformer_rl.recovery.attempt import Attempt, Target, attempts
from crystalformer_rl.recovery.recover_settings import RecoverSettings
from crystalformer_rl.recovery.targets import reduced
from crystalformer_rl.reference.energies import read_energies
from crystalformer_rl.resources.registry import embedded_folder
from crystalformer_rl.stages.recover import Plan
from crystalformer_rl.tables.parquet import atomic_path, read_table

LARGE = 0.5
"""Share of compositions whose ground state has more atoms than a candidate may have."""

SHARD = 32


def entries_of(compositions: str | None) -> dict[str, int]:
    """{reduced formula: phases of it that are known} of a table of compositions; empty without one."""
    if compositions is None:
        return {}
    table = read_table(compositions)
    pairs = zip(table.column("formula").to_pylist(), table.column("n_entries").to_pylist(), strict=True)
    return {reduced_formula([z for z, k in reduced(text).items() for _ in range(k)]): n for text, n in pairs}


def targets(reference: str, n: int, seed: int, entries: dict[str, int]) -> list[tuple[Target, Crystal | None]]:
    """Compositions with their structure, and larger ones without, mixed."""
    table = read_table(reference)
    crystals, _ = crystals_from_table(table.select(["id", "atomic_numbers", "frac_coords", "lattice"]))
    rows = table.select(["formula", "role", "source", "n_atoms", "dft_formation_energy"]).to_pylist()
    bias = read_energies(reference).bias
    assert bias is not None
    lowest: dict[str, float] = {}
    for row in rows:
        if row["dft_formation_energy"] is not None:
            lowest[row["formula"]] = min(row["dft_formation_energy"], lowest.get(row["formula"], 9.0))
    small: dict[str, Crystal | None] = {}
    sizes: dict[str, int] = {}
    for row, crystal in zip(rows, crystals, strict=True):
        formula = row["formula"]
        if held_out(formula) or row["n_atoms"] is None or len(parse_formula(formula)) < 2:
            continue
        sizes[formula] = min(row["n_atoms"], sizes.get(formula, row["n_atoms"]))
        if row["role"] == "pretraining" and row["dft_formation_energy"] <= lowest[formula] + 1e-3:
            small[formula] = crystal
    large = [formula for formula, size in sizes.items() if size > RecoverSettings().max_atoms]
    chance = random.Random(seed)
    chosen = chance.sample(sorted(small), n) + chance.sample(sorted(large), min(n // 2, len(large)))
    chance.shuffle(chosen)
    found = []
    for formula in chosen:
        counts, dft = reduced(formula), lowest[formula]
        found.append((Target(formula, counts, dft, dft + bias.of(counts), entries.get(formula)), small.get(formula)))
    return found


def attempted(plan: Plan, wanted: list[Target], work: Path) -> list[Attempt]:
    """The attempts, from parts in the working folder or made now. The parts are this script's own, so pickles are safe here."""
    parts = [wanted[k : k + SHARD] for k in range(0, len(wanted), SHARD)]
    means = None
    found: list[Attempt] = []
    for k, part in enumerate(tqdm(parts, unit="part")):
        path = work / f"attempts_{plan.settings.second or 'alone'}_{len(wanted)}_{k:04}.pkl"
        if not path.is_file():
            means = means or plan.means()
            with atomic_path(path) as temporary:
                temporary.write_bytes(pickle.dumps(attempts(part, means)))
        found += pickle.loads(path.read_bytes())
    return [replace(attempt, target=target) for attempt, target in zip(found, wanted, strict=True)]


def right(attempt: Attempt, known: Crystal | None) -> np.ndarray:
    """Which structures of an attempt are the known one."""
    if known is None:
        return np.zeros(len(groups(attempt)), bool)
    matcher, wanted = StructureMatcher(), _structure(known)
    return np.array([any(matcher.fit(wanted, _structure(one.crystal)) for one in group) for group in groups(attempt)])


def _structure(crystal: Crystal) -> Structure:
    return Structure(crystal.lattice, crystal.atomic_numbers.tolist(), crystal.frac_coords)


def evaluated(found: list[Attempt], good: list[np.ndarray], weights: np.ndarray, second: bool) -> None:
    """Precision and coverage of thresholds, by attempts left out."""
    order = np.random.default_rng(0).permutation(len(found))
    rows = [features(attempt, second) for attempt in found]
    p, hit = np.zeros(len(found)), np.zeros(len(found), bool)
    for fold in range(10):
        test = order[fold::10]
        train = np.setdiff1d(order, test)
        model = fit([rows[k] for k in train], [good[k] for k in train], weights[train].tolist(), second)
        for k in test:
            chances = model.probabilities(rows[k])
            best = int(chances.argmax())
            p[k], hit[k] = chances[best], good[k][best]
    possible = np.array([g.any() for g in good])
    print(f"  a right structure is among those relaxed: {possible[weights <= 1].mean():.3f} of the small ones")
    for threshold in (0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9):
        chosen = p >= threshold
        precision = float((weights * hit)[chosen].sum() / weights[chosen].sum()) if chosen.any() else float("nan")
        share = float(weights[chosen].sum() / weights.sum())
        recall = float((weights * hit)[chosen].sum() / weights[possible].sum())
        print(
            f"  p ≥ {threshold:.2f}: {chosen.sum()} accepted ({share:.3f} of all), right {precision:.3f}, of the possible {recall:.3f}"
        )
    for low in np.arange(0, 1, 0.1):
        part = (p >= low) & (p < low + 0.1)
        if part.sum() > 10:
            print(f"  p {low:.1f} to {low + 0.1:.1f}: mean {np.average(p[part], weights=weights[part]):.2f}, "
                  f"right {np.average(hit[part], weights=weights[part]):.2f} of {part.sum()}")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", default=str(embedded_folder() / "reference.parquet"))
    parser.add_argument("--compositions", help="Parquet with formula and n_entries")
    parser.add_argument("--second", default="sevennet-0")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--n", type=int, default=1200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    plan = Plan(options.reference, "chgnet", "cpu", RecoverSettings(second=options.second))
    asked = targets(options.reference, options.n, options.seed, entries_of(options.compositions))
    found = attempted(plan, [target for target, _ in asked], options.work)
    known = [crystal for (_, crystal) in asked]
    kept = [k for k, attempt in enumerate(found) if attempt.tried]
    print(
        f"{len(found)} compositions, {sum(c is not None for c in known)} of them small; {len(found) - len(kept)} without a candidate"
    )
    found, known = [found[k] for k in kept], [known[k] for k in kept]
    good = [right(attempt, crystal) for attempt, crystal in zip(tqdm(found), known, strict=True)]
    small = np.array([crystal is not None for crystal in known])
    weights = np.where(small, 1.0, LARGE / (1 - LARGE) * small.sum() / max((~small).sum(), 1))
    models: list[Acceptance] = []
    for second in (False, True):
        part = [k for k, attempt in enumerate(found) if not second or has_second(attempt)]
        print("with the second potential:" if second else "alone:")
        chosen, truth = [found[k] for k in part], [good[k] for k in part]
        evaluated(chosen, truth, weights[part], second)
        models.append(fit([features(a, second) for a in chosen], truth, weights[part].tolist(), second))
    if options.write:
        with atomic_path(FILE) as temporary:
            temporary.write_text(json.dumps({"acceptances": [model.as_record() for model in models]}, indent=1) + "\n")


if __name__ == "__main__":
    main()
