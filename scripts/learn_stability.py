"""Learn what `resources/embedded/stability.safetensors` holds, from the rows of `scripts/stability_rows.py`, and say how good it is.

Errors of the potential's formation energies are learned on its embeddings, the probabilities on the distances that these
errors, learned of other formulas, leave (five parts). Crystals of WBM stand for what nobody knows: entries of their composition that
came with them are taken out of the hull, and the label counts from the hull of DFT's energies without them. Entries of the
Materials Project stand for what is known, half of them as the reference has them, half with their composition taken out. Of
crystals as sampled the truth is the probability at rest. Lines of JSON: errors, reliability by tenths, Brier skill, F1 beside
that of the distance alone, with a paired bootstrap.

    python scripts/learn_stability.py --work work/stability [--out resources/embedded/stability.safetensors] > lines.jsonl
    python scripts/learn_stability.py --work work/stability --draw lines.jsonl docs/stability.svg
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from hull_against_dft import EMBEDDED, as_it_stands, dft_only, local_hull, same, without

from crystalformer_rl.crystal.elements import composition
from crystalformer_rl.crystal.structure import crystals_from_table
from crystalformer_rl.hull.chances import freedom
from crystalformer_rl.hull.probability import Calibration, Figures, normal_probability
from crystalformer_rl.hull.probability_fit import THRESHOLDS, brier_skill, f1, fit, reliability
from crystalformer_rl.plotting.reliability import reliability_diagram
from crystalformer_rl.potential import load
from crystalformer_rl.potential.stored_biases import stored_bias
from crystalformer_rl.properties import energy_errors
from crystalformer_rl.properties.energy_errors import EnergyErrors
from crystalformer_rl.reference.bias import Bias
from crystalformer_rl.reference.competing import Phase
from crystalformer_rl.reference.corrections import MP2020
from crystalformer_rl.reference.energies import ReferenceEnergies, read_energies
from crystalformer_rl.reference.formation_energy import by_number, formation_energy
from crystalformer_rl.reference.identity import PotentialIdentity
from crystalformer_rl.resources.stability_file import FORMAT
from crystalformer_rl.tables.provenance import read_provenance
from crystalformer_rl.tables.status import OK

FOLDS = 5
RESAMPLINGS = 1000
BESIDE = 0.03
"""eV/atom above its composition's entry, up to which an entry of the Materials Project is learned from."""

ROUNDING = 1e-4  # eV/atom
CENTRES = {"wbm": 6000, "known": 3000}
PLACED = 3072
"""Known entries that are placed on the hull, for the probabilities."""

LOCATION = ("constant", "error", "above", "below", "near", "shallow", "extrapolation")
KNOWN_LOCATION = ("constant", "offset", "above", "near")
KNOWN_SCALE = ("constant", "same", "above", "bias", "free_strains")
SCALE = (
    *("constant", "bias", "extrapolation", "free_positional", "free_strains", "elements", "support"),
    *("above", "below", "error"),
)
SAMPLED_LOCATION = ("constant", "height", "height_strains", "height_positional", "below")
SAMPLED_SCALE = ("constant", "height", "free_positional", "free_strains", "elements", "support", "below")


def rows_of(folder: Path) -> tuple[pa.Table, PotentialIdentity]:
    """The relaxed rows of a folder of shards that succeeded, and whose energies they are."""
    paths = sorted(folder.glob("*.parquet"))
    identity = PotentialIdentity.from_record(read_provenance(paths[0])["potential"])
    assert identity is not None
    table = pa.concat_tables(
        [pq.read_table(path).replace_schema_metadata(None) for path in paths], promote_options="default"
    )
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


Edit = Callable[[list[Phase], dict[int, int]], list[Phase]]


def others_wbm(phases: list[Phase], counts: dict[int, int]) -> list[Phase]:
    """Without the entries of the composition that came from the set of the labels."""
    return [p for p in phases if not (p.id.startswith("wbm") and same(p, counts))]


class Placed:
    """Rows on the hulls of a reference: the potential's, and DFT's."""

    def __init__(self, energies: ReferenceEnergies, table: pa.Table, edits: Sequence[Edit]) -> None:
        self.energies, self.table, self.numbers = energies, table, table.column("atomic_numbers").to_pylist()
        scale = Bias(energies.bias.scale if energies.bias else "")
        rows = []
        for numbers, energy, edit in zip(self.numbers, table.column("energy").to_pylist(), edits, strict=True):
            counts = composition(numbers)
            hull = local_hull(energies, counts, edit, True, energies.bias)
            dft = local_hull(energies, counts, lambda p, c, edit=edit: dft_only(edit(p, c), c), True, scale)  # type: ignore[misc]
            formation = hull.formation_energy(numbers, energy)
            found = hull.distance(numbers, formation)
            known = list(found.energy_from.values()) == ["relaxed"]
            deep = -dft.distance(numbers, 0.0).e_above_hull
            rows.append((formation, found.e_above_hull, found.std, found.support, deep, known))
        self.formation, self.height, self.std, self.support, self.dft_hull, self.known = np.array(rows, float).T

    def figures(self, error: np.ndarray, applicability: np.ndarray) -> dict[str, np.ndarray]:
        """As `hull.probability` wants them."""
        letters = self.table.column("wyckoff").to_pylist()
        height = self.formation + error - self.dft_hull
        return {
            "height": height,
            "known": self.known,
            "offset": np.where(self.known > 0, self.height - height, 0.0),
            "error": error,
            "applicability": applicability,
            "std": self.std,
            "support": self.support,
            **freedom(self.numbers, self.table.column("space_group").to_pylist(), letters),
        }


def taken(figures: Figures, rows: np.ndarray) -> dict[str, np.ndarray]:
    """The figures of some crystals."""
    return {name: values[rows] for name, values in figures.items()}


def cross_fitted(
    figures: Figures,
    labels: np.ndarray,
    part: np.ndarray,
    basis: tuple[Sequence[str], Sequence[str]],
    rows: np.ndarray,
    soft: dict[float, np.ndarray] | None = None,
) -> dict[float, np.ndarray]:
    """Probabilities at 0.1 and at 0 eV/atom of crystals whose formulas the calibration, fitted to `rows`, did not see."""
    found = {0.1: np.empty(len(labels)), 0.0: np.empty(len(labels))}
    for k in range(FOLDS):
        inside, left = rows & (part != k), part == k
        some = None if soft is None else {t: p[inside] for t, p in soft.items()}
        calibration = fit(taken(figures, inside), labels[inside], *basis, soft=some)
        for threshold, values in found.items():
            values[left] = calibration.probability(taken(figures, left), threshold)
    return found


def both_kinds(
    figures: Figures, labels: np.ndarray, part: np.ndarray, wbm: np.ndarray, stands: np.ndarray, judged: bool
) -> tuple[dict[float, np.ndarray], Calibration, Calibration]:
    """Probabilities of crystals of new compositions, learned of WBM, and of known ones; and the calibration of each."""
    more = ("disagreement",) if judged else ()
    # entries were chosen by their labels, so that of those which come out high only the mistaken ones are here
    beside = figures["height"] + figures["offset"]
    kinds = [
        (LOCATION, SCALE, wbm & (figures["known"] == 0)),
        (KNOWN_LOCATION, KNOWN_SCALE, (wbm | (stands & (beside < BESIDE))) & (figures["known"] > 0)),
    ]
    found, calibrations = [], []
    for location, scale, rows in kinds:
        basis = ((*location, *more), (*scale, *more))
        found.append(cross_fitted(figures, labels, part, basis, rows))
        calibrations.append(fit(taken(figures, rows), labels[rows], *basis))
    chosen = {t: np.where(figures["known"] > 0, found[1][t], found[0][t]) for t in found[0]}
    return chosen, calibrations[0], calibrations[1]


def report(
    name: str,
    probabilities: Mapping[float, np.ndarray],
    labels: np.ndarray,
    raw: np.ndarray,
    before: Mapping[float, np.ndarray],
    groups: Mapping[str, np.ndarray],
) -> None:
    """A line for each threshold and group; raw: the distances; before: probabilities that know less."""
    rng = np.random.default_rng(0)
    for group, some in groups.items():
        for threshold, every in probabilities.items():
            p, truth, said = every[some], labels[some] <= threshold, raw[some] <= threshold
            cut = max(np.linspace(0.2, 0.7, 51), key=lambda c: f1(p >= c, truth))
            draws = [rng.integers(0, len(p), len(p)) for _ in range(RESAMPLINGS)]
            gains = [f1(p[rows] >= cut, truth[rows]) - f1(said[rows], truth[rows]) for rows in draws]
            line = {
                "rows": f"{name}, {group}",
                "n": len(p),
                "threshold": threshold,
                "share": round(float(truth.mean()), 4),
                "brier": round(float(((p - truth) ** 2).mean()), 4),
                "brier_skill": round(brier_skill(p, truth), 4),
                "brier_skill_before": round(brier_skill(before[threshold][some], truth), 4),
                "f1_distance": round(f1(said, truth), 4),
                "f1_at_half": round(f1(p >= 0.5, truth), 4),
                "f1": round(f1(p >= cut, truth), 4),
                "cut": round(float(cut), 2),
                "gain": [round(float(x), 4) for x in np.quantile(gains, [0.025, 0.975])],
                "reliability": [[n, round(mean, 3), round(share, 3)] for n, mean, share in reliability(p, truth)],
            }
            print(json.dumps(line), flush=True)


def centres(wbm: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Which rows of `among` are kept as centres, always the same."""
    rng = np.random.default_rng(0)
    parts = [rng.permutation(among[wbm[among] == kind])[: CENTRES[name]] for name, kind in (("wbm", True), ("known", False))]
    return np.concatenate(parts)


def regression(
    numbers: list[np.ndarray],
    rows: np.ndarray,
    wanted: np.ndarray,
    wbm: np.ndarray,
    inside: np.ndarray,
    header: dict[str, Any],
) -> EnergyErrors:
    """The errors learned of the rows `inside`."""
    kept = centres(wbm, inside)
    places = {int(i): k for k, i in enumerate(inside)}
    chosen = np.array([places[int(i)] for i in kept])
    return energy_errors.fit([numbers[i] for i in inside], rows[inside], wanted[inside], chosen, header)


def crossed_errors(
    numbers: list[np.ndarray], rows: np.ndarray, wanted: np.ndarray, wbm: np.ndarray, part: np.ndarray, cache: Path
) -> tuple[np.ndarray, np.ndarray]:
    """Errors and applicability of crystals whose formulas were left out, kept in a file, since they take minutes."""
    if cache.is_file():
        with np.load(cache) as stored:
            if np.array_equal(stored["wanted"], wanted):
                return stored["error"], stored["applicability"]
    error, applicability = np.empty(len(rows)), np.empty(len(rows))
    for k in range(FOLDS):
        inside, left = np.flatnonzero(part != k), np.flatnonzero(part == k)
        model = regression(numbers, rows, wanted, wbm, inside, {})
        error[left], applicability[left] = model.predict([numbers[i] for i in left], rows[left])
    np.savez(cache, wanted=wanted, error=error, applicability=applicability)
    return error, applicability


def judged(
    energies: ReferenceEnergies, placed: Placed, edits: Sequence[Edit], figures: Figures, folders: Sequence[Path]
) -> tuple[np.ndarray, dict[str, np.ndarray], dict[str, Any]]:
    """Which rows a second potential has relaxed too, their figures with its disagreement, and its identity's record."""
    parts = [rows_of(folder) for folder in folders]
    identity = parts[0][1]
    bias = stored_bias(identity)
    assert bias is not None
    scheme, formation = MP2020(), {}
    for other, _ in parts:
        crystals, _ = crystals_from_table(other)
        for name, energy, crystal in zip(
            other.column("id").to_pylist(), other.column("energy").to_pylist(), crystals, strict=True
        ):
            assert crystal is not None
            formation[name] = energy + scheme.correction(composition(crystal.atomic_numbers.tolist()), crystal)
    names = placed.table.column("id").to_pylist()
    both = np.array([name in formation for name in names])
    heights = []
    for k in np.flatnonzero(both):
        counts = composition(placed.numbers[k])
        hull = local_hull(energies, counts, lambda p, c, edit=edits[int(k)]: dft_only(edit(p, c), c), True, bias)  # type: ignore[misc]
        heights.append(
            hull.distance(placed.numbers[k], hull.formation_energy(placed.numbers[k], formation[names[k]])).e_above_hull
        )
    found = taken(figures, both)
    found["disagreement"] = np.array(heights) - found["height"]
    return both, found, identity.as_record()


def picture(lines: Path) -> str:
    """The reliability diagrams of WBM's crystals, by one potential and by two."""
    panels: dict[str, dict[str, Any]] = {"at most 0.1 eV/atom above the hull": {}, "at most 0 eV/atom": {}}
    names = {"relaxed, wbm": "CHGNet", "judged, wbm": "CHGNet and SevenNet"}
    for line in lines.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if row.get("rows") in names:
            panels[list(panels)[row["threshold"] == 0.0]][names[row["rows"]]] = row["reliability"]
    return reliability_diagram(panels)


def main() -> None:
    """Learn, report, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--potential", default="chgnet")
    parser.add_argument("--judge", default="sevennet-0")
    parser.add_argument("--reference", default=str(EMBEDDED))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--draw", type=Path, nargs=2, help="lines of JSON of a run, and the picture to make of them")
    arguments = parser.parse_args()
    if arguments.draw:
        arguments.draw[1].write_text(picture(arguments.draw[0]), encoding="utf-8")
        return
    energies = read_energies(arguments.reference)
    new, identity = rows_of(arguments.work / arguments.potential)
    old, _ = rows_of(arguments.work / "known")
    rows = np.vstack([embeddings(t, arguments.potential, arguments.work / n / "embeddings.npz") for t, n in ((new, arguments.potential), (old, "known"))])  # fmt: skip
    table = pa.concat_tables([new, old], promote_options="default")
    wbm = np.arange(table.num_rows) < new.num_rows
    known = pq.read_table(arguments.reference, columns=["id", "dft_formation_energy"])
    dft = dict(zip(known.column("id").to_pylist(), known.column("dft_formation_energy").to_pylist(), strict=True))
    label = np.array([dft[name] for name in table.column("id").to_pylist()])
    numbers = [np.array(z) for z in table.column("atomic_numbers").to_pylist()]
    elemental = by_number(energies.elemental_energies)
    formation = np.array([formation_energy(composition(z.tolist()), e, elemental) for z, e in zip(numbers, table.column("energy").to_pylist(), strict=True)])  # fmt: skip
    part, wanted = folds(table.column("formula").to_pylist()), label - formation
    error, applicability = crossed_errors(numbers, rows, wanted, wbm, part, arguments.work / "crossed.npz")
    for name, some in (("wbm", wbm), ("known", ~wbm)):
        before, after = np.abs(wanted[some]), np.abs((wanted - error)[some])
        print(json.dumps({"rows": name, "n": int(some.sum()), "mean_absolute_error": round(float(before.mean()), 4),
                          "with_expected_error": round(float(after.mean()), 4), "median": round(float(np.median(before)), 4),
                          "median_with_expected_error": round(float(np.median(after)), 4)}), flush=True)  # fmt: skip

    chosen = np.concatenate([np.flatnonzero(wbm), np.flatnonzero(~wbm)[:PLACED]])
    names = table.column("id").to_pylist()
    edits: list[Edit] = [others_wbm if wbm[k] else as_it_stands if _even(names[k]) else without for k in chosen]
    placed = Placed(energies, table.take(pa.array(chosen)), edits)
    figures = placed.figures(error[chosen], applicability[chosen])
    labels, part = label[chosen] - placed.dft_hull, part[chosen]
    labels[np.abs(labels) < ROUNDING] = 0.0  # the entry that is the hull
    groups = {"wbm": wbm[chosen], "known, as it stands": np.array([e is as_it_stands for e in edits]), "known, taken out": np.array([e is without for e in edits])}  # fmt: skip
    by_bias = {t: normal_probability(placed.height, placed.std, t) for t in (0.1, 0.0)}
    stands = groups["known, as it stands"]
    print(
        json.dumps(
            {"rows of a known composition": {name: int((figures["known"][some] > 0).sum()) for name, some in groups.items()}}
        )
    )
    found, relaxed, known_ones = both_kinds(figures, labels, part, groups["wbm"], stands, False)
    report("relaxed", found, labels, placed.height, by_bias, groups)

    folders = [arguments.work / name for name in (arguments.judge, f"known_{arguments.judge}")]
    both, with_judge, judge = judged(energies, placed, edits, figures, folders)
    also, by_two, known_by_two = both_kinds(with_judge, labels[both], part[both], groups["wbm"][both], stands[both], True)
    one = {t: p[both] for t, p in found.items()}
    report("judged", also, labels[both], placed.height[both], one, {name: some[both] for name, some in groups.items()})

    header: dict[str, Any] = {"format": FORMAT, "potential": identity.as_record(), "judge": judge}
    model = regression(numbers, rows, wanted, wbm, np.arange(len(wbm)), header)
    sampled = as_sampled(energies, arguments, model, relaxed, known_ones)
    parts = {"relaxed": relaxed, "known": known_ones, "judged": by_two, "judged_known": known_by_two, "sampled": sampled}
    print(json.dumps({name: calibration.as_record() for name, calibration in parts.items()}))
    if arguments.out:
        header["calibrations"] = {name: calibration.as_record() for name, calibration in parts.items()}
        EnergyErrors(**{**vars(model), "header": header}).save(arguments.out)


def _even(name: str) -> bool:
    return int(hashlib.sha256(f"{name} placed".encode()).hexdigest(), 16) % 2 == 0


def as_sampled(
    energies: ReferenceEnergies, arguments: argparse.Namespace, model: EnergyErrors, relaxed: Calibration, known: Calibration
) -> Calibration:
    """The calibration of crystals as sampled, by their probabilities at rest."""
    place = arguments.work / "sampled" / "relaxed.parquet"
    table = pq.read_table(place)
    table = table.filter(pc.equal(table.column("status"), OK))
    rows = embeddings(table, arguments.potential, place.with_suffix(".npz"))
    placed = Placed(energies, table, [as_it_stands] * table.num_rows)
    error, applicability = model.predict([np.array(z) for z in placed.numbers], rows)
    at_rest = placed.figures(error, applicability)
    start = table.column("energy_initial").to_numpy() - table.column("energy").to_numpy() + placed.height
    figures = {**at_rest, "height": start, "error": np.zeros(len(start)), "applicability": np.ones(len(start))}
    part = folds(table.column("formula").to_pylist())
    soft = {
        t: np.where(at_rest["known"] > 0, known.probability(at_rest, t), relaxed.probability(at_rest, t)) for t in THRESHOLDS
    }
    found = cross_fitted(figures, start, part, (SAMPLED_LOCATION, SAMPLED_SCALE), np.ones(len(start), bool), soft)
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
