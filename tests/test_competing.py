"""Which energy of a composition competes, the potential's bias against a scale, and references that join."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from textbook_compounds import textbook_crystals

from crystalformer_rl.crystal.elements import ATOMIC_NUMBERS, parse_formula, reduced_formula
from crystalformer_rl.errors import InputError
from crystalformer_rl.hull.convex_hull import Hull
from crystalformer_rl.hull.stability import below_hull, hull_may_be_incomplete, is_stable
from crystalformer_rl.potential.protocol import Potential
from crystalformer_rl.potential.relax_settings import RelaxSettings
from crystalformer_rl.potential.relaxation import relax
from crystalformer_rl.reference.bias import LEAST_ENTRIES, Bias, fit_bias, with_growth
from crystalformer_rl.reference.competing import POLYMORPH, Phase, competing
from crystalformer_rl.reference.dft_completion import completed
from crystalformer_rl.reference.dft_rows import dft_rows
from crystalformer_rl.reference.energies import read_energies
from crystalformer_rl.reference.foreign import for_potential
from crystalformer_rl.reference.identity import Corrections, Functional, PotentialIdentity
from crystalformer_rl.reference.joining import read_references
from crystalformer_rl.reference.phases import Phases
from crystalformer_rl.reference.scale import MP2020_SCALE
from crystalformer_rl.stages.evaluate import evaluate
from crystalformer_rl.stages.hull import hull
from crystalformer_rl.tables.column import make_table
from crystalformer_rl.tables.energy_columns import REFERENCE
from crystalformer_rl.tables.parquet import write_table

OWN = PotentialIdentity("own", "a" * 64, Functional.PBE, Corrections.MP2020)
OTHER = PotentialIdentity("other", "b" * 64, Functional.PBE, Corrections.MP2020)
UNCORRECTED = PotentialIdentity("raw", "c" * 64, Functional.PBE, Corrections.NONE)
R2SCAN = PotentialIdentity("r2", "d" * 64, Functional.R2SCAN, Corrections.NONE)
ZERO = {"Na": -1.0, "Cl": -1.0, "K": -1.0, "Br": -1.0}
BIAS = Bias(MP2020_SCALE, {11: 0.02, 17: 0.04}, {11: 0.03, 17: 0.01}, 100, 0.01, 0.03)
SALT = {11: 1, 17: 1}


def numbers(formula: str) -> list[int]:
    return [z for z, n in parse_formula(formula).items() for _ in range(n)]


# --- which energy competes ------------------------------------------------------


def test_the_relaxed_ground_state_competes_as_it_is() -> None:
    phases = [Phase("a", SALT, -1.0, -1.02), Phase("b", SALT, -0.9, -0.95), Phase("dft", SALT, dft_energy=-1.03)]
    entry = competing(SALT, phases, BIAS)
    assert entry is not None
    assert (entry.id, entry.formation_energy) == ("a", -1.0)  # the DFT row is within what a polymorph must be above


def test_a_relaxed_polymorph_goes_down_to_the_ground_state() -> None:
    above = POLYMORPH + 0.18
    phases = [Phase("a", SALT, -0.8, -0.85, "relaxed"), Phase("dft", SALT, dft_energy=-0.85 - above, energy_from="dft")]
    entry = competing(SALT, phases, BIAS)
    assert entry is not None
    assert entry.formation_energy == pytest.approx(-0.8 - above)
    assert entry.energy_from == "relaxed"
    # potential and DFT are 0.3 eV/atom apart for the polymorph, so that it says nothing of the ground state
    wild = competing(SALT, [Phase("a", SALT, -0.55, -0.85), Phase("dft", SALT, dft_energy=-1.05)], BIAS)
    assert wild is not None
    assert wild.formation_energy == pytest.approx(-1.05 + 0.03)


def test_without_a_relaxed_entry_dft_competes_with_the_bias() -> None:
    entry = competing(SALT, [Phase("x", SALT, dft_energy=-1.0, energy_from="dft")], BIAS)
    assert entry is not None
    assert (entry.formation_energy, entry.energy_from) == (pytest.approx(-1.0 + 0.03), "dft")


def test_an_entry_without_a_label_is_never_above_what_dft_knows() -> None:
    rows = [Phase("mine", SALT, -0.5), Phase("dft", SALT, dft_energy=-1.0)]
    assert competing(SALT, rows, BIAS).formation_energy == pytest.approx(-0.97)  # type: ignore[union-attr]
    rows[0] = Phase("mine", SALT, -1.2)
    assert competing(SALT, rows, BIAS).formation_energy == -1.2  # type: ignore[union-attr]


def test_nothing_competes_without_an_energy() -> None:
    assert competing(SALT, [Phase("x", SALT)], BIAS) is None


def test_a_corner_may_lie_above_zero_where_the_potential_puts_the_element_there() -> None:
    silicon = {14: 1}
    own = competing(silicon, [Phase("diamond", silicon, 0.11, 0.0)], BIAS)
    assert own is not None
    assert (own.id, own.formation_energy) == ("diamond", 0.11)
    polymorph = competing(silicon, [Phase("tin", silicon, 0.36, 0.3)], BIAS)
    assert polymorph is not None
    assert polymorph.formation_energy == pytest.approx(0.06)
    absent = competing({11: 1}, [], BIAS)
    assert absent is not None
    assert (absent.id, absent.formation_energy) == ("elemental-Na", 0.02)
    # without a bias the zero is the potential's own
    assert competing(silicon, [Phase("tin", silicon, 0.4)]).formation_energy == 0.0  # type: ignore[union-attr]


def test_equal_energies_are_settled_by_the_id() -> None:
    rows = [Phase("b", SALT, -1.0), Phase("a", SALT, -1.0)]
    assert {competing(SALT, order, BIAS).id for order in (rows, rows[::-1])} == {"a"}  # type: ignore[union-attr]


# --- the bias -------------------------------------------------------------------


def random_entries(n: int, seed: int = 0) -> tuple[list[dict[int, int]], np.ndarray, np.ndarray]:
    """Compositions of twelve elements, a shift for each, and differences with noise and a tenth of wild outliers."""
    rng = np.random.default_rng(seed)
    elements, shifts = np.arange(3, 15), rng.normal(0, 0.05, 12)
    compositions, difference = [], []
    for _ in range(n):
        chosen = rng.choice(12, 3, replace=False)
        counts = rng.integers(1, 4, 3)
        compositions.append({int(elements[k]): int(c) for k, c in zip(chosen, counts, strict=True)})
        noise = rng.normal(0, 0.01) if rng.uniform() < 0.9 else rng.normal(0, 0.5)
        difference.append(float(shifts[chosen] @ counts / counts.sum() + noise))
    return compositions, np.array(difference), shifts


def test_the_fit_finds_shifts_under_outliers() -> None:
    compositions, difference, shifts = random_entries(3000)
    bias = fit_bias(MP2020_SCALE, compositions, difference)
    assert [bias.shifts[z] for z in range(3, 15)] == pytest.approx(shifts, abs=0.004)
    assert bias.residual_median == pytest.approx(
        0.0075, abs=0.002
    )  # 0.67 standard deviations of the noise, and the outliers


def test_the_standard_deviation_holds_nine_in_ten_of_formulas_left_out() -> None:
    compositions, difference, _ = random_entries(3000, seed=1)
    bias = fit_bias(MP2020_SCALE, compositions[:2000], difference[:2000])
    new = zip(compositions[2000:], difference[2000:], strict=True)
    inside = np.mean([abs(d - bias.of(c)) <= 1.645 * bias.std(c) for c, d in new])
    assert 0.85 <= inside <= 0.95


def test_the_standard_deviation_grows_with_the_height() -> None:
    compositions, difference, _ = random_entries(3000, seed=2)
    near = fit_bias(MP2020_SCALE, compositions[:1000], difference[:1000])
    rng = np.random.default_rng(3)
    heights = rng.uniform(0.1, 0.6, 2000)
    wide = np.array([near.of(c) for c in compositions[1000:]]) + heights * rng.normal(0, 0.2, 2000)
    bias = with_growth(near, compositions[1000:2000], wide[:1000], heights[:1000])
    rest = zip(compositions[2000:], wide[1000:], heights[1000:], strict=True)
    inside = np.mean([abs(d - bias.of(c)) <= 1.645 * bias.std(c, h) for c, d, h in rest])
    assert 0.85 <= inside <= 0.95
    assert bias.std(SALT, -1.0) == bias.std(SALT, 0.0) == near.std(SALT)


def test_a_bias_comes_back_from_its_record() -> None:
    assert Bias.from_record(json.loads(json.dumps(BIAS.as_record()))) == BIAS
    assert Bias.from_record(None) is None
    with pytest.raises(InputError, match="bias is damaged"):
        Bias.from_record({"scale": MP2020_SCALE, "shifts": {"Xx": 0.1}})


def test_few_entries_have_no_bias() -> None:
    compositions, difference, _ = random_entries(LEAST_ENTRIES - 1)
    with pytest.raises(InputError, match="at least 50"):
        fit_bias(MP2020_SCALE, compositions, difference)


# --- references -----------------------------------------------------------------


def rows(**columns: list) -> pa.Table:
    n = len(columns["formula"])
    return make_table(REFERENCE, {"id": [f"r{k}" for k in range(n)], "status": ["ok"] * n, **columns})


def reference(path: Path, identity: PotentialIdentity = OWN, bias: Bias | None = BIAS, **columns: list) -> Path:
    more = {} if bias is None else {"bias": bias.as_record()}
    write_table(path, rows(**columns), {"potential": identity.as_record(), "elemental_energies": ZERO, **more})
    return path


@pytest.fixture
def main(tmp_path: Path) -> Path:
    """NaCl relaxed; KBr known to DFT alone."""
    return reference(
        tmp_path / "main.parquet",
        formula=["NaCl", "KBr"],
        role=["pretraining", "hull_only"],
        energy=[-2.0, None],
        formation_energy=[-1.0, None],
        dft_formation_energy=[-1.01, -1.2],
        energy_from=["relaxed", "dft"],
    )


def relaxed(path: Path, identity: PotentialIdentity | None, formula: str, energy: float) -> Path:
    table = pa.table({"id": ["mine"], "atomic_numbers": [numbers(formula)], "energy": [energy], "status": ["ok"]})
    write_table(path, table, {} if identity is None else {"potential": identity.as_record()})
    return path


def distance(energies: Callable[[], object], formula: str, formation: float) -> float:
    return Hull.of(energies()).distance(numbers(formula), formation).e_above_hull  # type: ignore[arg-type]


def test_both_kinds_of_energies_stand_on_one_hull(main: Path) -> None:
    found = Hull.from_reference(main).distance(numbers("NaKClBr"), -1.0)
    assert found.decomposition == pytest.approx({"r0": 0.5, "r1": 0.5})
    assert found.energy_from == {"r0": "relaxed", "r1": "dft"}
    assert found.e_above_hull == pytest.approx(0.5 * 1.0 + 0.5 * 1.2 - 1.0)  # of K and Br no shift is known
    assert Hull.from_reference(main).distance(numbers("NaCl"), -1.0).std == pytest.approx(0.02)


def test_dft_energies_are_not_read_without_a_bias(tmp_path: Path) -> None:
    path = reference(tmp_path / "r.parquet", bias=None, formula=["NaCl"], dft_formation_energy=[-1.0], energy_from=["dft"])
    found = Hull.from_reference(path).distance(numbers("NaCl"), -0.5)
    assert found.e_above_hull == -0.5
    assert math.isnan(found.std)


def test_another_potential_on_the_scale_competes_with_dft_alone(main: Path, tmp_path: Path) -> None:
    shifted = Bias(MP2020_SCALE, {11: 0.1, 17: 0.1})
    energies = for_potential(read_energies(main), OTHER, shifted)
    found = Hull.of(energies).distance(numbers("NaCl"), -1.0)
    assert (found.e_above_hull, found.energy_from) == (pytest.approx(-1.0 - (-1.01 + 0.1)), {"r0": "dft"})
    table = pq.read_table(relaxed(tmp_path / "t.parquet", OTHER, "NaCl", -2.0))
    assert hull(table, main).column("e_above_hull").to_pylist() == pytest.approx([0.01])
    assert hull(table, main, bias=shifted).column("e_above_hull").to_pylist() == pytest.approx([-0.09])
    assert hull(table, main).column("e_above_hull_std").to_pylist() == [None]


def test_corrections_are_added_to_a_potential_that_lacks_them(main: Path, tmp_path: Path) -> None:
    table = pq.read_table(relaxed(tmp_path / "t.parquet", UNCORRECTED, "NaCl", -2.0))
    found = hull(table, main)
    assert found.column("e_above_hull").to_pylist() == pytest.approx([0.01 - 0.614 / 2], abs=1e-3)  # MP2020's of chlorine


def test_another_scale_is_refused(main: Path, tmp_path: Path) -> None:
    table = pq.read_table(relaxed(tmp_path / "t.parquet", R2SCAN, "NaCl", -2.0))
    with pytest.raises(InputError, match="learned r2SCAN"):
        hull(table, main)
    same = pq.read_table(relaxed(tmp_path / "s.parquet", OWN, "NaCl", -2.0))
    with pytest.raises(InputError, match="leave out what is said of their corrections"):
        hull(same, main, potential_corrections=Corrections.NONE)
    with pytest.raises(InputError, match="no DFT energies on a scale"):
        for_potential(read_energies(reference(tmp_path / "n.parquet", bias=None, formula=["NaCl"], energy=[-2.0])), OTHER)


def test_ones_own_phases_join(main: Path, tmp_path: Path) -> None:
    mine = relaxed(tmp_path / "mine.parquet", OWN, "NaBr", -1.9)
    more = reference(tmp_path / "more.parquet", formula=["KCl"], role=["hull_only"], energy=[-1.8], energy_from=["relaxed"])
    entries = [{"@class": "ComputedEntry", "entry_id": "e-1", "composition": {"Na": 2, "Br": 1}, "energy": -6.0,
                "parameters": {"run_type": "GGA", "hubbards": {}}}]  # fmt: skip
    (tmp_path / "mine.json").write_text(json.dumps(entries))
    found = Hull.of(read_references([main, mine, more, tmp_path / "mine.json"]))
    assert found.distance(numbers("NaBr"), 0.0).decomposition == {"mine": 1.0}
    assert found.distance(numbers("NaBr"), 0.0).e_above_hull == pytest.approx(0.9)
    assert found.distance(numbers("KCl"), 0.0).decomposition == {"more.parquet:r0": 1.0}  # r0 was taken
    given = found.distance(numbers("Na2Br"), 0.0)
    assert given.energy_from == {"e-1": "given"}
    # -2 eV/atom and MP2020's -0.534 for bromine, from elements at -1, with Na's bias
    assert given.e_above_hull == pytest.approx(1.0 + 0.534 / 3 - 0.04 / 3, abs=1e-3)


def test_evaluation_refuses_another_scale_before_anything_is_relaxed(main: Path) -> None:
    class Worker:
        name, identity = "r2", R2SCAN

        def map(self, *_: object, **__: object) -> None:
            raise AssertionError("nothing may be relaxed")

    crystals = pa.table({"id": ["a"], "atomic_numbers": [numbers("NaCl")]})
    with pytest.raises(InputError, match="learned r2SCAN"):
        evaluate(crystals, main, Worker())  # type: ignore[arg-type]


def test_no_dft_energy_joins_a_hull_without_a_bias(main: Path, tmp_path: Path) -> None:
    plain = reference(tmp_path / "plain.parquet", bias=None, formula=["NaCl"], energy=[-2.0])
    found = Hull.of(read_references([plain, main])).distance(numbers("KBr"), -1.0)
    assert found.e_above_hull == -1.0  # against the elements


def test_phases_that_were_given_are_said_to_be_given_to_another_potential_too(main: Path) -> None:
    energies = read_energies(main)
    table = energies.phases.table
    table = table.set_column(table.column_names.index("energy_from"), "energy_from", pa.array(["given"] * table.num_rows))
    found = Hull.of(for_potential(replace(energies, phases=Phases(table, energies.phases.elemental, "r")), OTHER))
    assert found.distance(numbers("KBr"), -1.0).energy_from == {"r1": "given"}


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (lambda folder: relaxed(folder / "o.parquet", OTHER, "NaBr", -1.9), "holds energies of other.*relax its structures"),
        (lambda folder: relaxed(folder / "o.parquet", None, "NaBr", -1.9), "a potential that it does not name"),
        (
            lambda folder: reference(folder / "o.parquet", OTHER, formula=["KCl"], role=["hull_only"], energy=[-1.8]),
            "of other",
        ),
    ],
)
def test_energies_of_others_do_not_join(main: Path, tmp_path: Path, other: Callable[[Path], Path], says: str) -> None:
    with pytest.raises(InputError, match=says):
        read_references([main, other(tmp_path)])


def test_rows_of_dft_are_the_lowest_of_each_composition() -> None:
    table = pa.table({"formula": ["Cl2Na2", "NaCl", "Na", "CaF2"], "dft_formation_energy": [-1.0, -1.2, 0.0, -4.1236]})
    found = dft_rows(table, "somewhere").to_pylist()
    assert [(r["id"], r["formula"], r["chemical_system"], r["dft_formation_energy"], r["energy_from"]) for r in found] == [
        ("dft-CaF2", "CaF2", "Ca-F", -4.124, "dft"),
        ("dft-NaCl", "NaCl", "Cl-Na", -1.2, "dft"),
    ]
    for wrong in ({"formula": ["Xx"], "dft_formation_energy": [0.1]}, {"formula": ["NaCl"], "dft_formation_energy": [None]}):
        with pytest.raises(InputError, match="the table of DFT energies, row 0"):
            dft_rows(pa.table(wrong), "somewhere")


def test_a_reference_is_completed_where_its_bias_can_be_measured() -> None:
    compositions, difference, _ = random_entries(60)
    formulas = [reduced_formula([z for z, n in c.items() for _ in range(n)]) for c in compositions]
    n = len(formulas)
    given = rows(
        formula=formulas,
        formation_energy=(difference - 1.0).tolist(),
        dft_formation_energy=[-1.0] * n,
        dft_e_above_hull=[0.0] * n,
        energy_from=["relaxed"] * n,
    )
    dft = dft_rows(pa.table({"formula": ["NaCl"], "dft_formation_energy": [-1.2]}), "somewhere")
    table, bias = completed(given, dft, MP2020_SCALE)
    assert bias is not None
    assert (bias.entries, table.num_rows) == (n, n + 1)
    fewer, none = completed(given.slice(0, 10), dft, MP2020_SCALE)
    assert (fewer.num_rows, none) == (10, None)


def test_phases_are_found_by_their_elements_whatever_the_order_of_rows() -> None:
    given = [
        Phase("a", SALT, -1.0),
        Phase("b", {19: 1, 35: 1}, -1.2),
        Phase("c", {11: 2, 17: 1}, -0.5),
        Phase("d", {11: 1}, 0.1),
    ]
    for order in (given, given[::-1]):
        phases = Phases.of_rows(order, {ATOMIC_NUMBERS[s]: e for s, e in ZERO.items()})
        assert {p.id for p in phases.of((11, 17))} == {"a", "c"}
        assert phases.has((19, 35))
        assert not phases.has((11, 19))
        assert sorted(phases.systems) == [(11,), (11, 17), (19, 35)]
        assert phases.composition("c") == {11: 2, 17: 1}


# --- words about distances --------------------------------------------------------


def test_below_the_hull_is_a_question_to_the_hull() -> None:
    assert below_hull(np.array([0.1, 0.0, -0.2, np.nan])).tolist()[:3] == [0.0, 0.0, 0.2]
    assert is_stable(-3.0, 0.1)
    assert hull_may_be_incomplete(-0.2, 40)
    assert hull_may_be_incomplete(-0.01, 1)
    assert not hull_may_be_incomplete(-0.01, 40)
    assert not hull_may_be_incomplete(0.05, 1)
    assert not hull_may_be_incomplete(-6e-9, 1)  # a phase of the reference found again, and its rounding


# --- textbooks --------------------------------------------------------------------


def test_textbook_compounds_lie_near_the_hull(embedded: Path, chgnet: Potential) -> None:
    energies = read_energies(embedded)
    where, given = Hull.of(energies), [c for crystals in textbook_crystals().values() for c in crystals]
    assert len(given) >= 140
    found = relax(chgnet, given, RelaxSettings())
    heights, has_relaxed = [], []
    for crystal, result in zip(given, found, strict=True):
        assert result.energy is not None, crystal.formula
        z = crystal.atomic_numbers
        heights.append(where.distance(z, where.formation_energy(z, result.energy)).e_above_hull)
        own = [e for e in where.entries(tuple(sorted(set(z.tolist())))) if where.formula(e.id) == crystal.formula]
        has_relaxed.append(bool(own) and own[0].energy_from == "relaxed")
    height, known = np.array(heights), np.array(has_relaxed)
    assert (height > -0.1).all()
    near = (height > -0.05) & (height < 0.08)
    assert near.mean() >= 0.92
    assert near[known].mean() >= 0.95
    assert near[~known].mean() >= 0.8
