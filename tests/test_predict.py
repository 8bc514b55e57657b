"""Structures of a formula: groups that suit it, candidates, what is relaxed, and textbook ground states."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pymatgen.core import Lattice, Structure

import crystalformer_rl as cf
from crystalformer_rl.crystal.elements import parse_formula
from crystalformer_rl.crystal.encode import symmetrize
from crystalformer_rl.crystal.structure import Crystal
from crystalformer_rl.crystal.tokens import Sites, decode, primitive
from crystalformer_rl.errors import InputError
from crystalformer_rl.front_door.workers import worker
from crystalformer_rl.potential.relax_settings import RelaxSettings
from crystalformer_rl.prediction.common_types import common_types
from crystalformer_rl.prediction.contacts import closest_contact
from crystalformer_rl.prediction.descent import descended
from crystalformer_rl.prediction.formula_groups import space_group_probabilities
from crystalformer_rl.prediction.generation import POLICY, SUBSTITUTION, Proposed
from crystalformer_rl.prediction.known_phase import KnownPhase
from crystalformer_rl.prediction.merging import merged, merged_at_rest
from crystalformer_rl.prediction.policy_candidates import policy_candidates
from crystalformer_rl.prediction.predict_settings import PredictSettings
from crystalformer_rl.prediction.prototype_label import prototype_label
from crystalformer_rl.recovery.prototypes import Prototypes
from crystalformer_rl.report.predicted_lines import predicted_lines, verdict_on
from crystalformer_rl.stages.predict import Means, asked, predict
from crystalformer_rl.tables.column import table_of_rows
from crystalformer_rl.tables.energy_columns import RELAXED
from crystalformer_rl.tables.status import OK, STATUSES

pytestmark = pytest.mark.usefixtures("two_stages")


def sites(group: str | int, lattice: Lattice, elements: list[str], coords: list[list[float]]) -> Sites:
    structure = Structure.from_spacegroup(group, lattice, elements, coords)
    return symmetrize(Crystal(np.array(structure.atomic_numbers), structure.frac_coords, structure.lattice.matrix))


def rock_salt(cation: str, anion: str, a: float) -> Sites:
    return sites("Fm-3m", Lattice.cubic(a), [cation, anion], [[0, 0, 0], [0.5, 0.5, 0.5]])


def caesium_chloride(cation: str, anion: str, a: float) -> Sites:
    return sites("Pm-3m", Lattice.cubic(a), [cation, anion], [[0, 0, 0], [0.5, 0.5, 0.5]])


KNOWN = {
    "NaCl": rock_salt("Na", "Cl", 5.64), "KBr": rock_salt("K", "Br", 6.60), "NaBr": rock_salt("Na", "Br", 5.97),
    "RbCl": rock_salt("Rb", "Cl", 6.58), "MgO": rock_salt("Mg", "O", 4.21), "CaO": rock_salt("Ca", "O", 4.81),
    "AgZn": caesium_chloride("Ag", "Zn", 3.16), "AuZn": caesium_chloride("Au", "Zn", 3.15), "AuCd": caesium_chloride("Au", "Cd", 3.32),
    "AgCd": caesium_chloride("Ag", "Cd", 3.33),
}  # fmt: skip


@pytest.fixture(scope="module")
def prototypes() -> Prototypes:
    return Prototypes(list(KNOWN), list(KNOWN.values()))


# --- p(g | formula) ------------------------------------------------------------------------


def test_the_groups_of_a_formula_are_those_of_compounds_like_it(prototypes: Prototypes) -> None:
    trained = np.linspace(1, 2, 230)
    salt = space_group_probabilities(parse_formula("KCl"), prototypes, trained, sharpness=3.0)
    alloy = space_group_probabilities(parse_formula("ZnAg"), prototypes, trained, sharpness=3.0)
    for found in (salt, alloy):
        assert found.sum() == pytest.approx(1)
        assert (found > 0).all()
    assert salt[224] > salt[220] > salt[0]
    assert alloy[220] / alloy[224] > 2 * salt[220] / salt[224]
    # of a stoichiometry that nobody knows, and of a policy that does not say what it saw
    assert space_group_probabilities(parse_formula("Li3YCl6"), prototypes, trained) == pytest.approx(trained / trained.sum())
    assert space_group_probabilities(parse_formula("Li3YCl6"), prototypes, [0.0] * 230) == pytest.approx(
        np.full(230, 1 / 230)
    )


def test_a_formula_says_nothing_of_its_own_group() -> None:
    few = Prototypes(["NaCl", "AgZn"], [KNOWN["NaCl"], KNOWN["AgZn"]])
    found = space_group_probabilities(parse_formula("NaCl"), few, [1.0] * 230)
    assert found[220] > found[224]


# --- candidates ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def embedded(root: Path) -> Path:
    return root / "resources" / "embedded"


@pytest.fixture(scope="module")
def network(embedded: Path) -> tuple[Any, list[float]]:
    from crystalformer_rl.policy.checkpoint import load_policy

    policy, card = load_policy(embedded / "policy.safetensors")
    return policy, [float(n) for n in card["space_group_counts"]]


def test_candidates_of_a_policy_have_the_formula_and_depend_on_seed_and_number_alone(
    network: tuple[Any, list[float]],
) -> None:
    policy, weights = network
    finished: list[int] = []
    found = policy_candidates(policy, parse_formula("SrTiO3"), 24, weights, seed=3, advance=finished.append)
    assert sum(finished) == 24
    fewer = policy_candidates(policy, parse_formula("SrTiO3"), 5, weights, seed=3)
    for one, again in zip(found, fewer, strict=False):
        assert (one.status, one.draws, one.space_group) == (again.status, again.draws, again.space_group)
        assert one.log_prob == again.log_prob
        if one.sites is not None and again.sites is not None:
            assert np.array_equal(one.sites.frac_coords, again.sites.frac_coords)
    for one in found:
        assert one.status in STATUSES
        assert (one.sites is not None) == (one.status == OK)
        assert one.behaviour_log_prob >= one.log_prob - 1e-3
        assert one.draws == 4 or one.status == OK
        if one.sites is not None:
            assert decode(one.sites).formula == "SrTiO3"
            assert len(primitive(one.sites)) in (5, 10, 15, 20)
            assert closest_contact(primitive(one.sites)) >= 0.6
    assert any(one.draws > 1 for one in found)
    once = policy_candidates(policy, parse_formula("SrTiO3"), 24, weights, seed=3, draws=1)
    assert sum(one.status == OK for one in once) < sum(one.status == OK for one in found)
    # what is sound at once is not drawn again
    assert all(a.log_prob == b.log_prob for a, b in zip(once, found, strict=True) if a.status == OK)


def test_contacts_of_rock_salt() -> None:
    # Na–Cl 2.82 Å; radii 1.66 and 1.02 Å
    assert closest_contact(primitive(KNOWN["NaCl"])) == pytest.approx(2.82 / 2.68)


def test_one_structure_is_one_candidate() -> None:
    wide, narrow = rock_salt("Na", "Cl", 5.9), rock_salt("Na", "Cl", 5.2)
    other = caesium_chloride("Na", "Cl", 3.5)
    assert merged([wide, None, other, narrow, other]) == [0, None, 2, 0, 2]


def test_of_equal_structures_at_rest_the_most_symmetric_stands_for_all_where_the_energies_tie():
    rock_salt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.2), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    cell = rock_salt.get_primitive_structure()
    salt = Crystal(np.array(cell.atomic_numbers), cell.frac_coords, cell.lattice.matrix)
    groups = [152, 225, 166]
    assert merged_at_rest([salt] * 3, [-1.0005, -1.0, -0.9999], groups, 0.005) == [1, 1, 1]
    assert merged_at_rest([salt] * 3, [-1.003, -1.0, -0.9999], groups, 0.005) == [0, 0, 0]
    assert merged_at_rest([salt] * 3, [-1.02, -1.0, -0.9999], groups, 0.005) == [0, 1, 1]


@pytest.mark.parametrize(
    ("label", "example"),
    [
        ("AB_cF8_225_a_b", rock_salt("Na", "Cl", 5.64)),
        ("AB_cP2_221_a_b", caesium_chloride("Zn", "Ag", 3.16)),
        ("A_cF8_227_a", sites("Fd-3m", Lattice.cubic(5.43), ["Si"], [[0, 0, 0]])),
        ("AB2_cF12_225_a_c", sites("Fm-3m", Lattice.cubic(5.46), ["Ca", "F"], [[0, 0, 0], [0.25, 0.25, 0.25]])),
        ("A2B3_hR10_167_c_e", sites("R-3c", Lattice.hexagonal(4.76, 12.99), ["Al", "O"], [[0, 0, 0.352], [0.306, 0, 0.25]])),
        ("AB2_tP6_136_a_f", sites("P4_2/mnm", Lattice.tetragonal(4.59, 2.96), ["Ti", "O"], [[0, 0, 0], [0.305, 0.305, 0]])),
    ],
)  # fmt: skip
def test_labels_are_those_of_the_aflow_library(label: str, example: Sites) -> None:
    assert prototype_label(example) == label


def test_the_elements_have_their_textbook_structures() -> None:
    """Pearson symbols, and coordination shells that fill space."""
    symbols = {name: prototype_label(own).split("_")[1:3] for name, own in common_types()}
    assert symbols == {
        "fcc Cu": ["cF4", "225"], "bcc W": ["cI2", "229"], "hcp Mg": ["hP2", "194"], "dhcp La": ["hP4", "194"],
        "simple cubic Po": ["cP1", "221"], "tetragonal In": ["tI2", "139"], "diamond Ge": ["cF8", "227"], "white Sn": ["tI4", "141"],
        "graphite C": ["hP4", "194"], "rhombohedral Sb": ["hR2", "166"], "black P": ["oC8", "64"], "trigonal Se": ["hP3", "152"],
    }  # fmt: skip
    assert all(0.8 < closest_contact(primitive(own)) < 1.25 for _, own in common_types())


# --- what is relaxed -------------------------------------------------------------------------


class Lattices:
    """Energies in place of a potential's: the further a cell is from 5 Å, the higher; relaxation halves that."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, list[str]]] = []

    def once(self, crystals: pa.Table, advance: Any) -> pa.Table:
        self.asked.append(("once", crystals.column("id").to_pylist()))
        rows = crystals.to_pylist()
        status = ["potential_failed" if "bad" in row["id"] else OK for row in rows]
        return pa.table({"energy": [self.energy(row) for row in rows], "status": status})

    def relaxed(self, crystals: pa.Table, settings: RelaxSettings, advance: Any) -> pa.Table:
        self.asked.append((str(settings.max_evaluations), crystals.column("id").to_pylist()))
        rows = [
            row | {"energy": self.energy(row) / 2, "evaluations": settings.max_evaluations} for row in crystals.to_pylist()
        ]
        return table_of_rows(RELAXED, rows)

    @staticmethod
    def energy(row: dict[str, Any]) -> float:
        return abs(row["lattice_parameters"][0] - 5.0)


def proposal(maker: str, name: str, a: float) -> Proposed:
    return Proposed(f"{maker}-{name}", maker, rock_salt("Na", "Cl", a), OK)


def test_each_generator_has_its_own_shares_of_the_work() -> None:
    made = [proposal(POLICY, f"{k}", 5.0 + 0.1 * k) for k in range(6)] + [proposal(POLICY, "bad", 5.0)]
    both = [proposal(SUBSTITUTION, f"{k}", 5.05 + 0.1 * k) for k in range(3)] + made
    settings = PredictSettings(tried=3, relaxed=2, first_evaluations=5, max_evaluations=20)
    answers, alone = Lattices(), Lattices()
    rows = descended(both, answers, settings)
    assert [len(ids) for _, ids in answers.asked] == [10, 6, 4]
    assert [what for what, _ in answers.asked] == ["once", "5", "20"]
    assert rows[-len(made) :] == descended(made, alone, settings)
    by_id = dict(zip([one.id for one in both], rows, strict=True))
    assert [by_id[f"policy-{k}"]["status"] for k in range(6)] == ["ok", "ok", "outdone", "outdone", "outdone", "outdone"]
    assert by_id["policy-bad"]["status"] == "potential_failed"
    assert [by_id[f"policy-{k}"]["evaluations"] for k in (0, 2, 4)] == [26, 6, 1]
    assert by_id["policy-1"]["energy_initial"] == pytest.approx(0.1)
    assert by_id["policy-1"]["energy"] == pytest.approx(0.05)


# --- the whole stage ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def means(embedded: Path, network: tuple[Any, list[float]]) -> Means:
    return Means.of(embedded / "reference.parquet", worker("chgnet"), *network, 20)


QUICK = PredictSettings(n=24, prototypes=12, tried=8, relaxed=2)


@pytest.mark.parametrize(
    ("formula", "label"),
    [
        ("MgO", "AB_cF8_225_a_b"),
        ("NiAl", "AB_cP2_221_a_b"),
        ("CaF2", "AB2_cF12_225_a_c"),
    ],
)
def test_textbook_ground_states_are_found(formula: str, label: str, means: Means) -> None:
    found = predict(formula, means, QUICK)
    rows = found.table.to_pylist()
    assert rows[0]["prototype"] == label
    assert rows[0]["rank"] == 1
    assert abs(rows[0]["e_above_hull"]) < 0.05
    ranked = [row for row in rows if row["rank"]]
    assert [row["rank"] for row in ranked] == list(range(1, len(ranked) + 1))
    energies = [row["energy"] for row in ranked]
    assert energies == sorted(energies)
    assert {row["status"] for row in ranked} == {OK}
    # nothing is dropped: each candidate has a row, and is counted once by the row that stands for it
    assert sum(row["id"].startswith("policy-") for row in rows) == QUICK.n
    assert len({row["id"] for row in rows}) == len(rows)
    assert {row["status"] for row in rows} <= STATUSES.keys()
    assert sum(row["stands_for"] for row in rows if row["status"] != "duplicate") == len(rows)
    assert {row["duplicate_of"] for row in rows if row["status"] == "duplicate"} <= {row["id"] for row in rows}
    assert all(row["status"] == OK or row["rank"] is None for row in rows)
    assert (
        0
        < sum(row["p_space_group"] for row in {row["space_group"]: row for row in rows if row["p_space_group"]}.values())
        <= 1
    )


def test_silicon_is_as_low_as_diamond_by_exchanged_elements(means: Means) -> None:
    """The potential does not tell it from its hexagonal polytypes, of which compounds bring some."""
    rows = predict("Si", means, QUICK.model_copy(update={"by": "substitution"})).table.to_pylist()
    (diamond,) = (row for row in rows if row["prototype"] == "A_cF8_227_a")
    assert diamond["donor"] == "diamond Ge"
    assert diamond["above_best"] < 0.005
    assert diamond["lattice_parameters"][0] == pytest.approx(5.43, rel=0.02)


def test_a_prediction_is_the_same_again_and_substitution_alone_needs_no_policy(means: Means) -> None:
    settings = QUICK.model_copy(update={"n": 8, "tried": 3, "relaxed": 1})
    first, again = (predict("LiCl", means, settings, seed=5).table for _ in range(2))
    assert first.equals(again)
    alone = Means(means.worker, means.prototypes, means.hull, means.known, None, means.trained)
    rows = predict("LiCl", alone, settings.model_copy(update={"by": "substitution"})).table.to_pylist()
    both = [row for row in first.to_pylist() if row["id"].startswith("substitution-")]
    assert {row["made_by"] for row in rows} == {"substitution"}
    assert {row["id"]: row["energy"] for row in rows if row["rank"] == 1}.items() <= {
        row["id"]: row["energy"] for row in both
    }.items()
    assert "LiCl" not in {row["donor"] for row in rows}


@pytest.mark.parametrize(
    ("formula", "says"),
    [
        ("XxO", "'Xx' is not an element symbol"),
        ("mgo", "'mgo' is not a formula"),
        ("RnO", "RnO holds Rn, of which the reference has no energy"),
        ("Ca5(PO4)3F", "Ca5\\(PO4\\)3F has 21 atoms in its formula unit, and cells of at most 20 are predicted"),
    ],
)
def test_formulas_that_cannot_be_predicted_are_refused_in_a_sentence(formula: str, says: str, means: Means) -> None:
    with pytest.raises(InputError, match=says):
        asked(formula, means.hull, 20)


def test_a_formula_is_reduced_and_one_without_prototypes_needs_the_policy(means: Means) -> None:
    assert asked("Mg2O2", means.hull, 20) == {8: 1, 12: 1}
    with pytest.raises(InputError, match="no known compound has the stoichiometry of Li4Mg15"):
        predict("Li4Mg15", means, PredictSettings(by="substitution"))


def test_a_prediction_in_a_session(means: Means) -> None:
    found = cf.predict("KF", by="substitution", prototypes=4, tried=2, relaxed=1, progress=False)
    assert found["rank"].tolist()[0] == 1
    assert found["prototype"][0] == "AB_cF8_225_a_b"
    assert found.attrs["verdict"][0].startswith("The best structure of KF lies 0.0")
    assert found.attrs["units"]["above_best"] == "eV/atom"
    with pytest.raises(InputError, match="'draws' is 0"):
        cf.predict("KF", draws=0)


def test_words_say_what_the_best_is_worth() -> None:
    best = {
        "rank": 1, "e_above_hull": 0.3, "formation_energy": -1.0, "space_group": 225, "structure_type": "rock salt", "prototype": "AB_cF8_225_a_b",
        "made_by": "policy", "donor": None, "match_id": "mp-1", "known_level": "structure", "known_partner": "mp-1",
    }  # fmt: skip
    far, unknown = verdict_on("XeO", [best], None, None)
    assert "0.300 eV/atom above the hull, further than almost all that is made: XeO decomposes" in far
    assert unknown == "The reference does not know XeO."
    near = best | {"e_above_hull": -0.002}
    known = KnownPhase("mp-1", -1.1, 0.001, True)
    assert verdict_on("AB", [near], known, 1) == [
        "The best structure of AB lies 0.002 eV/atom below the hull.",
        "The AB that the reference holds is mp-1, 0.001 eV/atom above the hull: found, rank 1.",
    ]
    assert verdict_on("AB", [near], known, None)[1].endswith("not found; the best lies 0.100 eV/atom above it.")
    assert "no structure: the best lies as low" in verdict_on("AB", [near], KnownPhase("d", -1.0, 0.0, False), None)[1]
    assert verdict_on("AB", [best | {"e_above_hull": 1e-5}], known, 1)[0] == "The best structure of AB lies on the hull."
    below = verdict_on("ArF", [best | {"e_above_hull": -1.491}], None, None)[0]
    assert below.startswith("Warning: the best structure of ArF lies 1.491 eV/atom below the hull")
    above = verdict_on("LiCoO2", [best | {"e_above_hull": 0.095}], KnownPhase("d", -1.1, 0.0, False), None)[1]
    assert above.endswith("so that it is another structure than the known one, or the potential errs.")
    unplaced = verdict_on("AB", [best | {"e_above_hull": None}], KnownPhase("d", -1.1, 0.0, False), None)
    assert unplaced[0].endswith("no distance to the hull.")
    assert unplaced[1] == above.replace("LiCoO2", "AB")
    assert "nothing" in predicted_lines([best | {"match_id": None, "known_level": "none", "known_partner": None}])[2]
    assert verdict_on("AB", [], known, None) == ["No candidate of AB could be relaxed; the column status says why."]
    heading, _, row = predicted_lines([near])
    assert heading.split()[:3] == ["rank", "above", "hull"]
    assert "Fm-3m" in row
    assert "rock salt" in row


def test_the_command_says_it_and_never_has_both_frameworks(tmp_path: Path, embedded: Path) -> None:
    out = tmp_path / "kf.parquet"
    code = (
        "import sys; from crystalformer_rl.cli import cli; "
        f"cli(['predict', 'KF', '--by', 'substitution', '--prototypes', '4', '--tried', '2', '--relaxed', '1', '--json', '--out', {str(out)!r}], "
        "standalone_mode=False); import crystalformer_rl.prediction.policy_candidates; print('torch' in sys.modules, 'jax' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.splitlines()
    summary = json.loads(said[0])
    assert said[1] == "False True"
    assert summary["formula"] == "KF"
    assert summary["best"]["made_by"] == "substitution"
    assert summary["n"] == pq.read_table(out).num_rows == sum(summary["status"].values())
    assert pq.read_schema(out).field("e_above_hull").metadata[b"unit"] == b"eV/atom"
