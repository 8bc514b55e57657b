"""Arms side by side: every figure recomputed from the tables, intervals from their definitions, and what is missing."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from comparison_examples import ARMS, BATCH, POLICIES, ROUNDS, UPDATES, rollouts, write_arms
from discovery_examples import crystal, crystal_table, perovskite, rock_salt

from crystalformer_rl.cli import cli
from crystalformer_rl.comparison.arms import summaries
from crystalformer_rl.comparison.curves import curves_table
from crystalformer_rl.comparison.document import differing_settings
from crystalformer_rl.comparison.gain_kept import gain_kept, kept
from crystalformer_rl.comparison.payoff import break_even, payoffs
from crystalformer_rl.comparison.policy_run import Run
from crystalformer_rl.comparison.run_reader import read_runs
from crystalformer_rl.comparison.top import halide_counts
from crystalformer_rl.crystal.encode import encode
from crystalformer_rl.crystal.prototype import kind
from crystalformer_rl.crystal.structure import Crystal
from crystalformer_rl.crystal.structure_type import structure_type
from crystalformer_rl.errors import InputError
from crystalformer_rl.intervals import Estimate, fraction, mean, over_seeds, ratio, wilson_interval
from crystalformer_rl.plotting.arm_curves import spread
from crystalformer_rl.tables.column import make_table
from crystalformer_rl.tables.comparison_columns import ARMS as COLUMNS
from crystalformer_rl.tables.comparison_columns import CURVES
from crystalformer_rl.tables.crystal_columns import SAMPLES
from crystalformer_rl.tables.discovery_columns import EVALUATED
from crystalformer_rl.tables.parquet import read_table, write_table
from crystalformer_rl.tables.provenance import provenance, read_provenance

Rows = list[dict[str, Any]]


def call(*arguments: Any) -> Result:
    return CliRunner().invoke(cli, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of results with arms, and their comparison."""
    folder = write_arms(tmp_path_factory.mktemp("arms"))
    run = call("compare", folder, "--out", folder / "comparison", "--json")
    assert run.exit_code == 0, run.output
    (folder / "said.json").write_text(run.output)
    return folder


@pytest.fixture(scope="module")
def arms(results: Path) -> dict[str, dict[str, Any]]:
    return {row["policy"]: row for row in read_table(results / "comparison" / "arms.parquet", COLUMNS).to_pylist()}


def test_counts_are_those_of_the_tables(results: Path, arms: dict[str, dict[str, Any]]) -> None:
    assert list(arms) == list(POLICIES), "the base policy first; the main run is not an arm"
    for policy, row in arms.items():
        crystals = pq.read_table(results / "evaluation" / policy / "crystals.parquet").to_pylist()
        judged = {r["id"]: r for r in pq.read_table(results / "judge" / f"{policy}.parquet").to_pylist()}
        assert row["n"] == len(crystals)
        for name in ("stable_initial", "stable", "unique", "novel", "sun"):
            assert row[f"{name}_count"] == sum(1 for c in crystals if c[name]), name
            assert row[f"{name}_fraction"] == row[f"{name}_count"] / row["n"]
        metrics = pq.read_table(results / "evaluation" / policy / "metrics.parquet").to_pylist()[0]
        assert row["sun_initial_count"] == metrics["sun_initial_count"]

        def stands(c: dict[str, Any], name: str, judged: dict[str, Any] = judged) -> bool:
            above = judged[c["id"]][f"judge_{name}"]
            return above is not None and above <= 0.1

        assert row["judged_stable_count"] == sum(stands(c, "e_above_hull") for c in crystals)
        assert row["judged_stable_initial_count"] == sum(stands(c, "e_above_hull_initial") for c in crystals)
        assert row["judged_sun_count"] == sum(stands(c, "e_above_hull") and c["unique"] and c["novel"] for c in crystals)
        merits = [c["fom"] for c in crystals if c["stable"] and c["fom"] is not None]
        assert row["stable_fom_mean"] == pytest.approx(np.mean(merits))
        assert row["stable_fom_count"] == len(merits)
        # A metal's is 0, so the mean over all is the insulators' times their share.
        assert row["stable_fom_mean"] == pytest.approx(row["insulators_among_stable"] * row["insulator_fom_mean"])
        assert row["pareto_hypervolume"] == metrics["pareto_hypervolume"] > 0


def test_ratios_and_the_gain_that_remains(arms: dict[str, dict[str, Any]]) -> None:
    base = arms["base"]
    for row in arms.values():
        for name in ("stable_initial", "stable", "sun", "judged_stable"):
            assert row[f"{name}_ratio"] == pytest.approx(row[f"{name}_fraction"] / base[f"{name}_fraction"])
            assert row[f"{name}_ratio_low"] <= row[f"{name}_ratio"] <= row[f"{name}_ratio_high"]
        own, judged = row["stable_ratio"], row["judged_stable_ratio"]
        if own > 1:
            assert row["stable_gain_kept"] == pytest.approx((judged - 1) / (own - 1))
            low, high = row["stable_gain_kept_low"], row["stable_gain_kept_high"]
            assert low is None or low <= row["stable_gain_kept"]
            assert high is None or high >= row["stable_gain_kept"]
        else:
            assert row["stable_gain_kept"] is None
    assert gain_kept(2.0, 1.5) == 0.5
    assert gain_kept(1.5, 0.75) == -0.5
    assert gain_kept(1.0, 1.5) is None
    assert gain_kept(None, 1.5) is gain_kept(1.5, None) is None


def test_what_updates_say(results: Path, arms: dict[str, dict[str, Any]]) -> None:
    for policy in ARMS:
        row, last = arms[policy], pq.read_table(results / "finetune" / policy / f"round_{ROUNDS}" / "updates.parquet")
        assert row["evaluations"] == ROUNDS * UPDATES * (BATCH - 1)
        assert row["updates"] == ROUNDS * UPDATES
        assert row["kl"] == last.column("kl").to_pylist()[-1]
        rewards = pq.read_table(results / "finetune" / policy / f"round_{ROUNDS}" / "rollouts.parquet").to_pylist()
        end = [r["reward"] for r in rewards if r["update"] == ROUNDS * UPDATES]
        assert row["reward_mean"] == pytest.approx(np.mean(end))
    assert arms["base"]["evaluations"] == 0
    assert arms["base"]["kl"] is None


def curve_of(results: Path, policy: str) -> Rows:
    rows = read_table(results / "comparison" / "curves.parquet", CURVES).to_pylist()
    return [row for row in rows if row["policy"] == policy]


def sampled(results: Path, policy: str) -> Rows:
    place = results / "finetune" / policy
    return [r for k in range(1, ROUNDS + 1) for r in pq.read_table(place / f"round_{k}" / "rollouts.parquet").to_pylist()]


def good(row: dict[str, Any]) -> bool:
    return row["status"] == "ok" and row["e_above_hull"] <= 0.1


def kind_of(row: dict[str, Any]) -> Any:
    return kind(row["space_group"], row["wyckoff"], row["elements"]) if row["wyckoff"] else None


def test_curves_of_an_arm_that_learns(results: Path) -> None:
    curve, rows = curve_of(results, "ppo-1"), sampled(results, "ppo-1")
    assert [row["update"] for row in curve] == list(range(1, ROUNDS * UPDATES + 1))
    assert [row["evaluations"] for row in curve] == [(BATCH - 1) * k for k in range(1, ROUNDS * UPDATES + 1)]
    for point in curve:
        own = [row for row in rows if row["update"] == point["update"]]
        seen: set[Any] = set()
        sun = 0
        for row in own:
            first = kind_of(row) not in seen
            seen.add(kind_of(row))
            sun += good(row) and first and not row["known"]
        assert point["n"] == len(own) == BATCH
        assert point["stable_fraction"] == sum(map(good, own)) / BATCH
        assert point["sun_fraction"] == sun / BATCH
        assert point["reward_mean"] == pytest.approx(np.mean([row["reward"] for row in own]))
        assert point["unique_fraction"] == len(seen - {None}) / BATCH


def test_the_curve_of_best_of_n_is_of_the_selection_so_far(results: Path) -> None:
    rows = sampled(results, "best_of_n-0")
    n = pq.read_table(results / "evaluation" / "best_of_n-0" / "metrics.parquet").to_pylist()[0]["n"]
    for point in curve_of(results, "best_of_n-0"):
        so_far = [row for row in rows if row["update"] <= point["update"] and row["status"] == "ok"]
        best: dict[Any, dict[str, Any]] = {}
        for row in sorted(so_far, key=lambda row: (-row["reward"], row["id"])):
            best.setdefault(kind_of(row), row)
        chosen = list(best.values())[:n]
        assert point["n"] == len(chosen)
        assert point["stable_fraction"] == pytest.approx(sum(map(good, chosen)) / len(chosen))
        assert point["sun_fraction"] == pytest.approx(sum(good(r) and not r["known"] for r in chosen) / len(chosen))
        assert point["unique_fraction"] == 1
    assert point["n"] == n, "the selection is full at the end"


def test_a_policy_that_never_moves_selects_only_where_its_crystals_were_scored(results: Path) -> None:
    """Narrower densities alone change what is drawn, but nothing is chosen from it."""
    selecting = next(run for run in read_runs(results) if run.policy == "best_of_n-0")
    assert selecting.selects
    assert not selecting.moves
    drawn = replace(selecting, crystals=[row | {"id": f"drawn-{row['id']}"} for row in selecting.crystals])
    assert not drawn.selects
    assert not drawn.moves
    assert payoffs([selecting, drawn])[1][1] is None
    assert [row["n"] for row in curves_table([drawn]).to_pylist()] == [BATCH] * (ROUNDS * UPDATES)


def test_intervals_by_their_definitions() -> None:
    # Student's t for three values, from the table: 4.303 at two degrees of freedom.
    found = mean([1.0, 2.0, 3.0])
    assert (found.low, found.high) == pytest.approx((2 - 4.30265 / math.sqrt(3), 2 + 4.30265 / math.sqrt(3)), abs=1e-4)
    assert mean([2.0]) == Estimate(2.0)
    assert over_seeds([30], [100]) == fraction(30, 100) == Estimate(0.3, *wilson_interval(30, 100))
    assert over_seeds([10, 50], [100, 100]).low == 0.0
    # Seeds that agree by chance do not make a fraction certain.
    equal = over_seeds([30, 30], [100, 100])
    assert (equal.value, equal.low, equal.high) == (0.3, *wilson_interval(60, 200))


def test_the_interval_of_a_ratio_covers_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    n, first, base = 400, 0.36, 0.24
    inside = 0
    for a, b in zip(rng.binomial(n, first, 2000), rng.binomial(n, base, 2000), strict=True):
        found = ratio(fraction(int(a), n), fraction(int(b), n))
        assert found is not None
        assert found.low is not None
        assert found.high is not None
        inside += found.low <= first / base <= found.high
    assert 0.935 < inside / 2000 < 0.965
    # The delta method on the logarithm, which holds for many crystals.
    found = ratio(fraction(3600, 10_000), fraction(2400, 10_000))
    half = NormalDist().inv_cdf(0.975) * math.sqrt(0.64 / 3600 + 0.76 / 2400)
    assert found is not None
    assert (found.low, found.high) == pytest.approx((1.5 * math.exp(-half), 1.5 * math.exp(half)), rel=2e-3)


def test_ratios_at_the_edges() -> None:
    assert ratio(fraction(3, 10), fraction(0, 10)) is None
    nothing = ratio(fraction(0, 10), fraction(5, 10))
    assert nothing is not None
    assert (nothing.value, nothing.low) == (0, 0)
    assert nothing.high is not None
    assert 0 < nothing.high < 2
    rare = ratio(fraction(1, 10), fraction(1, 1000))
    assert rare is not None
    assert rare.low is not None
    assert 0 < rare.low < rare.value == 100
    assert ratio(Estimate(2.0), fraction(1, 2)) == Estimate(4.0)
    unbounded = ratio(fraction(1, 2), Estimate(1.0, -1.0, 3.0))
    assert unbounded is not None
    assert unbounded.high is None


def test_arms_over_their_seeds(results: Path, arms: dict[str, dict[str, Any]]) -> None:
    found = summaries(pq.read_table(results / "comparison" / "arms.parquet"))
    assert list(found) == ["base", "best_of_n", "ppo", "sft"]
    seeds = [arms["ppo-0"], arms["ppo-1"]]
    assert found["ppo"].seeds == [0, 1]
    assert found["ppo"].shares["stable"] == over_seeds([r["stable_count"] for r in seeds], [r["n"] for r in seeds])
    assert found["ppo"].ratios["stable"] == ratio(found["ppo"].shares["stable"], found["base"].shares["stable"])
    assert found["sft"].shares["sun"] == fraction(arms["sft-0"]["sun_count"], arms["sft-0"]["n"])
    said = json.loads((results / "said.json").read_text())
    assert said["arms"]["ppo"]["shares"]["stable"]["value"] == found["ppo"].shares["stable"].value


def test_the_document_says_it(results: Path, arms: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    text = (results / "comparison" / "comparison.md").read_text()
    base = arms["base"]
    share = f"{100 * base['stable_initial_fraction']:.1f} %"
    low, high = (100 * base[f"stable_initial_{end}"] for end in ("low", "high"))
    assert f"| base | {share} ({low:.1f} to {high:.1f}) | 1 |" in text
    assert "| sft | algorithm sft | 0 | 6 | 66 | `" in text
    assert "best of all samples of the base policy" in text
    assert f"3 arms sample and score the same number of crystals, {ROUNDS * UPDATES * BATCH} a seed" in text
    assert '`{"failure": -1.0, "terms": [{"term": "e_above_hull", "weight": -1.0}]}`' in text
    assert "](comparison.svg)" in text
    assert "The judge, second, had no part" in text
    assert all(len(set(map(len, table))) == 1 for table in tables(text)), "every row has as many cells as its head"

    assert call("compare", results, "--out", tmp_path / "out").exit_code == 0
    for name in ("arms.parquet", "curves.parquet", "top.parquet", "comparison.svg", "comparison.md"):
        assert (tmp_path / "out" / name).read_bytes() == (results / "comparison" / name).read_bytes(), name


def test_the_documentation_is_made_of_comparisons(results: Path, tmp_path: Path) -> None:
    script = Path(__file__).resolve().parents[1] / "scripts" / "write_results.py"
    out = tmp_path / "results.md"

    def write(preset: str, place: Path = results.parent) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, script, preset, "--results", place, "--out", out]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    assert write(results.name).returncode == 0
    text, own = out.read_text(), (results / "comparison" / "comparison.md").read_text()
    assert tables(text) == tables(own)
    assert [line for line in text.splitlines() if line.startswith("# ")] == ["# What fine-tuning reached"]
    assert text.count("\n### ") == own.count("\n## ")
    picture = tmp_path / f"results-{results.name}.svg"
    assert f"]({picture.name})" in text
    assert picture.read_bytes() == (results / "comparison" / "comparison.svg").read_bytes()

    # A preset that was run later joins the one before, and takes its own place again.
    for name in ("ehull-small", "ehull-long", "ehull-small"):
        (tmp_path / name).unlink(missing_ok=True)
        (tmp_path / name).symlink_to(results)
        assert write(name, tmp_path).returncode == 0
    text = out.read_text()
    heads = [line for line in text.splitlines() if line.startswith("## ")]
    assert heads == ["## The default way with five times the crystals", "## Ways to fine-tune, at 10,240 crystals"]
    assert text.count("\n### ") == 2 * own.count("\n## ")

    refused = write("absent")
    assert refused.returncode == 1
    assert "snakemake compare --cores all --configfile workflow/presets/absent.yaml" in refused.stderr


def tables(text: str) -> list[list[list[str]]]:
    blocks = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    return [[line.strip("|").split("|") for line in block] for block in blocks]


def test_the_best_by_figure_of_merit(results: Path) -> None:
    top = pq.read_table(results / "comparison" / "top.parquet")
    rows = top.to_pylist()
    assert [row["rank"] for row in rows] == list(range(1, len(rows) + 1))
    assert [row["fom"] for row in rows] == sorted((row["fom"] for row in rows), reverse=True)
    crystals = {
        (policy, row["id"]): row
        for policy in ARMS
        for row in pq.read_table(results / "evaluation" / policy / "crystals.parquet").to_pylist()
    }
    for row in rows:
        source = crystals[row["policy"], row["id"]]
        assert source["stable"]
        known = "known_formula" if source["known_level"] == "formula" else "new"
        assert row["verdict"] == (
            "retrieved" if not source["novel"] else "rediscovered" if source["rediscovered"] else known
        )
        assert row["match_id"] == source["match_id"]
    best = max(c["fom"] for c in crystals.values() if c["stable"] and c["fom"] is not None)
    assert rows[0]["fom"] == best
    kinds = [row["structure_type"] for row in rows]
    assert halide_counts(top) == (kinds.count("halide elpasolite"), kinds.count("halide perovskite"))
    pairs = [(row["formula"], row["structure_type"]) for row in rows if row["structure_type"] != "other"]
    assert len(set(pairs)) == len(pairs), "each structure once"


def test_without_a_judge(results: Path, tmp_path: Path) -> None:
    folder = tmp_path / "results"
    shutil.copytree(results, folder, ignore=shutil.ignore_patterns("judge"))
    run = call("compare", folder, "--out", tmp_path / "out")
    assert run.exit_code == 0, run.output
    rows = pq.read_table(tmp_path / "out" / "arms.parquet").to_pylist()
    assert all(row["judged_stable_count"] is None and row["stable_gain_kept"] is None for row in rows)
    text = (tmp_path / "out" / "comparison.md").read_text()
    assert "judge" not in text.lower().replace("judged |", "").replace("| judged", "")


def test_one_seed_and_a_choice_of_policies(results: Path, tmp_path: Path) -> None:
    run = call("compare", results, "--only", "sft-0", "--out", tmp_path)
    assert run.exit_code == 0, run.output
    assert [row["policy"] for row in pq.read_table(tmp_path / "arms.parquet").to_pylist()] == ["base", "sft-0"]
    text = (tmp_path / "comparison.md").read_text()
    assert "Seed by seed" not in text
    assert f"One arm samples and scores {ROUNDS * UPDATES * BATCH} crystals a seed; it starts from the base policy" in text
    assert set(pq.read_table(tmp_path / "curves.parquet").column("arm").to_pylist()) == {"sft"}


def test_settings_that_differ() -> None:
    settings = {"a": {"tau": 0.1, "algorithm": "ppo", "seed": 0}, "b": {"tau": 0.1, "algorithm": "sft", "seed": 1}}
    assert differing_settings(settings) == {"a": {"algorithm": "ppo"}, "b": {"algorithm": "sft"}}


def test_labels_keep_apart_and_near() -> None:
    assert spread([0.1, 0.5], 0.05) == [0.1, 0.5]
    assert spread([0.5, 0.5, 0.5], 0.1) == pytest.approx([0.4, 0.5, 0.6])
    places = spread([0.1, 0.12, 0.3, 0.31, 0.9], 0.06)
    assert all(b - a > 0.06 - 1e-9 for a, b in pairwise(places))
    assert np.abs(np.subtract(places, [0.1, 0.12, 0.3, 0.31, 0.9])).max() < 0.03


# Structure types


def sites_of(c: Crystal) -> tuple[int, list[int], list[int]]:
    sites = encode([c])[0][0]
    assert sites is not None
    return sites.space_group, sites.wyckoff.tolist(), sites.elements.tolist()


FCC = np.array([[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])


def on_fcc(symbols: str, *places: float) -> Crystal:
    """Atoms on the body diagonal of a primitive face-centred cell."""
    return crystal(symbols, [[x, x, x] for x in places], FCC * 6.0)


@pytest.mark.parametrize(
    ("made", "name"),
    [
        (rock_salt("Na", "Cl"), "rock salt"),
        (crystal("Cs Cl", [[0, 0, 0], [0.5, 0.5, 0.5]], np.eye(3) * 4.1), "caesium chloride"),
        (on_fcc("Zn S", 0, 0.25), "zinc blende"),
        (on_fcc("Ca F F", 0, 0.25, 0.75), "fluorite"),
        (on_fcc("O Li Li", 0, 0.25, 0.75), "antifluorite"),
        (on_fcc("Mg Si Mg", 0.25, 0, 0.75), "antifluorite"),
        (on_fcc("Ni Mn Sb", 0.25, 0, 0.5), "half-Heusler"),
        (on_fcc("Mn Al Cu Cu", 0, 0.5, 0.25, 0.75), "full Heusler"),
        (on_fcc("Li Mg Pd Sn", 0, 0.25, 0.5, 0.75), "quaternary Heusler"),
        (on_fcc("Hg Hg Cu Ti", 0, 0.25, 0.5, 0.75), "inverse Heusler"),
        (perovskite("Cs", "Ca", "F"), "halide perovskite"),
        (perovskite("Cs", "Ca", "F", corner="b"), "halide perovskite"),
        (perovskite("Sr", "Ti", "O"), "perovskite"),
        (perovskite("C", "Mn", "Ni"), "anti-perovskite"),
        (crystal("Si Si", [[0, 0, 0], [0.25] * 3], FCC * 5.4), "other"),
        (crystal("Cu", [[0, 0, 0]], FCC * 3.6), "other"),
    ],
)
def test_structure_types(made: Crystal, name: str) -> None:
    assert structure_type(*sites_of(made)) == name


def test_elpasolites_by_their_anion() -> None:
    """Cs2LiLuF6, whichever of the octahedra is at the origin, and its like with other anions."""
    assert structure_type(225, [1, 2, 3, 5], [3, 71, 55, 9]) == "halide elpasolite"
    assert structure_type(225, [1, 2, 3, 5], [71, 3, 55, 9]) == "halide elpasolite"
    assert structure_type(225, [1, 2, 3, 5], [12, 74, 56, 8]) == "elpasolite"
    assert structure_type(225, [1, 3, 5], [78, 19, 17]) == "halide K2PtCl6"
    assert structure_type(225, [1, 2, 3], [3, 71, 9]) == "full Heusler"
    assert structure_type(1, [1, 1], [3, 9]) == "other"


# Best of N


@pytest.fixture
def rolled(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"round_{k}.parquet" for k in (1, 2)]
    for k, path in enumerate(paths):
        write_table(path, rollouts("base", 1 + 3 * k, seed=7 + k), provenance("finetune", {}))
    return paths


def test_select_takes_the_best_of_each_kind(rolled: list[Path], tmp_path: Path) -> None:
    rows = [row for path in rolled for row in pq.read_table(path).to_pylist() if row["status"] == "ok"]
    best: dict[Any, dict[str, Any]] = {}
    for row in sorted(rows, key=lambda row: (-row["reward"], row["id"])):
        best.setdefault(kind_of(row), row)
    expected = list(best.values())
    assert len(expected) < len(rows), "some kinds come twice"

    out = tmp_path / "samples.parquet"
    run = call("select", *rolled, "--n", 10, "--out", out, "--json")
    assert run.exit_code == 0, run.output
    found = pq.read_table(out)
    assert found.column_names == [column.name for column in SAMPLES]
    assert found.column("id").to_pylist() == [row["id"] for row in expected[:10]]
    assert found.column("lattice").to_pylist() == [row["lattice"] for row in expected[:10]]
    assert json.loads(run.output)["kinds"] == len(expected)
    assert set(read_provenance(out)["inputs"]) == {"round_1.parquet", "round_2.parquet"}

    assert call("select", *rolled, "--n", 4, "--offset", 6, "--out", tmp_path / "later.parquet").exit_code == 0
    later = pq.read_table(tmp_path / "later.parquet").column("id").to_pylist()
    assert later == [row["id"] for row in expected[6:10]]

    too_many = call("select", *rolled, "--n", 10, "--offset", len(expected) - 9, "--out", tmp_path / "none.parquet")
    assert isinstance(too_many.exception, InputError)
    assert f"without failed ones, only {len(expected)} are of different kinds" in str(too_many.exception)
    assert not (tmp_path / "none.parquet").exists()
    failed = pq.read_table(rolled[0])
    statuses = pa.array(["potential_failed"] * failed.num_rows)
    write_table(tmp_path / "failed.parquet", failed.set_column(failed.column_names.index("status"), "status", statuses), {})
    nothing = call("select", tmp_path / "failed.parquet", "--n", 1, "--out", tmp_path / "none.parquet")
    assert "only 0 are of different kinds" in str(nothing.exception)
    fewer = tmp_path / "fewer.parquet"
    done = call("select", *rolled, "--n", 10 * len(expected), "--or-fewer", "--out", fewer, "--json")
    assert json.loads(done.output)["n"] == len(expected)
    twice = call("select", rolled[0], rolled[0], "--n", 1, "--out", tmp_path / "none.parquet")
    assert "ids occur twice" in str(twice.exception)


# The judge


@pytest.fixture(scope="module")
def judge_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Crystals, the same relaxed (stretched by hand here), and a hull in the potential that judges."""
    folder = tmp_path_factory.mktemp("judge")
    made: list[Crystal | None] = [rock_salt("Na", "Cl", 5.4), rock_salt("K", "Cl", 6.0), None, rock_salt("Na", "Br", 5.9)]
    relaxed = [rock_salt("Na", "Cl", 5.65), rock_salt("K", "Cl", 6.3), None, None]
    ids = ["a", "b", "c", "d"]
    write_table(folder / "samples.parquet", crystal_table(made, ids), {})
    statuses = ["ok", "ok", "no_crystal", "exploded"]
    # Another order of rows, as nothing promises one.
    table = crystal_table(relaxed, ids, statuses).take([3, 1, 0, 2])
    write_table(folder / "relaxed.parquet", table, {})
    known = [rock_salt("Na", "Cl", 5.69), rock_salt("K", "Cl", 6.38), rock_salt("Na", "Br", 6.0), sodium()]
    write_table(folder / "known.parquet", crystal_table(known, ["k1", "k2", "k3", "na"]).drop_columns(["status"]), {})
    run = call("reference", folder / "known.parquet", "--potential", "chgnet-r2scan", "--elemental-energies", "lowest",
               "--hull-only", "--out", folder / "judge.parquet")  # fmt: skip
    assert run.exit_code == 0, (run.output, run.exception)
    return folder


def sodium() -> Crystal:
    return crystal("Na", [[0, 0, 0]], np.array([[-0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.5, 0.5, -0.5]]) * 4.2)


def test_a_reference_for_the_judge(judge_files: Path) -> None:
    table, record = pq.read_table(judge_files / "judge.parquet"), read_provenance(judge_files / "judge.parquet")
    assert set(table.column("role").to_pylist()) == {"hull_only"}
    assert table.column("lattice").null_count == table.num_rows
    assert record["potential"]["name"] == "CHGNet r2scan"
    energies = dict(zip(table.column("id").to_pylist(), table.column("energy").to_pylist(), strict=True))
    elements = record["elemental_energies"]
    # The lower of the entry and what relaxation of simple structures finds, which is the same metal.
    assert energies["na"] - 0.02 < elements["Na"] <= energies["na"]
    assert set(elements) == {"Na", "K", "Cl", "Br"}
    assert record["elemental_energies_from"]["Cl"].endswith(", relaxed")
    formation = dict(zip(table.column("id").to_pylist(), table.column("formation_energy").to_pylist(), strict=True))
    assert formation["k1"] == pytest.approx(energies["k1"] - (elements["Na"] + elements["Cl"]) / 2, abs=2e-5)
    # Salts are made of their elements with about 2 eV/atom to spare, in any potential worth the name.
    assert -2.5 < formation["k1"] < -1.5
    assert -2.5 < formation["k2"] < -1.5


def evaluated(files: Path) -> pa.Table:
    """The relaxed crystals as `evaluate` would write them, in the order of the samples."""
    relaxed = read_table(files / "relaxed.parquet").take([2, 1, 3, 0])
    n = relaxed.num_rows
    columns = {
        name: relaxed.column(name).to_pylist()
        for name in ("id", "formula", "atomic_numbers", "frac_coords", "lattice", "status")
    }
    heights = [0.0, 0.02, None, None]
    return make_table(EVALUATED, columns | {"policy": ["base"] * n, "e_above_hull": heights, "e_above_hull_std": [0.02] * n})


def test_judge_keeps_every_row(judge_files: Path, tmp_path: Path) -> None:
    out = tmp_path / "judged.parquet"
    write_table(tmp_path / "crystals.parquet", evaluated(judge_files), {})
    files = (tmp_path / "crystals.parquet", "--samples", judge_files / "samples.parquet")
    run = call("judge", *files, "--potential", "chgnet-r2scan", "--reference", judge_files / "judge.parquet", "--out", out)
    assert run.exit_code == 0, (run.output, run.exception)
    rows = {row["id"]: row for row in pq.read_table(out).to_pylist()}
    assert list(rows) == ["a", "b", "c", "d"]
    assert [row["judge_status"] for row in rows.values()] == ["ok", "ok", "no_crystal", "exploded"]
    # Squeezed crystals are worse than the reference's, those that the judge relaxed as good.
    for name in ("a", "b"):
        assert rows[name]["judge_e_above_hull_initial"] > rows[name]["judge_e_above_hull"] + 0.005
        assert abs(rows[name]["judge_e_above_hull"]) < 0.02
        assert rows[name]["judge_evaluations"] >= 1
    assert rows["b"]["judge_disagreement"] == pytest.approx(rows["b"]["judge_e_above_hull"] - 0.02)
    assert rows["d"]["judge_e_above_hull"] is None
    assert rows["d"]["judge_e_above_hull_initial"] is None
    assert read_provenance(out)["potential"]["name"] == "CHGNet r2scan"


def test_the_first_of_a_ranking_are_judged(judge_files: Path, tmp_path: Path) -> None:
    """Two policies may give a crystal the same id; what the ranking leaves out is not judged."""
    both = evaluated(judge_files).slice(0, 2)
    both = pa.concat_tables([both, both.set_column(1, EVALUATED[1].field(), pa.array(["tuned"] * 2))])
    both = both.append_column("left_out", pa.array(["contains Pb", None, None, None], pa.string()))
    both = both.append_column("verdict", pa.array(["new", "retrieved", "new", "known_formula"]))
    write_table(tmp_path / "candidates.parquet", both, {})
    out = tmp_path / "judged.parquet"
    where = ("--potential", "chgnet-r2scan", "--reference", judge_files / "judge.parquet", "--out", out)
    run = call("judge", tmp_path / "candidates.parquet", "--best", 2, *where)
    assert run.exit_code == 0, (run.output, run.exception)
    rows = pq.read_table(out).to_pylist()
    assert [(row["policy"], row["id"]) for row in rows] == [("tuned", "a"), ("tuned", "b")], "new ones first"
    assert all(row["judge_status"] == "ok" for row in rows)
    write_table(tmp_path / "crystals.parquet", evaluated(judge_files), {})
    run = call("judge", tmp_path / "crystals.parquet", "--best", 2, *where)
    assert "only a table of `rank` says which crystals are the best" in str(run.exception)


def test_judge_refuses_another_potentials_reference(judge_files: Path, tmp_path: Path) -> None:
    write_table(tmp_path / "crystals.parquet", evaluated(judge_files), {})
    files, where = tmp_path / "crystals.parquet", ("--reference", judge_files / "judge.parquet", "--out", tmp_path / "x")
    run = call("judge", files, "--potential", "chgnet", *where)
    assert isinstance(run.exception, InputError)
    assert "use a reference built with the same potential" in str(run.exception)
    write_table(tmp_path / "short.parquet", read_table(judge_files / "samples.parquet").slice(1), {})
    run = call("judge", files, "--samples", tmp_path / "short.parquet", "--potential", "chgnet-r2scan", *where)
    assert isinstance(run.exception, InputError)
    assert "the samples lack the crystal 'a'" in str(run.exception)


def test_the_bootstrap_knows_what_it_cannot_tell() -> None:
    """A gain that both potentials see in every crystal is kept whole; one of three crystals may be none at all."""

    def run(stable: list[bool], judged: list[bool]) -> Run:
        crystals = [dict.fromkeys(("stable", "stable_initial", "sun"), s) | {"unique": True, "novel": True} for s in stable]
        opinions = [dict.fromkeys(("judge_e_above_hull", "judge_e_above_hull_initial"), 0.0 if j else 1.0) for j in judged]
        return Run("x", "x", 0, {}, crystals, opinions)

    half, most = [True, False] * 200, [True, True, True, False] * 100
    found = kept(run(most, most), run(half, half), 0.1)["stable"]
    assert found.value == 1.0
    assert found.low == found.high == 1.0
    other = [True, True, False, False] * 100
    none = kept(run(most, other), run(half, half), 0.1)["stable"]
    assert none.value == 0.0
    assert none.low is not None
    assert none.high is not None
    assert none.low < 0.0 < none.high < 1.0
    few = kept(run([True, True, False], [True, False, False]), run([True, False, False], [True, False, False]), 0.1)[
        "stable"
    ]
    assert few.low is None
    assert few.high is None


# --- what it pays -------------------------------------------------------------


def test_found_are_the_different_new_stable_kinds(results: Path, arms: dict[str, dict[str, Any]]) -> None:
    for policy in ARMS:
        kinds = set()
        for row in sampled(results, policy):
            if row["status"] == "ok" and row["e_above_hull"] <= 0.1 and not row["known"]:
                kinds.add(kind(row["space_group"], row["wyckoff"], row["elements"]))
        assert arms[policy]["sun_found"] == len(kinds) > 0
        assert arms[policy]["sun_found"] == curve_of(results, policy)[-1]["sun_found"]
    assert arms["base"]["sun_found"] is None


def test_fine_tuning_pays_from_where_both_ways_cost_the_same() -> None:
    wanted = break_even(10_000, 2000, 0.5, 0.2)
    assert wanted is not None
    assert 10_000 + (wanted - 2000) / 0.5 == pytest.approx(wanted / 0.2)
    assert break_even(10_000, 6000, 0.5, 0.2) == 0.0, "more on the way than the base policy would have given"
    assert break_even(10_000, 2000, 0.2, 0.2) is None
    assert break_even(10_000, 2000, 0.5, 0.0) is None
