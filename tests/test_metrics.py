"""Counts against counting by hand, intervals and charges against other codes, the join, the ranking, the commands."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner
from discovery_examples import (
    IDENTITY,
    crystal_table,
    disguised,
    fluorite,
    perovskite,
    rock_salt,
    salt_reference,
    sampled_crystals,
    write_reference,
    write_results,
    zincblende,
)

from crystalformer_rl.cli import cli
from crystalformer_rl.crystal.coverage import (
    anonymous_formula,
    chemistries,
    effective_elements,
    effective_number,
    template_name,
)
from crystalformer_rl.crystal.elements import parse_formula
from crystalformer_rl.crystal.prototype import template
from crystalformer_rl.crystal.structure import Crystal
from crystalformer_rl.discovery.candidates import candidates
from crystalformer_rl.discovery.charge import charge_balanced
from crystalformer_rl.discovery.cif import cif_text
from crystalformer_rl.discovery.evaluation import StageTables, evaluated
from crystalformer_rl.discovery.known_structures import Known
from crystalformer_rl.discovery.matching import to_structure
from crystalformer_rl.discovery.metrics import metrics
from crystalformer_rl.discovery.novelty_table import novelty_table as novelty
from crystalformer_rl.discovery.pareto import hypervolume, pareto_front
from crystalformer_rl.discovery.protocols import PROTOCOLS
from crystalformer_rl.discovery.ranking import Ranking
from crystalformer_rl.errors import InputError
from crystalformer_rl.intervals import difference_interval, odds_ratio, wilson_interval
from crystalformer_rl.reference.identity import PotentialIdentity
from crystalformer_rl.rewards.algebra import Reward
from crystalformer_rl.rewards.at_rest import rewards_at_rest
from crystalformer_rl.rewards.reward_settings import RewardSettings, TermSettings
from crystalformer_rl.stages.rank import rank
from crystalformer_rl.tables.column import make_table
from crystalformer_rl.tables.discovery_columns import CANDIDATES, EVALUATED, METRICS
from crystalformer_rl.tables.energy_columns import HULL, RELAXED
from crystalformer_rl.tables.parquet import read_table, write_table
from crystalformer_rl.tables.provenance import read_provenance, with_record


@pytest.mark.parametrize(("count", "n"), [(0, 10), (10, 10), (1, 7), (84, 256), (1, 100_000)])
def test_wilson_interval_is_the_published_formula(count, n):
    """E. B. Wilson (1927): the fractions p for which (count/n - p)² = z² p (1 - p)/n."""
    share, z2 = count / n, 1.959963984540054**2
    roots = np.roots([1 + z2 / n, -(2 * share + z2 / n), share**2])
    assert wilson_interval(count, n) == pytest.approx(sorted(np.clip(roots.real, 0, 1)), abs=1e-9)


def test_wilson_interval_of_nothing_says_nothing():
    assert wilson_interval(0, 0) == (0.0, 1.0)


def test_the_odds_ratio_has_woolfs_interval():
    found = odds_ratio((300, 512), (192, 512))
    half = 1.959964 * math.sqrt(sum(1 / count for count in (300, 212, 192, 320)))
    assert found.value == pytest.approx(300 * 320 / (212 * 192))
    assert found.low == pytest.approx(found.value * math.exp(-half), rel=1e-5)
    assert found.high == pytest.approx(found.value * math.exp(half), rel=1e-5)
    assert odds_ratio((5, 5), (1, 5)).high is None


def test_difference_interval_is_newcombes():
    # Newcombe (1998), table II, method 10: 56/70 against 48/80, and 9/10 against 3/10; p1 - p2 there.
    low, high = difference_interval((48, 80), (56, 70))
    assert (low, high) == pytest.approx((0.0524, 0.3339), abs=5e-5)
    low, high = difference_interval((3, 10), (9, 10))
    assert (low, high) == pytest.approx((0.1705, 0.8090), abs=5e-5)


def test_charge_balance_of_known_cases():
    def balanced(formula: str) -> bool:
        from pymatgen.core import Composition

        return charge_balanced([e.Z for e, n in Composition(formula).items() for _ in range(int(n))])

    assert all(balanced(f) for f in ("NaCl", "Fe3O4", "SrTiO3", "Cs2LiLuF6", "Si", "NiTi", "Cu3Au"))
    assert not any(balanced(f) for f in ("NaCl2", "SrTiF", "KO3Cl7"))


def test_charge_balance_is_pymatgens_guess(real_crystals):
    from pymatgen.core import Composition, Element

    rows = real_crystals.column("atomic_numbers").to_pylist()
    for i in np.random.default_rng(2).choice(len(rows), 120, replace=False):
        elements = {z: Element.from_Z(z) for z in set(rows[i])}
        composition = Composition({elements[z].symbol: n for z, n in Counter(rows[i]).items()}).reduced_composition
        if len(elements) == 1 or all(e.is_metal for e in elements.values()) or composition.num_atoms > 14:
            continue
        assert charge_balanced(rows[i]) == bool(composition.oxi_state_guesses()), composition


def stages_of(crystals: list[Crystal | None], rows: list[dict], tmp_path: Path) -> tuple[pa.Table, StageTables]:
    """Stage tables with the given figures; `rows` hold relaxed, hull and sampled statuses and energies."""
    ids = [f"c{i}" for i in range(len(crystals))]
    sampled = crystal_table(crystals, ids, [row.get("sampled", "ok") for row in rows])
    status = [row.get("sampled") or row.get("relaxed", "ok") for row in rows]
    relaxed = make_table(
        RELAXED,
        {name: sampled.column(name).to_pylist() for name in ("id", "formula", "atomic_numbers", "frac_coords", "lattice")}
        | {
            "space_group": [225] * len(ids),
            "converged": [s == "ok" for s in status],
            "evaluations": [3] * len(ids),
            "status": status,
        },
    )
    above = [row.get("above") for row in rows]
    hull = make_table(
        HULL,
        {
            "id": ids,
            "e_above_hull": above,
            "e_above_hull_initial": [row.get("initial") for row in rows],
            "below_hull": [None if x is None else max(-x, 0.0) for x in above],
            "hull_support": [None if x is None else i for i, x in enumerate(above)],
            "status": [row.get("hull") or s for row, s in zip(rows, status, strict=True)],
        },
    )
    known = Known.from_reference(write_reference(tmp_path / "reference.parquet", salt_reference()))
    return sampled, StageTables(relaxed, hull, novelty(relaxed, known))


@pytest.fixture
def by_hand(tmp_path):
    """Nine crystals whose verdicts are plain to see."""
    close = Crystal(np.array([11, 17]), np.array([[0, 0, 0], [0.03, 0, 0.0]]), np.eye(3) * 5)
    cases = [
        (rock_salt("Na", "Cl"), {"above": 0.0, "initial": 0.05}),  # stable, retrieved
        (fluorite("Mg", "F"), {"above": 0.05, "initial": 0.3}),  # stable after relaxation, novel: S.U.N.
        (fluorite("Mg", "F", 5.2), {"above": 0.05, "initial": 0.02}),  # its repeat
        (rock_salt("K", "Br", 6.6), {"above": -0.05, "initial": 0.1}),  # rediscovered, S.U.N. before and after
        (zincblende("Na", "Cl"), {"above": -0.4, "initial": -0.2}),  # far below the hull, and as stable as on it
        (fluorite("Na", "Cl"), {"above": 0.10001, "initial": 0.5}),  # just unstable; not charge-balanced
        (None, {"sampled": "no_crystal"}),
        (close, {"relaxed": "overlapping_atoms"}),  # no valid crystal
        (perovskite("Ba", "Zr", "O", 4.2), {"hull": "no_reference_energy"}),  # valid, novel, no energy
    ]
    sampled, stages = stages_of([c for c, _ in cases], [row for _, row in cases], tmp_path)
    return evaluated(sampled, stages, "base")


def test_counts_are_those_by_hand(by_hand):
    row = metrics(by_hand).to_pylist()[0]
    counts = {name.removesuffix("_count"): value for name, value in row.items() if name.endswith("_count")}
    assert counts == {
        "anion": 8, "oxide": 1, "halide": 7, "chalcogenide": 0, "intermetallic": 0,
        "valid": 7, "low_dimensional": 0, "charge_balanced": 7, "completed": 6, "converged": 7, "stable_initial": 4, "stable": 5,
        "on_hull_initial": 1, "on_hull": 3, "far_below_hull": 1, "unique": 6, "novel": 6, "rediscovered": 1, "sun_initial": 2,
        "sun": 3, "sun_new_formula": 1, "sun_credible": 1, "crystalformer_rl_sun": 3, "mattergen_sun": 2, "lemat_sun": 1, "lemat_msun": 1,
        "chemeleon2_sun": 1, "chemeleon2_msun": 1,
        "judged": None, "judged_stable": None, "confirmed": None,
    }  # fmt: skip
    assert row["n"] == 9
    assert row["stable_fraction"] == pytest.approx(5 / 9)
    assert (row["sun_low"], row["sun_high"]) == wilson_interval(3, 9)
    # of 0, 0.05, 0.05, -0.05, -0.4, 0.10001
    assert row["e_above_hull_median"] == pytest.approx(0.025)
    assert row["hull_support_median"] == pytest.approx(np.median([0, 1, 2, 3, 4, 5]))
    assert row["evaluations"] == 27
    assert json.loads(row["known_levels"]) == {"formula": 1, "structure": 2, "substitution": 4}
    assert json.loads(row["failures"]) == {
        "sample": {"no_crystal": 1, "overlapping_atoms": 1},
        "hull": {"no_reference_energy": 1},
    }


def test_coverage_against_numbers_that_are_plain():
    assert effective_number([]) == 0
    assert effective_number("aabbccdd") == pytest.approx(4)
    assert effective_number("aaab") == pytest.approx(4 / 3**0.75)  # exp of the entropy of 3/4 and 1/4
    assert effective_elements([[11, 17], [11, 17, 17]]) == pytest.approx(2)
    assert effective_elements([[11], [17, 19]]) == pytest.approx(np.exp(0.5 * np.log(2) + 0.5 * np.log(4)))
    assert anonymous_formula([38, 22, 8, 8, 8] * 2) == (1, 1, 3)
    perovskites = [template(221, [1, 2, 3]), template(221, [1, 2, 4])]  # A at the corner, and at the centre
    assert {template_name(one) for one in perovskites} == {"221: a b c"}
    classes = {
        "NaCl": {"halide"}, "MgO": {"oxide"}, "LaOF": {"oxide", "halide"}, "ZnS": {"chalcogenide"}, "NiAl": {"intermetallic"},
        "Mg2Si": {"intermetallic"}, "GaAs": set(), "TiN": set(), "Cu": set(), "O2": set(),
    }  # fmt: skip
    for formula, expected in classes.items():
        assert chemistries(parse_formula(formula)) == expected, formula


@pytest.mark.parametrize(("off", "counted"), [(5.9e-9, 1), (-5.9e-9, 1), (9e-7, 1), (1.1e-6, 0)])
def test_what_rounding_moved_is_still_on_the_hull(off, counted, tmp_path):
    sampled, stages = stages_of([fluorite("Mg", "F")], [{"above": off, "initial": off}], tmp_path)
    row = metrics(evaluated(sampled, stages, "base", stable_below=0.0), stable_below=0.0).to_pylist()[0]
    shares = ("on_hull", "on_hull_initial", "stable", "stable_initial", "sun", "lemat_sun", "chemeleon2_sun")
    assert {name: row[f"{name}_count"] for name in shares} == dict.fromkeys(shares, counted)
    assert row["lemat_msun_count"] == 1 - counted


def test_each_protocol_counts_by_its_own_rules():
    plain = {
        "valid": True, "charge_balanced": True, "unique": True, "unique_parent": True, "novel": True, "known_level": "none", "match_role": None,
        "e_above_hull": 0.05, "e_above_hull_initial": 0.05,
    }  # fmt: skip
    crystalformer, mattergen, lemat, meta_lemat, _, meta_chemeleon = PROTOCOLS

    def counts(**other) -> set[str]:
        return {name for name, counted in PROTOCOLS.items() if counted(plain | other)}

    assert counts() == {crystalformer, mattergen, meta_lemat, meta_chemeleon}
    # what the policy learned of an energy alone shows no more than its formula, and is new to nobody
    assert counts(novel=False, match_role="recovered", known_level="formula") == set()
    assert counts(e_above_hull=0.0, e_above_hull_initial=0.0) == set(PROTOCOLS) - {meta_lemat}
    assert counts(e_above_hull=-0.3, e_above_hull_initial=0.3) == {crystalformer, mattergen, lemat}  # relaxation decides
    assert counts(e_above_hull=0.101, e_above_hull_initial=0.2) == set()
    assert counts(charge_balanced=False) == {crystalformer, mattergen, meta_chemeleon}
    assert counts(known_level="ordering", unique_parent=False) == {crystalformer, meta_lemat, meta_chemeleon}
    assert counts(known_level="structure") == {crystalformer}  # a held-out entry: the policy never saw it
    assert counts(known_level="structure", novel=False) == set()
    assert counts(unique=False, unique_parent=False) == set()
    assert counts(e_above_hull=None, unique=None, unique_parent=None) == set()


def test_failed_rows_keep_their_place_with_the_first_status_and_no_verdict(by_hand):
    rows = by_hand.to_pylist()
    assert [row["id"] for row in rows] == [f"c{i}" for i in range(9)]
    assert [(row["failed_stage"], row["status"]) for row in rows[6:]] == [
        ("sample", "no_crystal"), ("sample", "overlapping_atoms"), ("hull", "no_reference_energy"),
    ]  # fmt: skip
    for row in rows[6:]:
        assert row["stable"] is None
        assert row["sun"] is None
    assert rows[8]["novel"] is True


def test_another_threshold(by_hand, tmp_path):
    stricter = metrics(by_hand, 0.1).to_pylist()[0]
    assert stricter["stability_threshold"] == 0.1
    sampled, stages = stages_of([rock_salt("Na", "Cl")], [{"above": 0.05, "initial": 0.0}], tmp_path)
    row = evaluated(sampled, stages, "base", stable_below=0.025).to_pylist()[0]
    assert (row["stable_initial"], row["stable"]) == (True, False)


def test_metrics_with_nothing_known(tmp_path):
    sampled, stages = stages_of([None, None], [{"sampled": "no_crystal"}] * 2, tmp_path)
    row = metrics(evaluated(sampled, stages, "base")).to_pylist()[0]
    assert (row["n"], row["valid_count"], row["stable_fraction"], row["e_above_hull_mean"]) == (2, 0, 0.0, None)


def test_tables_of_other_crystals_are_refused(tmp_path):
    sampled, stages = stages_of([rock_salt("Na", "Cl"), fluorite("Ca", "F")], [{"above": 0.0}] * 2, tmp_path)
    with pytest.raises(InputError, match="relaxed table has a row 'c1'"):
        evaluated(sampled.slice(0, 1), stages, "base")
    with pytest.raises(InputError, match="hull table has no row for crystal 'c1'"):
        evaluated(sampled, StageTables(stages.relaxed, stages.hull.slice(0, 1), stages.novelty), "base")
    with pytest.raises(InputError, match="'c0' occurs twice"):
        evaluated(pa.concat_tables([sampled, sampled]), stages, "base")


def rows_like(by_hand: pa.Table, policy: str, keep: list[int], **figures: list) -> pa.Table:
    data = by_hand.take(keep).to_pydict() | {"policy": [policy] * len(keep)} | figures
    return make_table(EVALUATED, data)


def test_candidates_are_distinct_and_ranked(by_hand):
    base = rows_like(by_hand, "base", list(range(9)))
    tuned = rows_like(by_hand, "tuned", [3, 1, 0], e_above_hull=[-0.06, 0.2, 0.03], id=["t0", "t1", "t2"])
    rows = candidates([base, tuned]).to_pylist()
    assert [row["rank"] for row in rows] == list(range(1, len(rows) + 1))
    assert [(row["policy"], row["id"]) for row in rows] == [
        ("base", "c4"), ("base", "c3"), ("base", "c0"), ("base", "c2"), ("base", "c5"),
    ]  # fmt: skip
    assert [row["found_by"] for row in rows] == [["base"]] + [["base", "tuned"]] * 3 + [["base"]]
    assert [row["found_count"] for row in rows] == [1, 2, 2, 3, 1]
    assert [row["verdict"] for row in rows] == ["known_formula", "rediscovered", "retrieved", "new", "new"]


def test_candidates_by_figure_of_merit(by_hand):
    table = rows_like(by_hand, "base", [0, 1, 3, 4, 5], fom=[5.0, None, 9.0, 100.0, 50.0])
    rows = candidates([table], Ranking.of("fom")).to_pylist()
    # stable ones by merit, one without a merit, then the unstable
    assert [row["id"] for row in rows] == ["c4", "c3", "c0", "c1", "c5"]


def test_candidates_by_the_reward_that_they_earn_at_rest(by_hand):
    table = rows_like(by_hand, "base", [0, 1, 3, 4, 5], band_gap=[5.0, 1.0, None, 9.0, 7.0])
    term = {"term": "band_gap", "weight": 1.0, "only_if": ["e_above_hull < 0.1"], "otherwise": -2.0}
    reward = Reward.of(RewardSettings(terms=[TermSettings(**term)], failure=-9.0))
    earned = dict(zip(table.column("id").to_pylist(), rewards_at_rest(reward, table).tolist(), strict=True))
    assert earned == {"c0": 5.0, "c1": 1.0, "c3": -9.0, "c4": 9.0, "c5": -2.0}  # c3 has no gap, c5 is not stable
    figures = metrics(by_hand)
    ranked, _ = rank({"base": (table, figures)}, Ranking.of("reward"), reward=reward)
    assert [(row["id"], row["reward"]) for row in ranked.to_pylist()] == [
        ("c4", 9.0), ("c0", 5.0), ("c1", 1.0), ("c3", -9.0), ("c5", -2.0),
    ]  # fmt: skip
    assert rank({"base": (table, figures)})[0].column("reward").null_count == 5
    with pytest.raises(InputError, match="no reward is given"):
        rank({"base": (table, figures)}, Ranking.of("reward"))
    with pytest.raises(InputError, match="looks at forces"):
        rewards_at_rest(Reward.of(RewardSettings(terms=[TermSettings(term="force", weight=-1.0)])), table)


def test_crystals_of_no_policys_sample_can_be_candidates(by_hand):
    table, more = rows_like(by_hand, "base", [0, 1]), rows_like(by_hand, "scored", [4, 1], id=["s0", "s1"])
    ranked, figures = rank({"base": (table, metrics(by_hand))}, also=[more])
    assert figures.column("policy").to_pylist() == ["base"]
    found = {row["id"]: row["found_by"] for row in ranked.to_pylist()}
    assert found == {"s0": ["scored"], "c0": ["base"], "c1": ["base", "scored"]}


def test_ranking_does_not_depend_on_the_order_of_rows(by_hand):
    table = rows_like(by_hand, "base", list(range(9)))
    shuffled = table.take([8, 3, 1, 0, 5, 2, 7, 6, 4])
    assert candidates([table]).equals(candidates([shuffled]))


@pytest.mark.parametrize("seed", range(3))
def test_cif_gives_the_crystal_back(seed):
    from pymatgen.analysis.structure_matcher import StructureMatcher
    from pymatgen.core import Structure

    crystals = [rock_salt("Na", "Cl"), zincblende("Zn", "S"), perovskite("Sr", "Ti", "O"), *sampled_crystals("x", 8, seed)]
    for c in crystals:
        if c is None:
            continue
        again = Structure.from_str(cif_text(disguised(c, seed), "1_x"), fmt="cif")
        assert StructureMatcher(scale=False).fit(to_structure(c), again)
        assert again.volume / len(again) == pytest.approx(c.volume / len(c), rel=1e-4)


def test_cif_of_a_crystal_without_symmetry_found(monkeypatch):
    from pymatgen.core import Structure

    import crystalformer_rl.discovery.cif as module
    from crystalformer_rl.crystal.encode import EncodeError

    def fail(_):
        raise EncodeError("no_symmetry")

    monkeypatch.setattr(module, "symmetrize", fail)
    again = Structure.from_str(cif_text(rock_salt("Na", "Cl"), "x"), fmt="cif")
    assert again.composition.reduced_formula == "NaCl"
    assert len(again) == 2


def run(*arguments: object):
    return CliRunner().invoke(cli, [str(a) for a in arguments], catch_exceptions=False)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return write_results(tmp_path_factory.mktemp("run") / "results", n=30)


def evaluate_arguments(results: Path, out: Path, policy: str = "base") -> list[object]:
    return [
        "evaluate", results / "samples" / policy / "0.parquet", "--reference", results / "resources" / "reference.parquet",
        "--relaxed", results / "relaxed" / policy / "0.parquet", "--hull", results / "hull" / f"{policy}.parquet",
        "--novelty", results / "novelty" / f"{policy}.parquet", "--properties", results / "properties" / f"{policy}.parquet",
        "--name", policy, "--out", out,
    ]  # fmt: skip


def test_evaluate_joins_given_tables_and_repeats_its_bytes(results, tmp_path):
    summary = json.loads(run(*evaluate_arguments(results, tmp_path / "again"), "--json").output)
    table = read_table(tmp_path / "again" / "crystals.parquet", EVALUATED)
    assert table.schema.names == [column.name for column in EVALUATED]
    assert table.num_rows == summary["n"] == 30
    assert summary["sun"] == sum(bool(x) for x in table.column("sun").to_pylist())
    for name in ("crystals.parquet", "metrics.parquet"):
        assert (tmp_path / "again" / name).read_bytes() == (results / "evaluation" / "base" / name).read_bytes()
    assert read_provenance(tmp_path / "again" / "metrics.parquet")["potential"] == IDENTITY
    assert set(read_provenance(tmp_path / "again" / "metrics.parquet")["inputs"]) == {
        "samples/base/0.parquet", "relaxed/base/0.parquet", "hull/base.parquet", "novelty/base.parquet",
        "properties/base.parquet", "reference.parquet",
    }  # fmt: skip
    samples = read_table(results / "samples" / "base" / "0.parquet")
    assert table.column("id").to_pylist() == samples.column("id").to_pylist()
    assert table.column("log_prob").to_pylist() == samples.column("log_prob").to_pylist()
    assert table.column("band_gap").null_count < 30


def test_evaluate_refuses_before_it_computes(results, tmp_path):
    other = write_reference(tmp_path / "other.parquet", {"a": (rock_salt("Na", "Cl"), "pretraining")})
    arguments = evaluate_arguments(results, tmp_path / "out")
    with pytest.raises(InputError, match="computed on another reference"):
        run(*[other if argument == results / "resources" / "reference.parquet" else argument for argument in arguments])
    tuned = results / "hull" / "tuned.parquet"
    with pytest.raises(InputError, match="hull table has no row"):
        run(*[tuned if argument == results / "hull" / "base.parquet" else argument for argument in arguments])
    with pytest.raises(InputError, match="occurs twice"):
        run(*arguments, results / "samples" / "base" / "0.parquet")
    for option, value in (("--fmax", "0.01"), ("--max-evaluations", "99")):
        with pytest.raises(InputError, match=f"{option} has no effect on crystals that --relaxed gives"):
            run(*evaluate_arguments(results, tmp_path / "no"), option, value)
    with pytest.raises(InputError, match="exclude each other"):
        run(*arguments, "--skip-properties")
    assert not (tmp_path / "out").exists()


def test_rank_writes_candidates_metrics_and_cifs(results, tmp_path):
    folders = [results / "evaluation" / "base", results / "evaluation" / "tuned"]
    summary = json.loads(run("rank", *folders, "--out", tmp_path, "--json").output)
    table = read_table(tmp_path / "candidates.parquet", CANDIDATES)
    assert table.num_rows == summary["n"]
    assert sum(bool(x) for x in table.column("stable").to_pylist()) == summary["stable"]
    both = read_table(tmp_path / "metrics.parquet", METRICS)
    assert both.column("policy").to_pylist() == ["base", "tuned"]
    best = table.slice(0, 1).to_pylist()[0]
    names = sorted(path.name for path in (tmp_path / "candidates_cif").iterdir())
    assert len(names) == min(20, table.num_rows)
    assert names[0] == f"01_{best['formula']}_{best['space_group']}.cif"
    assert (tmp_path / "candidates_cif" / names[0]).read_text() == best["cif"]
    with pytest.raises(InputError, match="both name the policy 'base'"):
        run("rank", folders[0], folders[0], "--out", tmp_path)


def test_evaluate_runs_the_missing_stages(results, tmp_path, monkeypatch):
    """What is not given comes from one worker, asked in order, once the reference's energies were computed again."""
    asked = []

    class Worker:
        name = "example"
        identity = PotentialIdentity.from_record(IDENTITY)

        def __init__(self, name: str, device: str = "cpu") -> None:
            asked.append("load")

        def __enter__(self):
            return self

        def __exit__(self, *error: object) -> None:
            asked.append("close")

        def ask(self, function: str, **options: object) -> pa.Table:
            asked.append(function.partition(":")[2])
            return pa.table({"deviation": [0.0]})

        def map(self, function, table, columns, **options):
            asked.append(function.partition(":")[2])
            stored = {"relax": "relaxed/base/0", "predict": "properties/base"}[asked[-1]]
            return with_record(
                read_table(results / f"{stored}.parquet"), {"stage": stored.partition("/")[0], "potential": IDENTITY}
            )

    monkeypatch.setattr("crystalformer_rl.potential.client.PotentialWorker", Worker)
    samples, reference = results / "samples" / "base" / "0.parquet", results / "resources" / "reference.parquet"
    hull = ["--hull", results / "hull" / "base.parquet"]
    run("evaluate", samples, "--reference", reference, *hull, "--name", "base", "--out", tmp_path)
    assert asked == ["load", "recompute", "relax", "predict", "close"]
    expected = read_table(results / "evaluation" / "base" / "crystals.parquet")
    assert read_table(tmp_path / "crystals.parquet").equals(expected)
    assert {path.stem for path in tmp_path.iterdir()} == {"crystals", "metrics", "relaxed", "novelty", "properties"}
    assert read_provenance(tmp_path / "relaxed.parquet")["potential"] == IDENTITY


def test_evaluate_from_crystals_to_metrics_with_a_real_potential(tmp_path):
    """Reference, relaxation, hull, novelty and metrics by the commands themselves, nothing precomputed."""
    pytest.importorskip("chgnet", reason="the default potential is not installed")
    entries = {"NaCl": rock_salt("Na", "Cl", 5.6), "LiF": rock_salt("Li", "F", 4.03)}
    known = crystal_table(list(entries.values()), list(entries))
    write_table(tmp_path / "known.parquet", known.append_column("dft_e_above_hull", pa.array([0.0, 0.0])), {})
    # Any zero of energy serves: it cancels in distances between phases of one composition.
    (tmp_path / "elements.json").write_text(json.dumps({"Na": -1.3, "Cl": -1.8, "Li": -1.9, "F": -1.9}))
    reference = tmp_path / "reference.parquet"
    elements = ["--elemental-energies", tmp_path / "elements.json", "--max-evaluations", 30]
    run("reference", tmp_path / "known.parquet", *elements, "--out", reference)
    crystals = [rock_salt("Na", "Cl", 5.25), zincblende("Na", "Cl", 6.1), None, rock_salt("Na", "Cl", 5.9)]
    crystals.append(rock_salt("Na", "F", 4.6))
    write_table(tmp_path / "samples.parquet", crystal_table(crystals), {})
    arguments = ["--reference", reference, "--out", tmp_path / "out", "--skip-properties", "--name", "tuned"]
    with pytest.raises(InputError, match="CHGNet r2scan"):
        run("evaluate", tmp_path / "samples.parquet", *arguments, "--potential", "chgnet-r2scan")
    result = run("evaluate", tmp_path / "samples.parquet", *arguments, "--json")
    summary = json.loads(result.stdout)
    assert (summary["n"], summary["valid"], summary["novel"], summary["unique"]) == (5, 4, 2, 3)
    squeezed, other, none, stretched, unknown = read_table(tmp_path / "out" / "crystals.parquet", EVALUATED).to_pylist()
    for row in (squeezed, stretched):
        assert row["e_above_hull"] == pytest.approx(0, abs=0.003)
        assert row["e_above_hull_initial"] > row["e_above_hull"] + 0.005
        assert (row["match_id"], row["policy"], row["stable"]) == ("NaCl", "tuned", True)
    assert (stretched["unique"], stretched["duplicate_of"]) == (False, "c0")
    # Rock salt is the ground state of NaCl.
    assert other["e_above_hull"] > 0.02
    assert (other["novel"], other["known_level"]) == (True, "formula")
    assert (none["status"], none["failed_stage"], none["e_above_hull"]) == ("no_crystal", "sample", None)
    assert unknown["below_hull"] > 0.5  # the reference lacks it
    # The same crystals with themselves among the phases.
    relaxed = tmp_path / "out" / "relaxed.parquet"
    arguments = ["--reference", reference, "--reference", relaxed, "--relaxed", relaxed, "--skip-properties"]
    run("evaluate", tmp_path / "samples.parquet", *arguments, "--out", tmp_path / "joined")
    joined = read_table(tmp_path / "joined" / "crystals.parquet", EVALUATED).to_pylist()
    assert joined[4]["e_above_hull"] == pytest.approx(0, abs=1e-9)
    assert joined[1]["e_above_hull"] == pytest.approx(other["e_above_hull"], abs=0.003)
    with pytest.raises(InputError, match="further references join nothing"):
        run(
            "evaluate",
            tmp_path / "samples.parquet",
            *arguments,
            "--hull",
            tmp_path / "joined" / "hull.parquet",
            "--out",
            tmp_path,
        )


def test_a_pareto_front_is_what_no_other_beats():
    points = [(1.0, 9.0), (2.0, 5.0), (2.0, 4.0), (5.0, 3.0), (4.0, 2.9), (0.5, 9.0)]
    assert [points[i] for i in pareto_front(points)] == [(5.0, 3.0), (2.0, 5.0), (1.0, 9.0)]
    beaten = {i for i, a in enumerate(points) if any(b != a and b[0] >= a[0] and b[1] >= a[1] for b in points)}
    assert set(pareto_front(points)) == set(range(len(points))) - beaten


def test_a_hypervolume_is_the_area_that_points_beat():
    """By counting random points of the plane; of none it is nothing, and a metal adds nothing."""
    random = np.random.default_rng(0)
    points = [(float(a), float(b)) for a, b in zip(random.uniform(0, 5, 12), random.uniform(1, 11, 12), strict=True)]
    thrown = np.column_stack([random.uniform(0, 5, 200_000), random.uniform(1, 11, 200_000)])
    beaten = np.zeros(len(thrown), bool)
    for gap, eps in points:
        beaten |= (thrown[:, 0] < gap) & (thrown[:, 1] < eps)
    assert hypervolume(points) == pytest.approx(50 * beaten.mean(), rel=0.01)
    assert hypervolume([]) == 0
    assert hypervolume([*points, (0.0, 40.0)]) == hypervolume(points)
