"""The distance to the hull against hand-made hulls, scipy's linear programs and pymatgen's phase diagrams."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from crystalformer_rl.crystal.elements import SYMBOLS, parse_formula, reduced_formula
from crystalformer_rl.errors import InputError
from crystalformer_rl.hull.convex_hull import Hull, NoReferenceEnergyError
from crystalformer_rl.hull.hull_table import hull_table
from crystalformer_rl.reference.compatibility import check_same_potential
from crystalformer_rl.reference.competing import Phase
from crystalformer_rl.reference.energies import ReferenceEnergies, read_energies
from crystalformer_rl.reference.identity import Corrections, Functional, Method, PotentialIdentity
from crystalformer_rl.tables.column import make_table
from crystalformer_rl.tables.energy_columns import HULL, REFERENCE
from crystalformer_rl.tables.parquet import read_table, write_table
from crystalformer_rl.tables.provenance import read_provenance
from crystalformer_rl.tables.status import STATUSES

IDENTITY = PotentialIdentity("test potential", "ab" * 32, corrections=Corrections.NONE)
POTENTIAL = IDENTITY.as_record()
ELEMENTAL = {"Na": -1.25, "Cl": -1.75, "K": -1.0, "Br": -1.5}


def atoms(formula: str) -> list[int]:
    return [z for z, n in parse_formula(formula).items() for _ in range(n)]


def hull_of(formation_energies: dict[str, float], elements: str = "Na Cl K Br") -> Hull:
    """A hull whose entries are named by their formulas."""
    entries = [Phase(f, parse_formula(f), e) for f, e in formation_energies.items()]
    return Hull.of_phases(entries, dict.fromkeys(elements.split(), 0.0), POTENTIAL)


# --- hulls whose answer is known by hand -------------------------------------


def test_binary_hull_by_hand() -> None:
    # NaCl at -1 and Na3Cl at -0.6 are on the hull; Na2Cl at -0.5 is above the line between them.
    hull = hull_of({"NaCl": -1.0, "Na3Cl": -0.6, "Na2Cl": -0.5})
    on_line = -0.6 + (1 / 3 - 0.25) / 0.25 * -0.4
    result = hull.distance(atoms("Na2Cl"), -0.5)
    assert result.e_above_hull == pytest.approx(-0.5 - on_line, abs=1e-12)
    assert result.decomposition == pytest.approx({"Na3Cl": 2 / 3, "NaCl": 1 / 3})
    assert result.support == 3

    between_compound_and_element = hull.distance(atoms("NaCl3"), 0.2)
    assert between_compound_and_element.e_above_hull == pytest.approx(0.7, abs=1e-12)
    assert between_compound_and_element.decomposition == pytest.approx({"NaCl": 0.5, "elemental-Cl": 0.5})


def test_subsystems_compete_in_a_quaternary() -> None:
    hull = hull_of({"NaCl": -1.0, "KBr": -0.8, "KCl": -0.7, "NaBr": -0.2})
    result = hull.distance(atoms("NaKClBr"), -0.9)
    assert result.e_above_hull == pytest.approx(0.0, abs=1e-12)
    assert result.decomposition == pytest.approx({"NaCl": 0.5, "KBr": 0.5})
    assert result.support == 4


def test_own_composition_competes_and_below_it_is_negative() -> None:
    hull = hull_of({"NaCl": -1.0})
    assert hull.distance(atoms("Na2Cl2"), -1.05).e_above_hull == pytest.approx(-0.05)
    assert hull.distance(atoms("NaCl"), -1.05).decomposition == {"NaCl": 1.0}


def test_elements_compete_at_zero_or_below() -> None:
    hull = Hull.of_phases([Phase("bcc", {11: 2}, -0.02), Phase("fcc", {17: 4}, 0.3)], {"Na": -1.25, "Cl": -1.75})
    assert hull.distance([11], 0.0).e_above_hull == pytest.approx(0.02)
    assert hull.distance([11], 0.0).decomposition == {"bcc": 1.0}
    assert hull.distance([17], 0.0).decomposition == {"elemental-Cl": 1.0}
    assert hull.distance([11, 17], 0.5).e_above_hull == pytest.approx(0.51)


def test_lowest_entry_of_a_composition_competes_whatever_the_order() -> None:
    entries = [Phase("b", {11: 1, 17: 1}, -1.0), Phase("c", {11: 4, 17: 4}, -0.5), Phase("a", {11: 2, 17: 2}, -1.0)]
    for order in (entries, entries[::-1]):
        hull = Hull.of_phases(order, {"Na": 0.0, "Cl": 0.0})
        assert hull.distance([11, 17], -1.0).decomposition == {"a": 1.0}
        assert hull.distance([11, 17], -1.0).support == 1
        assert hull.n_entries == 3


def test_formation_energy_counts_from_the_elements() -> None:
    hull = Hull.of_phases([], ELEMENTAL)
    assert hull.formation_energy(atoms("Na3Cl"), -2.0) == pytest.approx(-2.0 - (3 * -1.25 - 1.75) / 4)


def test_element_without_reference_energy_is_named() -> None:
    hull = hull_of({})
    with pytest.raises(NoReferenceEnergyError, match="Og"):
        hull.distance([11, 118], -1.0)
    assert hull.missing_elements([118, 11, 94]) == ["Pu", "Og"]


# --- independent oracles ------------------------------------------------------


@st.composite
def phase_diagrams(draw: st.DrawFn) -> tuple[int, list[tuple[tuple[int, ...], float]], tuple[int, ...]]:
    """Coarse compositions and energies in steps of 0.1 eV, so that ties and points on facets abound."""
    k = draw(st.integers(1, 6))
    counts = st.lists(st.integers(0, 3), min_size=k, max_size=k).filter(any).map(tuple)
    energies = st.integers(-12, 2).map(lambda e: e / 10)
    entries = draw(st.lists(st.tuples(counts, energies), max_size=40))
    target = st.lists(st.integers(1, 4), min_size=k, max_size=k).map(tuple)
    return k, entries, draw(target)


@settings(max_examples=150, deadline=None)
@given(phase_diagrams())
def test_agrees_with_linprog_where_degenerate(
    problem: tuple[int, list[tuple[tuple[int, ...], float]], tuple[int, ...]],
) -> None:
    from scipy.optimize import linprog

    k, raw, target = problem
    elements = list(range(3, 3 + k))
    entries = [Phase(str(i), {z: n for z, n in zip(elements, c, strict=True) if n}, e) for i, (c, e) in enumerate(raw)]
    hull = Hull.of_phases(entries, {SYMBOLS[z - 1]: 0.0 for z in elements})
    fractions = np.vstack([np.eye(k), *(np.array(c) / sum(c) for c, _ in raw)])
    energies = np.array([0.0] * k + [e for _, e in raw])
    composition = np.array(target) / sum(target)
    expected = linprog(energies, A_eq=fractions.T, b_eq=composition, method="highs").fun

    result = hull.distance(np.repeat(elements, target), 0.0)
    assert -result.e_above_hull == pytest.approx(expected, abs=1e-9)
    by_id = {str(i): i + k for i in range(len(raw))} | {f"elemental-{SYMBOLS[z - 1]}": i for i, z in enumerate(elements)}
    columns = [by_id[name] for name in result.decomposition]
    amounts = np.array(list(result.decomposition.values()))
    assert amounts @ fractions[columns] == pytest.approx(composition, abs=1e-9)
    assert amounts @ energies[columns] == pytest.approx(expected, abs=1e-9)


def pymatgen_answer(
    hull: Hull, rows: dict[str, tuple[dict[int, int], float]], elements: list[int], numbers: np.ndarray, corners: bool = True
):
    """Hull energy (eV/atom) and decomposition {id: fraction} by pymatgen; `rows`: id → (composition, formation energy).

    corners: whether the elements compete at zero, besides what `rows` holds of them.
    """
    from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
    from pymatgen.core import Composition

    inside = [
        PDEntry(
            Composition({SYMBOLS[z - 1]: n for z, n in composition.items()}), energy * sum(composition.values()), name=name
        )
        for name, (composition, energy) in rows.items()
        if set(composition) <= set(elements)
    ]
    zero = [PDEntry(Composition(SYMBOLS[z - 1]), 0.0, name=f"elemental-{SYMBOLS[z - 1]}") for z in elements]
    diagram = PhaseDiagram(inside + (zero if corners else []))
    composition = Composition.from_dict({SYMBOLS[z - 1]: int(np.sum(numbers == z)) for z in elements})
    parts = diagram.get_decomposition(composition)
    return diagram.get_hull_energy_per_atom(composition), {entry.name: amount for entry, amount in parts.items()}


def test_agrees_with_pymatgen_on_random_diagrams() -> None:
    random = np.random.default_rng(5)
    for k in range(1, 7):
        elements = sorted(random.choice(np.arange(1, 80), k, replace=False).tolist())
        rows = {}
        for i in range(30):
            counts = random.integers(0, 4, k)
            if counts.any():
                composition = {z: int(n) for z, n in zip(elements, counts, strict=True) if n}
                rows[f"row-{i}"] = (composition, float(random.normal(-0.5, 0.4)) if len(composition) > 1 else 0.1)
        hull = Hull.of_phases([Phase(name, c, e) for name, (c, e) in rows.items()], {SYMBOLS[z - 1]: 0.0 for z in elements})
        for _ in range(4):
            numbers = np.repeat(elements, random.integers(1, 5, k))
            energy, decomposition = pymatgen_answer(hull, rows, elements, numbers)
            result = hull.distance(numbers, 0.0)
            assert -result.e_above_hull == pytest.approx(energy, abs=1e-6)
            assert result.decomposition == pytest.approx(decomposition, abs=1e-6)


@pytest.fixture(scope="module")
def real_energies(embedded: Path) -> ReferenceEnergies:
    """The embedded reference: 34,000 entries."""
    return read_energies(embedded)


@pytest.fixture(scope="module")
def real_hull(real_energies: ReferenceEnergies) -> Hull:
    """Its hull, with DFT energies where the potential has none."""
    return Hull.of(real_energies)


@pytest.fixture(scope="module")
def real_rows(real_hull: Hull) -> dict[str, tuple[dict[int, int], float]]:
    """Id → (composition, formation energy) of what competes."""
    return {
        entry.id: (dict(entry.composition), entry.formation_energy)
        for system in {*real_hull.phases.systems, *((z,) for z in real_hull.elemental_energies)}
        for entry in real_hull.entries(system)
    }


def test_agrees_with_pymatgen_on_real_crystals(real_hull: Hull, real_rows: dict[str, tuple[dict[int, int], float]]) -> None:
    hull = real_hull
    assert hull.n_entries > 120_000
    random = np.random.default_rng(3)
    by_size = {k: [c for c, _ in real_rows.values() if len(c) == k] for k in range(1, 7)}
    for k, pool in by_size.items():
        for i in random.integers(len(pool), size=10):
            # its own composition (a vertex, or degenerate where a compound lies on a facet), and one beside it
            elements = sorted(pool[i])
            for counts in (list(pool[i].values()), (np.array(list(pool[i].values())) + random.integers(0, 3, k)).tolist()):
                numbers = np.repeat(list(pool[i]), counts)
                energy, decomposition = pymatgen_answer(hull, real_rows, elements, numbers, corners=False)
                result = hull.distance(numbers, 0.0)
                assert -result.e_above_hull == pytest.approx(energy, abs=1e-6)
                assert result.decomposition == pytest.approx(decomposition, abs=1e-6)


def test_many_elements_fall_back_to_a_scan(
    real_energies: ReferenceEnergies, real_rows: dict[str, tuple[dict[int, int], float]]
) -> None:
    # 20 elements have a million subsets, more than there are systems
    rows = dict(list(real_rows.items())[:300])
    hull = Hull.of_phases([Phase(n, c, e) for n, (c, e) in rows.items()], real_energies.elemental_energies)
    result = hull.distance(np.arange(3, 23)[np.arange(3, 23) != 10], 0.0)
    assert result.support == sum(len(c) > 1 and set(c) <= set(range(3, 23)) - {10} for c, _ in rows.values())
    assert sum(result.decomposition.values()) == pytest.approx(1.0)


# --- reference files, tables, command ----------------------------------------


def write_reference(path: Path, rows: dict[str, float | None], **record: object) -> Path:
    """A reference of entries named by their formulas: {formula: formation energy}."""
    mean = {f: np.mean([ELEMENTAL.get(SYMBOLS[z - 1], 0.0) for z in atoms(f)]) for f in rows}
    table = make_table(
        REFERENCE,
        {
            "id": [f"ref-{f}" for f in rows],
            "formula": [reduced_formula(atoms(f)) for f in rows],
            "energy": [None if e is None else e + mean[f] for f, e in rows.items()],
            "formation_energy": list(rows.values()),
            "status": ["ok" if e is not None else "potential_failed" for e in rows.values()],
        },
    )
    write_table(path, table, {"potential": POTENTIAL, "elemental_energies": ELEMENTAL} | record)
    return path


def write_relaxed(
    path: Path, rows: list[tuple[str, list[int] | None, float | None, str]], potential: object = POTENTIAL
) -> Path:
    table = pa.table(
        {
            "id": pa.array([r[0] for r in rows], pa.string()),
            "atomic_numbers": pa.array([r[1] for r in rows], pa.list_(pa.int64())),
            "energy": pa.array([r[2] for r in rows], pa.float64()),
            "energy_initial": pa.array([None if r[2] is None else r[2] + 0.25 for r in rows], pa.float64()),
            "status": pa.array([r[3] for r in rows], pa.string()),
        }
    )
    write_table(path, table, {"stage": "relax"} | ({"potential": potential} if potential else {}))
    return path


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    return write_reference(tmp_path / "reference.parquet", {"NaCl": -1.0, "KBr": -0.8, "NaBr": None, "CsCl": -2.0})


def test_reference_file(reference: Path) -> None:
    hull = Hull.from_reference(reference)
    assert hull.identity == IDENTITY
    assert hull.n_entries == 3  # without the failed row
    assert hull.formula("ref-NaCl") == "NaCl"
    assert hull.distance(atoms("NaCl"), -0.9).decomposition == {"ref-NaCl": 1.0}


def test_reference_on_two_scales_is_refused(tmp_path: Path) -> None:
    path = write_reference(tmp_path / "r.parquet", {"NaCl": -1.0}, elemental_energies=ELEMENTAL | {"Na": -1.0})
    with pytest.raises(InputError, match=r"ref-NaCl.*one energy scale"):
        Hull.from_reference(path)


@pytest.mark.parametrize("key", ["potential", "elemental_energies"])
def test_reference_without_its_record_is_refused(tmp_path: Path, key: str) -> None:
    with pytest.raises(InputError, match=key):
        Hull.from_reference(write_reference(tmp_path / "r.parquet", {"NaCl": -1.0}, **{key: None}))


def test_reference_that_others_made_is_refused_with_its_row(tmp_path: Path) -> None:
    path = write_reference(tmp_path / "r.parquet", {"NaCl": -1.0, "KCl": -0.9})
    table, record = read_table(path), read_provenance(path)
    for column, values, words in (
        ("id", ["a", "a"], "r.parquet: the id 'a' is missing or occurs twice"),
        ("id", ["a", None], "r.parquet: the id 'None' is missing or occurs twice"),
        ("formula", ["NaCl", "K0.5Cl0.5"], "r.parquet, row 'ref-KCl': 'K0.5Cl0.5' is not a formula"),
    ):
        wrong = table.set_column(table.column_names.index(column), column, pa.array(values))
        write_table(path, wrong, record)
        with pytest.raises(InputError, match=words):
            Hull.from_reference(path)
    write_table(path, table, record | {"elemental_energies": ELEMENTAL | {"Na": None}})
    with pytest.raises(InputError, match="elemental_energies"):
        Hull.from_reference(path)


def test_every_row_keeps_its_place_and_status(reference: Path) -> None:
    numbers = [atoms("NaCl"), atoms("NaBr"), atoms("CsCl"), atoms("NaCl"), None, atoms("NaCl"), [0, 11], [], [11, None]]
    table = pa.table(
        {
            "id": [str(i) for i in range(9)],
            "atomic_numbers": pa.array(numbers, pa.list_(pa.int64())),
            "energy": [-2.75, -1.0, -3.0, None, None, float("nan"), -1.0, -1.0, -1.0],
            "energy_initial": [-2.5, None, None, -1.0, None, None, None, None, None],
            "status": ["ok", "ok", "ok", "collapsed", "overlapping_atoms", "ok", "ok", "ok", "ok"],
        }
    )
    result = hull_table(Hull.from_reference(reference), table)
    assert result.schema.names == [column.name for column in HULL]
    statuses = result.column("status").to_pylist()
    assert statuses == ["ok", "ok", "no_reference_energy", "collapsed", "overlapping_atoms", "potential_failed",
                        "unknown_element", "empty_crystal", "unknown_element"]  # fmt: skip
    assert set(statuses) <= set(STATUSES)
    rows = result.to_pylist()
    known = {"id", "formula", "status"}
    before = {"formation_energy_initial", "e_above_hull_initial"}
    for row in rows[2:]:
        assert all(row[name] is None for name in row if name not in known | (before if row["id"] == "3" else set()))
    # The fourth has collapsed, but what it was before is known.
    assert rows[3]["formation_energy_initial"] == pytest.approx(0.5)
    assert rows[3]["e_above_hull_initial"] == pytest.approx(1.5)
    assert rows[0]["formation_energy"] == pytest.approx(-1.25)
    assert rows[0]["e_above_hull"] == pytest.approx(-0.25)
    assert rows[0]["below_hull"] == pytest.approx(0.25)
    assert rows[0]["e_above_hull_initial"] == pytest.approx(0.0)
    assert rows[0]["formation_energy_initial"] == pytest.approx(-1.0)
    assert rows[1]["e_above_hull_initial"] is None
    assert json.loads(rows[1]["decomposition"]) == {"elemental-Br": 0.5, "elemental-Na": 0.5}
    assert rows[1]["decomposition_formulas"] == "0.50 Br + 0.50 Na"
    assert rows[1]["hull_support"] == 0


OTHER = {"functional": Functional.PBE, "corrections": Corrections.MP2020, "method": Method.DFT}


@pytest.mark.parametrize("key", [field.name for field in dataclasses.fields(PotentialIdentity)])
def test_another_potential_is_refused(key: str) -> None:
    with pytest.raises(InputError, match=r"relaxed holds energies of .* but ref holds energies of"):
        check_same_potential("relaxed", dataclasses.replace(IDENTITY, **{key: OTHER.get(key, "other")}), "ref", IDENTITY)
    check_same_potential("relaxed", PotentialIdentity.from_record(POTENTIAL), "ref", IDENTITY)


def run(*arguments: object) -> dict[str, object]:
    from crystalformer_rl.cli.hull import command

    result = CliRunner().invoke(command, [*map(str, arguments), "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_command_joins_batches_and_writes_the_same_bytes(tmp_path: Path, reference: Path) -> None:
    first = write_relaxed(tmp_path / "0.parquet", [("a", atoms("NaCl"), -2.5, "ok"), ("b", None, None, "no_crystal")])
    second = write_relaxed(tmp_path / "1.parquet", [("c", atoms("K2Br2"), -2.05, "ok")])
    out = tmp_path / "hull.parquet"
    summary = run(first, second, "--reference", reference, "--out", out)
    assert summary["n"] == 3
    assert summary["stable"] == 2
    assert summary["status"] == {"ok": 2, "no_crystal": 1}
    table = read_table(out, HULL)
    assert table.column("id").to_pylist() == ["a", "b", "c"]
    assert table.column("e_above_hull").to_pylist() == [pytest.approx(0.0), None, pytest.approx(0.0)]
    assert table.schema.field("e_above_hull").metadata[b"unit"] == b"eV/atom"
    assert read_provenance(out)["potential"] == POTENTIAL
    content = out.read_bytes()
    run(first, second, "--reference", reference, "--out", out)
    assert out.read_bytes() == content


def test_command_refuses_foreign_and_nameless_energies(tmp_path: Path, reference: Path) -> None:
    rows = [("a", atoms("NaCl"), -2.5, "ok")]
    out = tmp_path / "hull.parquet"
    foreign = write_relaxed(tmp_path / "foreign.parquet", rows, POTENTIAL | {"weights_sha256": "cd" * 32})
    for arguments in ([foreign], [foreign, "--assume-same-potential"]):
        with pytest.raises(InputError, match=r"foreign.*test potential \(weights cdcdcdcd.*weights abababab"):
            run(*arguments, "--reference", reference, "--out", out)
    nameless = write_relaxed(tmp_path / "nameless.parquet", rows, None)
    with pytest.raises(InputError, match="does not say which potential"):
        run(nameless, "--reference", reference, "--out", out)
    assert not out.exists()
    run(nameless, "--reference", reference, "--out", out, "--assume-same-potential")
    assert out.exists()


def test_command_names_what_is_wrong_with_its_input(tmp_path: Path, reference: Path) -> None:
    out = tmp_path / "hull.parquet"
    good = write_relaxed(tmp_path / "good.parquet", [("a", atoms("NaCl"), -2.5, "ok")])
    pq.write_table(pa.table({"id": ["a"], "atomic_numbers": [[11]]}), tmp_path / "no_energy.parquet")
    with pytest.raises(InputError, match=r"no_energy.parquet has no column 'energy'"):
        run(tmp_path / "no_energy.parquet", "--reference", reference, "--out", out)
    with pytest.raises(InputError, match="id 'a' occurs twice"):
        run(good, good, "--reference", reference, "--out", out)
    words = pa.table({"id": ["a"], "atomic_numbers": [[11]], "energy": [-1.0], "energy_initial": ["low"]})
    pq.write_table(words, tmp_path / "words.parquet")
    with pytest.raises(InputError, match=r"words.parquet, column 'energy_initial': expected double, found string"):
        run(tmp_path / "words.parquet", "--reference", reference, "--out", out)
    with pytest.raises(InputError, match=r"absent.parquet does not exist"):
        run(good, "--reference", tmp_path / "absent.parquet", "--out", out)
    assert not out.exists()


def test_an_energy_that_no_compound_has_is_refused_as_a_row(reference: Path) -> None:
    """As of a whole cell: eight atoms of rock salt at -3 eV/atom."""
    table = pa.table({"id": ["cell", "atom"], "atomic_numbers": [[11, 17] * 4] * 2, "energy": [-24.0, -3.0]})
    found = hull_table(Hull.from_reference(reference), table).to_pylist()
    assert [row["status"] for row in found] == ["implausible_energy", "ok"]
    assert found[0]["e_above_hull"] is found[0]["formation_energy"] is None
