"""Scoring: the worker and its client, what each crystal costs, and scores from end to end."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from potential_examples import perovskite, quartz, rock_salt, rutile, two_close_atoms

from crystalformer_rl.crystal.prototype import kind
from crystalformer_rl.crystal.structure import Crystal, crystal_columns
from crystalformer_rl.crystal.tokens import Sites, primitive, sites_from_table, sort_sites
from crystalformer_rl.errors import InputError
from crystalformer_rl.hull.convex_hull import Hull
from crystalformer_rl.potential.client import PotentialWorker
from crystalformer_rl.potential.protocol import Evaluation, Potential
from crystalformer_rl.potential.relax_settings import RelaxSettings
from crystalformer_rl.potential.relaxation import relax
from crystalformer_rl.properties import PropertyModels, properties_table
from crystalformer_rl.reference.competing import Phase
from crystalformer_rl.rewards.algebra import Reward
from crystalformer_rl.rewards.reward_settings import RewardSettings, TermSettings
from crystalformer_rl.scoring.groups import ANSWERS, FUNCTIONS
from crystalformer_rl.scoring.known_kinds import KnownKinds, known_kinds
from crystalformer_rl.scoring.scorer import Scorer, figures_of, open_scoring
from crystalformer_rl.tables.column import make_table, table_of_rows
from crystalformer_rl.tables.crystal_columns import CRYSTALS
from crystalformer_rl.tables.crystal_columns import STATUS as STATUS_COLUMN
from crystalformer_rl.tables.energy_columns import REFERENCE
from crystalformer_rl.tables.figure_columns import FIGURES
from crystalformer_rl.tables.parquet import write_table
from crystalformer_rl.tables.property_columns import PROPERTIES
from crystalformer_rl.tables.status import STATUSES


@pytest.fixture(scope="session")
def models(root: Path) -> str:
    return str(root / "resources" / "embedded" / "properties.safetensors")


@pytest.fixture
def tests_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker finds the calculators of this module."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))


def table_of(crystals: Sequence[Crystal | None], **more: list[Any]) -> pa.Table:
    data = crystal_columns(crystals) | {"id": [f"c{k}" for k in range(len(crystals))]}
    table = make_table(CRYSTALS, data)
    for name, values in more.items():
        table = table.append_column(name, pa.array(values))
    return table


# --- the worker -----------------------------------------------------------------


def test_the_worker_gives_the_figures_of_the_potential(chgnet: Potential) -> None:
    crystals = [primitive(rock_salt()), None, two_close_atoms(), primitive(rutile()), primitive(quartz())]
    table = table_of(crystals, status=["ok", "no_crystal", "ok", "ok", "no_wyckoff_representative"])
    good = [e for e in chgnet.evaluate([primitive(rock_salt()), primitive(rutile())]) if isinstance(e, Evaluation)]
    statuses = ["ok", "no_crystal", "overlapping_atoms", "ok", "no_wyckoff_representative"]
    with PotentialWorker("chgnet") as worker:
        assert worker.identity == chgnet.identity
        first = figures_of(worker, table)
        assert first.column("id").to_pylist() == ["c0", "c1", "c2", "c3", "c4"]
        assert first.column("status").to_pylist() == statuses
        assert first.column("energy").to_pylist() == [
            pytest.approx(good[0].energy, abs=2e-6), None, None, pytest.approx(good[1].energy, abs=2e-6), None,
        ]  # fmt: skip

        with_forces = figures_of(worker, table, "force")
        assert with_forces.column("status").to_pylist() == statuses
        assert np.array(with_forces.column("energy").to_pylist()[3]) == pytest.approx(good[1].energy, abs=2e-6)
        largest = [
            None if e is None else np.linalg.norm(e.forces, axis=1).max() for e in (good[0], None, None, good[1], None)
        ]
        assert with_forces.column("force").to_pylist() == [
            None if f is None else pytest.approx(f, abs=2e-4) for f in largest
        ]
        assert largest[3] is not None
        assert largest[3] > 0.1

        # A worker that dies is replaced and the call repeated, whatever was asked.
        for group, expected in (("energy", first), ("force", with_forces)):
            assert worker._process is not None
            before = worker._process.pid
            worker._process.kill()
            assert figures_of(worker, table, group).equals(expected)
            assert worker._process.pid != before


def test_the_worker_predicts_properties(chgnet: Potential, models: str) -> None:
    table = table_of([primitive(rock_salt()), None, primitive(rutile())], status=["ok", "no_crystal", "ok"])
    expected = properties_table(PropertyModels.load(models), chgnet, table)
    with PotentialWorker("chgnet", prepare=[(FUNCTIONS["properties"], {"models": models})]) as worker:
        found = figures_of(worker, table, "properties", models)
        assert found.schema.names == [column.name for column in PROPERTIES]
        assert found.column("status").to_pylist() == ["ok", "no_crystal", "ok"]
        for name in ("band_gap", "eps_total_std", "applicability"):
            for ours, theirs in zip(found.column(name).to_pylist(), expected.column(name).to_pylist(), strict=True):
                assert ours == (None if theirs is None else pytest.approx(theirs, abs=1e-4))
        assert figures_of(worker, table.slice(0, 0), "properties", models).schema.names == found.schema.names


def test_properties_come_from_the_potential_that_their_models_learned_from(models: str, tests_importable: None) -> None:
    table = table_of([primitive(rock_salt())])
    with (
        PotentialWorker("ase:calculators:lennard_jones") as other,
        PotentialWorker("chgnet") as own,
    ):
        assert figures_of(other, table, "properties", models).equals(figures_of(own, table, "properties", models))
        assert not figures_of(other, table).equals(figures_of(own, table))


def test_models_that_are_none_are_refused_before_any_work(tmp_path: Path) -> None:
    with (
        pytest.raises(InputError, match=r"models\.safetensors does not exist"),
        PotentialWorker("chgnet", prepare=[(FUNCTIONS["properties"], {"models": str(tmp_path / "models.safetensors")})]),
    ):
        pass


def test_a_worker_that_always_dies_is_one_clear_error(tests_importable: None) -> None:
    with PotentialWorker("ase:calculators:deadly") as worker, pytest.raises(InputError, match="ended twice"):
        figures_of(worker, table_of([primitive(rock_salt())]))


def test_a_crystal_that_kills_its_worker_is_found_and_the_others_are_answered(tests_importable: None) -> None:
    with PotentialWorker("ase:calculators:deadly_to_quartz") as worker:
        found = figures_of(worker, table_of([primitive(s) for s in (rock_salt(), rutile(), quartz(), perovskite())]))
        assert found.column("id").to_pylist() == ["c0", "c1", "c2", "c3"]
        assert found.column("status").to_pylist() == ["ok", "ok", "out_of_memory", "ok"]
        assert found.column("energy").to_pylist() == [-1 / 2, -1 / 6, None, -1 / 5]

        found = figures_of(worker, table_of([primitive(s) for s in (quartz(), rock_salt())]), "force")
        assert found.schema.names == [column.name for column in ANSWERS["force"]]
        assert found.column("status").to_pylist() == ["out_of_memory", "ok"]
        assert found.column("force").to_pylist() == [None, 0.0]


def test_what_a_calculator_cannot_do_is_said_in_a_sentence(tests_importable: None) -> None:
    table = table_of([primitive(rock_salt())])
    with PotentialWorker("ase:calculators:without_forces") as worker:
        with pytest.raises(InputError, match="gives no forces"):
            figures_of(worker, table, "force")
        assert figures_of(worker, table).column("energy").to_pylist() == [-0.5]


def test_prints_of_libraries_do_not_reach_the_stream(tests_importable: None) -> None:
    with PotentialWorker("ase:calculators:noisy") as worker:
        assert figures_of(worker, table_of([primitive(rock_salt())])).column("status").to_pylist() == ["ok"]


def test_the_worker_refuses_a_wrong_name_before_any_work() -> None:
    with pytest.raises(InputError, match="'chgnut' is not a potential; did you mean 'chgnet'"), PotentialWorker("chgnut"):
        pass


def test_neither_side_brings_what_belongs_to_the_other() -> None:
    for module, foreign in (
        ("potential.client", "torch jax pymatgen"),
        ("scoring.scorer", "torch pymatgen ase"),
        ("potential.worker", "jax equinox"),
        ("scoring.figure_answers", "jax equinox"),
    ):
        code = f"import sys, crystalformer_rl.{module}; print(set({foreign.split()}) & set(sys.modules))"
        out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert out.stdout.strip() == "set()"


# --- what is known --------------------------------------------------------------


def test_known_kinds_are_those_of_all_origins_and_axes() -> None:
    known = KnownKinds([(225, [1, 2], [11, 17]), (221, [1, 2, 3], [38, 22, 8])])
    swapped = sort_sites(225, [1, 2], [17, 11], [[0, 0, 0], [0.5, 0.5, 0.5]], (5.8, 5.8, 5.8, 90, 90, 90))
    for sites, expected in ((rock_salt(), True), (swapped, True), (perovskite(), True), (rutile(), False)):
        assert known.has(sites) is expected
        assert (kind(sites.space_group, sites.wyckoff, sites.elements) in known) is expected
    # titanium on oxygen's site is another crystal of the same sketch
    assert not known.has(
        sort_sites(221, [1, 2, 3], [22, 8, 38], [[0, 0, 0], [0.5] * 3, [0, 0.5, 0.5]], (4, 4, 4, 90, 90, 90))
    )
    assert known
    assert not KnownKinds([])
    assert "rock salt" not in known


def test_known_kinds_of_a_reference_are_those_of_its_pretraining_rows(tmp_path: Path, root: Path) -> None:
    crystals = [rock_salt(), rutile(), perovskite()]
    write_table(tmp_path / "reference.parquet", reference_table(crystals, ["pretraining", "held_out", "hull_only"]), {})
    known = known_kinds(tmp_path / "reference.parquet")
    assert [known.has(s) for s in crystals] == [True, False, False]
    with pytest.raises(InputError, match="no column 'role'"):
        known_kinds(_without(tmp_path, "role"))

    embedded = root / "resources" / "embedded" / "reference.parquet"
    known = known_kinds(embedded)
    import pyarrow.parquet as pq

    rows = pq.read_table(embedded, filters=[("role", "=", "pretraining")]).slice(0, 30)
    assert all(s is not None and known.has(s) for s in sites_from_table(rows, "reference"))


def reference_table(crystals: Sequence[Sites], roles: list[str]) -> pa.Table:
    columns = crystal_columns([primitive(s) for s in crystals]) | {
        "id": [f"r{i}" for i in range(len(crystals))],
        "role": roles,
        "space_group": [s.space_group for s in crystals],
        "wyckoff": [s.wyckoff.tolist() for s in crystals],
        "elements": [s.elements.tolist() for s in crystals],
        "status": ["ok"] * len(crystals),
    }
    return make_table(REFERENCE, columns)


def _without(folder: Path, column: str) -> Path:
    path = folder / "less.parquet"
    write_table(path, reference_table([rock_salt()], ["pretraining"]).drop_columns([column]), {})
    return path


# --- scores ---------------------------------------------------------------------

HULL = Hull.of_phases([Phase("NaCl", {11: 1, 17: 1}, -1.0)], {"Na": -1.0, "Cl": -1.0, "Ti": -1.0, "O": -1.0, "Si": -1.0})
KNOWN = KnownKinds([(225, [1, 2], [11, 17])])
ENERGIES = {"NaCl": -1.95, "TiO2": -1.5, "SiO2": -0.5}


class Pretender:
    """A worker that knows the answers, and remembers what it was asked."""

    def __init__(self, statuses: dict[tuple[str, str], str] | None = None) -> None:
        self.asked: list[tuple[str, list[str]]] = []
        self.statuses = statuses or {}

    def map(self, function: str, table: pa.Table, columns: Any, **options: Any) -> pa.Table:
        group = next(name for name, asked in FUNCTIONS.items() if asked == function)
        self.asked.append((group, table.column("id").to_pylist()))
        rows: list[dict[str, Any]] = []
        for row in table.to_pylist():
            status = row["status"] if row["status"] != "ok" else self.statuses.get((group, row["formula"]), "ok")
            values = {"energy": ENERGIES.get(row["formula"]), "force": 0.5, "band_gap": 2.0, "fom": 10.0, "fom_std": 1.0}
            rows.append({"id": row["id"], "status": status, **(values if status == "ok" else {})})
        return table_of_rows(columns, rows)


SITES = [rock_salt(), rutile(), None, quartz(), rock_salt(5.0), perovskite()]
STATUS = ["ok", "ok", "no_crystal", "ok", "overlapping_atoms", "ok"]
DISTANCE = TermSettings(term="e_above_hull", weight=-1.0, clip=[0.0, 1.0])
MERIT = TermSettings(term="fom", weight=0.1, confidence=2.0, only_if=["e_above_hull < 0.1"])


def scored(worker: Pretender, *terms: TermSettings) -> Any:
    reward = Reward.of(RewardSettings(terms=list(terms or [DISTANCE])))
    return Scorer(worker, HULL, reward, KNOWN)(SITES, STATUS)  # type: ignore[arg-type]


def test_scores_come_from_the_hull() -> None:
    worker = Pretender()
    found = scored(worker)
    assert worker.asked == [("energy", ["0", "1", "2", "3", "4", "5"])]
    assert found.status == ["ok", "ok", "no_crystal", "ok", "overlapping_atoms", "potential_failed"]
    assert set(found.status) <= set(STATUSES)
    assert found.reward == pytest.approx([-0.05, 0.0, -1.0, -0.5, -1.0, -1.0])
    assert list(found.figures) == ["energy", "formation_energy", "e_above_hull", "hull_support"]
    assert set(found.figures) <= {column.name for column in FIGURES}
    nothing = [np.nan] * 2
    assert found.figures["energy"][:4] == pytest.approx([-1.95, -1.5, np.nan, -0.5], nan_ok=True)
    assert found.figures["formation_energy"] == pytest.approx([-0.95, -0.5, np.nan, 0.5, *nothing], nan_ok=True)
    assert found.figures["e_above_hull"] == pytest.approx([0.05, -0.5, np.nan, 0.5, *nothing], nan_ok=True)
    assert found.known.tolist() == [True, False, False, False, True, False]
    assert found.evaluations == 4
    assert found.terms["reward_e_above_hull"] == pytest.approx([-0.05, 0.0, np.nan, -0.5, np.nan, np.nan], nan_ok=True)


def test_the_default_reward_is_stability_and_newness() -> None:
    """−1 unstable or failed, 0 known and stable, ½ more for a new kind, and 1 more for a new formula."""
    worker = Pretender()
    score = Scorer(worker, HULL, Reward.of(RewardSettings()), KNOWN)  # type: ignore[arg-type]
    assert score(SITES, STATUS).reward == pytest.approx([0.0, 1.5, -1.0, -1.0, -1.0, -1.0])
    assert score.knows(SITES)[:4].tolist() == [[True, True], [False, False], [False, False], [False, False]]


def test_dear_figures_are_computed_only_where_they_count() -> None:
    worker = Pretender()
    found = scored(worker, MERIT, TermSettings(term="novelty", weight=0.5))
    assert worker.asked[1:] == [("properties", ["0", "1"])]
    assert found.reward == pytest.approx([0.8, 1.3, -1.0, 0.5, -1.0, -1.0])
    assert np.isnan(found.figures["fom"]).tolist() == [False, False, True, True, True, True]
    assert "fom_std" in found.figures
    assert found.evaluations == 4


def test_properties_that_failed_say_why() -> None:
    found = scored(Pretender({("properties", "NaCl"): "unsupported_element", ("properties", "SiO2"): "too_large"}), MERIT)
    assert found.status[:4] == ["unsupported_element", "ok", "no_crystal", "ok"]
    assert found.reward[:4] == pytest.approx([-1.0, 0.8, -1.0, 0.0])
    assert found.figures["e_above_hull"][0] == pytest.approx(0.05)


def test_forces_are_one_evaluation_with_the_energy_or_a_second_pass() -> None:
    always, sometimes = Pretender(), Pretender()
    found = scored(always, TermSettings(term="force", weight=-1.0))
    assert [group for group, _ in always.asked] == ["force"]
    assert found.evaluations == 4
    assert found.reward == pytest.approx([-0.5, -0.5, -1.0, -0.5, -1.0, -1.0])
    found = scored(sometimes, TermSettings(term="force", weight=-1.0, only_if=["e_above_hull < 0.1"]), MERIT)
    assert [(group, len(ids)) for group, ids in sometimes.asked] == [("energy", 6), ("properties", 2), ("force", 2)]
    assert found.reward[:2] == pytest.approx([0.3, 0.3])
    assert found.evaluations == 4 + 2
    refused = Pretender({("force", "NaCl"): "too_large", ("force", "TiO2"): "potential_failed"})
    term = TermSettings(term="force", weight=-1.0, only_if=["e_above_hull < 0.1"])
    assert scored(refused, term).evaluations == 4 + 1  # the potential was not asked about what is refused before


def test_a_batch_without_a_crystal_has_the_same_columns() -> None:
    score = Scorer(Pretender(), HULL, Reward.of(RewardSettings(terms=[MERIT])), KNOWN)  # type: ignore[arg-type]
    nothing, something = score([None], ["no_crystal"]), score(SITES, STATUS)
    assert list(nothing.figures) == list(something.figures)
    assert list(nothing.terms) == list(something.terms)
    assert nothing.evaluations == 0
    assert score([], []).reward.shape == (0,)


def test_the_number_of_workers_changes_nothing() -> None:
    """Chunks have one size, so that the others of a batch are the same; the order is that of the question."""
    from crystalformer_rl.potential.pool import CHUNK, WorkerPool

    crystals = [primitive(rock_salt(5.0 + 0.01 * i)) for i in range(CHUNK + 5)]
    columns = crystal_columns(crystals)
    names = [str(i) for i in range(len(crystals))]
    table = make_table((*CRYSTALS, STATUS_COLUMN), {"id": names, **columns, "status": ["ok"] * len(crystals)})
    found = []
    for workers in (1, 2):
        with closing(WorkerPool("chgnet", workers)) as pool:
            told: list[int] = []
            found.append(pool.map(FUNCTIONS["energy"], table, ANSWERS["energy"], advance=told.append))
            assert sum(told) == len(crystals)
            assert pool.identity.name == "CHGNet 0.3.0"
    assert found[0].equals(found[1])
    assert found[0].column("id").to_pylist() == names
    assert len(set(found[0].column("energy").to_pylist())) == len(names)


# --- from end to end ------------------------------------------------------------


def test_open_scoring_scores_with_the_embedded_files(root: Path, models: str) -> None:
    reference = str(root / "resources" / "embedded" / "reference.parquet")
    with open_scoring(RewardSettings(terms=[DISTANCE]), "chgnet", reference, None, 1) as (score, identity):
        assert identity.name == "CHGNet 0.3.0"
        plain = score([rock_salt(5.6), None], ["ok", "no_crystal"])
    assert plain.status == ["ok", "no_crystal"]
    assert plain.known.tolist() == [True, False]
    assert plain.reward == pytest.approx([-plain.figures["e_above_hull"][0], -1.0])
    assert abs(plain.reward[0]) < 0.1

    merit = RewardSettings(terms=[TermSettings(term="fom", confidence=1.0, only_if=["e_above_hull < 0.1"], otherwise=-1.0)])
    with open_scoring(merit, "chgnet", reference, models, 1) as (score, _):
        found = score([rock_salt(5.6), rock_salt(8.0), None], ["ok", "ok", "no_crystal"])
    assert found.figures["e_above_hull"][0] == pytest.approx(plain.figures["e_above_hull"][0], abs=1e-5)
    assert found.reward == pytest.approx([found.figures["fom"][0] - found.figures["fom_std"][0], -1.0, -1.0])
    assert found.figures["band_gap"][0] == pytest.approx(5.0, abs=1.0)
    assert np.isnan(found.figures["band_gap"][1])


def test_a_crystal_may_be_relaxed_before_it_is_judged(root: Path, chgnet: Potential) -> None:
    reference = str(root / "resources" / "embedded" / "reference.parquet")
    crystals, statuses = [rock_salt(5.2), None, rock_salt(5.9), rock_salt(2.6)], ["ok", "no_crystal", "ok", "ok"]
    terms = [DISTANCE, TermSettings(term="force", weight=-0.1)]
    for most in (1, 4):
        settings = RewardSettings(terms=terms, relax={"max_evaluations": most})
        with open_scoring(settings, "chgnet", reference, None, 1, ahead=True) as (score, _):
            found = score(crystals, statuses)
        walked = relax(chgnet, [s or "no_crystal" for s in crystals], RelaxSettings(max_evaluations=most))
        energies = [np.nan if r.energy is None else r.energy for r in walked]
        assert found.figures["energy"] == pytest.approx(energies, abs=1e-4, nan_ok=True)
        assert found.figures["force"][0] == pytest.approx(walked[0].force_max, abs=1e-3)
        assert found.evaluations == sum(r.evaluations for r in walked)
        assert found.status[:3] == statuses[:3]
        # A lattice that is too small or too large is led towards the one where it rests, one far up nowhere.
        rest = relax(chgnet, [rock_salt(5.6)])[0].sites.lattice_parameters[0]
        assert found.ahead[1] is None
        assert found.ahead[3] is None
        for i in (0, 2):
            assert abs(found.ahead[i].lattice_parameters[0] - rest) < 0.7 * abs(crystals[i].lattice_parameters[0] - rest)
        if most == 1:
            plain_settings = RewardSettings(terms=[DISTANCE])
            with open_scoring(plain_settings, "chgnet", reference, None, 1) as (score, _):
                plain = score(crystals, statuses)
            assert list(plain.ahead) == []
            assert plain.figures["energy"] == pytest.approx(found.figures["energy"], abs=1e-4, nan_ok=True)


def test_open_scoring_refuses_what_does_not_belong_together(root: Path, tmp_path: Path, tests_importable: None) -> None:
    reference = str(root / "resources" / "embedded" / "reference.parquet")
    cases: list[tuple[RewardSettings, str, str]] = [
        (RewardSettings(terms=[MERIT]), reference, "no models are given"),
        (RewardSettings(terms=[TermSettings(term="fum")]), reference, "did you mean 'fom'"),
        (RewardSettings(), reference, "potential"),
    ]
    write_table(tmp_path / "reference.parquet", reference_table([rutile()], ["held_out"]), {})
    cases.append(
        (RewardSettings(terms=[TermSettings(term="novelty")]), str(tmp_path / "reference.parquet"), "can be called new")
    )
    for settings, path, says in cases:
        with pytest.raises(InputError, match=says), open_scoring(settings, "ase:calculators:lennard_jones", path, None, 1):
            pass
