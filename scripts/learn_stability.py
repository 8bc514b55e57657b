"""Learn what `resources/embedded/stability.safetensors` holds, from the rows of `scripts/stability_rows.py`, and say how good it is.

Errors of the potential's formation energies are learned on its embeddings, the probabilities on the distances that these
errors, learned of other formulas, leave (five parts). The entry of a crystal's own composition that came with it is taken out of the
hull, and its label counts from the hull of DFT's energies without it. Of crystals as sampled the truth is the probability at rest. Lines of JSON: errors,
reliability by tenths, Brier skill, F1 beside that of the distance alone, with a paired bootstrap.

    python scripts/learn_stability.py --rows work/stability/chgnet --judge work/stability/sevennet-0 \\
        --samples work/stability/sampled/relaxed.parquet [--out resources/embedded/stability.safetensors]
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from hull_against_dft import EMBEDDED, dft_only, local_hull, same

from crystalformer_rl.crystal.elements import composition
from crystalformer_rl.crystal.structure import crystals_from_table
from crystalformer_rl.hull.chances import freedom
from crystalformer_rl.hull.probability import Calibration, Figures, normal_probability
from crystalformer_rl.hull.probability_fit import THRESHOLDS, brier_skill, f1, fit, reliability
from crystalformer_rl.potential import load
from crystalformer_rl.potential.stored_biases import stored_bias
from crystalformer_rl.properties import energy_errors
from crystalformer_rl.properties.energy_errors import EnergyErrors
from crystalformer_rl.reference.bias import Bias
from crystalformer_rl.reference.competing import Phase
from crystalformer_rl.reference.energies import ReferenceEnergies, read_energies
from crystalformer_rl.reference.identity import PotentialIdentity
from crystalformer_rl.resources.stability import FORMAT
from crystalformer_rl.tables.provenance import read_provenance
from crystalformer_rl.tables.status import OK

FOLDS = 5
RESAMPLINGS = 1000
LOCATION = ("constant", "error", "above", "below", "near", "extrapolation")
SCALE = (
    "constant",
    "bias",
    "extrapolation",
    "free_positional",
    "free_strains",
    "elements",
    "support",
    "above",
    "below",
    "error",
)
JUDGED = ("disagreement",)
SAMPLED_LOCATION = ("constant", "height", "height_strains", "height_positional", "below")
SAMPLED_SCALE = ("constant", "height", "free_positional", "free_strains", "elements", "support", "below")


def rows_of(folder: Path) -> tuple[pa.Table, PotentialIdentity]:
    """The relaxed rows of a folder of shards that succeeded, and whose energies they are."""
    paths = sorted(folder.glob("*.parquet"))
    identity = PotentialIdentity.from_record(read_provenance(paths[0])["potential"])
    assert identity is not None
    table = pa.concat_tables([pq.read_table(path).replace_schema_metadata(None) for path in paths])
    return table.filter(pc.equal(table.column("status"), OK)), identity


def embeddings(table: pa.Table, potential: str, cache: Path) -> np.ndarray:
    """(N, d) of the relaxed crystals, kept beside the rows."""
    names = table.column("id").to_pylist()
    if cache.is_file():
        with np.load(cache) as stored:
            if stored["ids"].tolist() == names:
                return np.asarray(stored["rows"])
    crystals, _ = crystals_from_table(table)
    rows = load(potential).embed([c for c in crystals if c is not None])
    np.savez(cache, ids=np.array(names), rows=rows)
    return rows


def folds(formulas: Sequence[str]) -> np.ndarray:
    """The part of each formula."""
    return np.array([int(hashlib.sha256(f.encode()).hexdigest(), 16) % FOLDS for f in formulas])


def others_wbm(phases: list[Phase], counts: dict[int, int]) -> list[Phase]:
    """Without the entries of the composition that came from the set of the labels."""
    return [p for p in phases if not (p.id.startswith("wbm") and same(p, counts))]


class Placed:
    """Rows on the hulls of a reference: the potential's, and DFT's."""

    def __init__(self, energies: ReferenceEnergies, table: pa.Table) -> None:
        self.energies, self.numbers = energies, table.column("atomic_numbers").to_pylist()
        scale = Bias(energies.bias.scale if energies.bias else "")
        rows = []
        for numbers, energy in zip(self.numbers, table.column("energy").to_pylist(), strict=True):
            counts = composition(numbers)
            hull = local_hull(energies, counts, others_wbm, True, energies.bias)
            dft = local_hull(energies, counts, lambda p, c: dft_only(others_wbm(p, c), c), True, scale)
            formation = hull.formation_energy(numbers, energy)
            found = hull.distance(numbers, formation)
            rows.append((formation, found.e_above_hull, found.std, found.support, -dft.distance(numbers, 0.0).e_above_hull))
        self.formation, self.height, self.std, self.support, self.dft_hull = np.array(rows).T

    def figures(self, table: pa.Table, error: np.ndarray, applicability: np.ndarray) -> dict[str, np.ndarray]:
        """As `hull.probability` wants them."""
        free = freedom(self.numbers, table.column("space_group").to_pylist(), table.column("wyckoff").to_pylist())
        return {
            "height": self.formation + error - self.dft_hull,
            "error": error,
            "applicability": applicability,
            "std": self.std,
            "support": self.support,
            **free,
        }


def taken(figures: Figures, rows: np.ndarray) -> dict[str, np.ndarray]:
    """The figures of some crystals."""
    return {name: values[rows] for name, values in figures.items()}


def cross_fitted(
    figures: Figures, labels: np.ndarray, part: np.ndarray, location: Sequence[str], scale: Sequence[str], **more: Any
) -> dict[float, np.ndarray]:
    """Probabilities at 0.1 and at 0 eV/atom of crystals whose formulas the calibration did not see."""
    found = {0.1: np.empty(len(labels)), 0.0: np.empty(len(labels))}
    for k in range(FOLDS):
        inside = part != k
        soft = {t: p[inside] for t, p in more["soft"].items()} if more.get("soft") else None
        calibration = fit(taken(figures, inside), labels[inside], location, scale, soft=soft)
        for threshold, values in found.items():
            values[~inside] = calibration.probability(taken(figures, ~inside), threshold)
    return found


def report(name: str, probabilities: Mapping[float, np.ndarray], labels: np.ndarray, raw: np.ndarray) -> None:
    """A line for each threshold."""
    rng = np.random.default_rng(0)
    for threshold, p in probabilities.items():
        truth, said = labels <= threshold, raw <= threshold
        cut = max(np.linspace(0.2, 0.7, 51), key=lambda c: f1(p >= c, truth))
        gains = []
        for _ in range(RESAMPLINGS):
            rows = rng.integers(0, len(labels), len(labels))
            gains.append(f1(p[rows] >= cut, truth[rows]) - f1(said[rows], truth[rows]))
        line = {
            "rows": name,
            "n": len(labels),
            "threshold": threshold,
            "share": round(float(truth.mean()), 4),
            "brier_skill": round(brier_skill(p, truth), 4),
            "brier_skill_by_bias": round(brier_skill(BY_BIAS[threshold], truth), 4)
            if len(BY_BIAS[threshold]) == len(p)
            else None,
            "f1_distance": round(f1(said, truth), 4),
            "f1_at_half": round(f1(p >= 0.5, truth), 4),
            "f1": round(f1(p >= cut, truth), 4),
            "cut": round(float(cut), 2),
            "gain": [round(float(x), 4) for x in np.quantile(gains, [0.025, 0.975])],
            "reliability": [[n, round(mean, 3), round(share, 3)] for n, mean, share in reliability(p, truth)],
        }
        print(json.dumps(line), flush=True)


BY_BIAS: dict[float, np.ndarray] = {}
"""Probabilities by the potential's bias alone."""


def crossed_errors(table: pa.Table, rows: np.ndarray, wanted: np.ndarray, part: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Errors and applicability of crystals whose formulas were left out."""
    numbers = [np.array(z) for z in table.column("atomic_numbers").to_pylist()]
    error, applicability = np.empty(len(rows)), np.empty(len(rows))
    for k in range(FOLDS):
        inside = np.flatnonzero(part != k)
        left = np.flatnonzero(part == k)
        model = energy_errors.fit([numbers[i] for i in inside], rows[inside], wanted[inside], {})
        error[left], applicability[left] = model.predict([numbers[i] for i in left], rows[left])
    return error, applicability


def judged(
    energies: ReferenceEnergies, table: pa.Table, figures: Figures, folder: Path
) -> tuple[np.ndarray, dict[str, np.ndarray], dict[str, Any]]:
    """Which rows a second potential has relaxed too, their figures with its disagreement, and its identity's record."""
    other, identity = rows_of(folder)
    bias = stored_bias(identity)
    assert bias is not None
    heights = {}
    from crystalformer_rl.reference.corrections import MP2020

    scheme = MP2020()
    crystals, _ = crystals_from_table(other)
    for name, numbers, energy, crystal in zip(
        other.column("id").to_pylist(),
        other.column("atomic_numbers").to_pylist(),
        other.column("energy").to_pylist(),
        crystals,
        strict=True,
    ):
        counts = composition(numbers)
        hull = local_hull(energies, counts, lambda p, c: dft_only(others_wbm(p, c), c), True, bias)
        formation = hull.formation_energy(numbers, energy + scheme.correction(counts, crystal))
        heights[name] = hull.distance(numbers, formation).e_above_hull
    names = table.column("id").to_pylist()
    both = np.array([name in heights for name in names])
    found = taken(figures, both)
    found["disagreement"] = np.array([heights[name] for name in names if name in heights]) - found["height"]
    return both, found, identity.as_record()


def main() -> None:
    """Learn, report, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--judge", type=Path, required=True)
    parser.add_argument("--samples", type=Path, required=True)
    parser.add_argument("--potential", default="chgnet")
    parser.add_argument("--reference", default=str(EMBEDDED))
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    energies = read_energies(arguments.reference)
    table, identity = rows_of(arguments.rows)
    known = pq.read_table(arguments.reference, columns=["id", "dft_formation_energy"])
    dft = dict(zip(known.column("id").to_pylist(), known.column("dft_formation_energy").to_pylist(), strict=True))
    label = np.array([dft[name] for name in table.column("id").to_pylist()])
    features = embeddings(table, arguments.potential, arguments.rows / "embeddings.npz")
    placed = Placed(energies, table)
    part = folds(table.column("formula").to_pylist())
    wanted = label - placed.formation
    error, applicability = crossed_errors(table, features, wanted, part)
    print(json.dumps({"median_absolute_error": round(float(np.median(np.abs(wanted - np.median(wanted)))), 4),
                      "with_expected_error": round(float(np.median(np.abs(wanted - error))), 4),
                      "mean_absolute_error": round(float(np.abs(wanted).mean()), 4),
                      "mean_with_expected_error": round(float(np.abs(wanted - error).mean()), 4)}), flush=True)  # fmt: skip
    figures = placed.figures(table, error, applicability)
    labels = label - placed.dft_hull
    BY_BIAS.update({t: normal_probability(placed.height, placed.std, t) for t in (0.1, 0.0)})
    report("relaxed", cross_fitted(figures, labels, part, LOCATION, SCALE), labels, placed.height)
    relaxed = fit(figures, labels, LOCATION, SCALE)

    both, with_judge, judge = judged(energies, table, figures, arguments.judge)
    also = cross_fitted(with_judge, labels[both], part[both], (*LOCATION, *JUDGED), (*SCALE, *JUDGED))
    report("judged", also, labels[both], placed.height[both])
    by_two = fit(with_judge, labels[both], (*LOCATION, *JUDGED), (*SCALE, *JUDGED))

    header: dict[str, Any] = {"format": FORMAT, "potential": identity.as_record(), "judge": judge}
    numbers = [np.array(z) for z in table.column("atomic_numbers").to_pylist()]
    model = energy_errors.fit(numbers, features, wanted, header)
    sampled = as_sampled(energies, arguments, model, relaxed)
    parts: dict[str, Calibration] = {"relaxed": relaxed, "judged": by_two, "sampled": sampled}
    print(json.dumps({name: calibration.as_record() for name, calibration in parts.items()}))
    if arguments.out:
        header["calibrations"] = {name: calibration.as_record() for name, calibration in parts.items()}
        EnergyErrors(**{**vars(model), "header": header}).save(arguments.out)


def as_sampled(
    energies: ReferenceEnergies, arguments: argparse.Namespace, model: EnergyErrors, relaxed: Calibration
) -> Calibration:
    """The calibration of crystals as sampled, by their probabilities at rest."""
    table = pq.read_table(arguments.samples)
    table = table.filter(pc.equal(table.column("status"), OK))
    rows = embeddings(table, arguments.potential, arguments.samples.with_suffix(".npz"))
    placed = Placed(energies, table)
    error, applicability = model.predict([np.array(z) for z in placed.numbers], rows)
    at_rest = placed.figures(table, error, applicability)
    start = table.column("energy_initial").to_numpy() - table.column("energy").to_numpy() + placed.height
    figures = {**at_rest, "height": start, "error": np.zeros(len(start)), "applicability": np.ones(len(start))}
    part = folds(table.column("formula").to_pylist())
    soft = {t: relaxed.probability(at_rest, t) for t in THRESHOLDS}
    found = cross_fitted(figures, start, part, SAMPLED_LOCATION, SAMPLED_SCALE, soft=soft)
    for threshold in (0.1, 0.0):
        truth, p = soft[threshold], found[threshold]
        rest = [[n, round(mean, 3), round(share, 3)] for n, mean, share in reliability(p, truth)]
        mean = truth.mean()
        skill = 1 - ((p - truth) ** 2).mean() / ((mean - truth) ** 2).mean()
        print(json.dumps({"rows": "as sampled", "n": len(p), "threshold": threshold, "share": round(float(mean), 4),
                          "explained_of_the_probability_at_rest": round(float(skill), 4), "reliability": rest}), flush=True)  # fmt: skip
    return fit(figures, start, SAMPLED_LOCATION, SAMPLED_SCALE, soft=soft)


if __name__ == "__main__":
    main()
