"""Computed entries of others: reading them, their MP2020 corrections, and hulls of their energies."""

from __future__ import annotations

import bz2
import gzip
import json
import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from entry_examples import HUBBARDS, composition_entry, crystal_of, structure_entry, structures
from monty.json import MontyEncoder
from monty.serialization import dumpfn
from pymatgen.analysis.phase_diagram import PhaseDiagram
from pymatgen.core import Composition, Lattice, Structure
from pymatgen.entries.compatibility import MaterialsProject2020Compatibility
from pymatgen.entries.computed_entries import ComputedEntry, ComputedStructureEntry

from crystalformer_rl.cli.hull import command as hull_command
from crystalformer_rl.cli.reference import command as reference_command
from crystalformer_rl.crystal.elements import ATOMIC_NUMBERS, SYMBOLS, composition, electronegativity_rank
from crystalformer_rl.crystal.structure import Crystal
from crystalformer_rl.errors import InputError
from crystalformer_rl.hull.convex_hull import Hull
from crystalformer_rl.reading import json_stream
from crystalformer_rl.reading.entries import DftEntry, read_entries
from crystalformer_rl.reading.inputs import read_crystals
from crystalformer_rl.reference.corrections import MP2020, NoCorrectionError
from crystalformer_rl.reference.given import given_reference
from crystalformer_rl.reference.identity import Corrections, Functional, PotentialIdentity
from crystalformer_rl.reference.oxidation_states import may_be_second_anion, oxidation_states
from crystalformer_rl.reference.scale import must_add_mp2020
from crystalformer_rl.tables.column import make_table
from crystalformer_rl.tables.energy_columns import REFERENCE
from crystalformer_rl.tables.parquet import write_table
from crystalformer_rl.tables.provenance import read_provenance, sha256
from crystalformer_rl.tables.status import STATUSES

CHGNET = {
    "name": "CHGNet 0.3.0",
    "weights_sha256": "ab" * 32,
    "corrections": "MP2020 corrections, learned with the energies",
}
R2SCAN = {"name": "CHGNet r2scan", "weights_sha256": "cd" * 32, "corrections": "none; r2SCAN energies"}
RAW = {"name": "raw potential", "weights_sha256": "ef" * 32, "corrections": "none"}
MACE = {"name": "MACE some", "weights_sha256": "01" * 32, "corrections": "those of the training energies, head Default"}


def counts_of(formula: str) -> dict[int, int]:
    return {ATOMIC_NUMBERS[symbol]: int(n) for symbol, n in Composition(formula).as_dict().items()}


def pymatgen_correction(entry: ComputedEntry) -> float:
    """By `process_entries`, eV/atom."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        processed = MaterialsProject2020Compatibility(check_potcar=False).process_entries([entry], on_error="raise")
    assert len(processed) == 1
    return float(processed[0].correction_per_atom)


# --- reading ------------------------------------------------------------------


def write_list(path: Path, entries: list[Any]) -> None:
    dumpfn(entries, path)


def write_dictionary(path: Path, entries: list[Any]) -> None:
    dumpfn({"made_by": {"text": 'a ] \\" [ and }', "entries": [1, 2]}, "entries": entries, "more": [1e5, None]}, path)


def write_indented(path: Path, entries: list[Any]) -> None:
    text = json.dumps({"entries": entries}, cls=MontyEncoder, indent=2).encode()
    path.write_bytes({".gz": gzip.compress, ".bz2": bz2.compress}.get(path.suffix, bytes)(text))


@pytest.mark.parametrize("suffix", ["json", "json.gz", "json.bz2"])
@pytest.mark.parametrize("write", [write_list, write_dictionary, write_indented])
def test_what_pymatgen_writes_is_read(tmp_path: Path, suffix: str, write: Callable[[Path, list[Any]], None]) -> None:
    path = tmp_path / f"hull.{suffix}"
    compatibility = MaterialsProject2020Compatibility(check_potcar=False)
    salt, rust = structure_entry("NaCl", -3.4), structure_entry("Fe2O3", -6.7)
    compatibility.process_entries([salt, rust])
    salt.data |= {"energy_above_hull": 0.01, "formation_energy_per_atom": -2.1}
    legacy = composition_entry("Na2O", -4.0, correction=-0.6, entry_id=None, data={"mat_id": "agm1"})
    write(path, [salt, rust, legacy])

    told: list[int] = []
    one, two, three = read_entries(path, told.append)
    assert sum(told) == path.stat().st_size
    assert [e.id for e in (one, two, three)] == ["mp-NaCl", "mp-Fe2O3", "agm1"]
    assert [e.status for e in (one, two, three)] == ["ok"] * 3
    assert [e.formula for e in (one, two, three)] == ["NaCl", "Fe2O3", "Na2O"]
    assert one.energy == pytest.approx(-3.4)
    assert one.correction == pytest.approx(-0.307)
    assert (one.scheme, one.run_type, one.hubbards) == ("MP2020", "GGA", {})
    assert one.labels == {"dft_e_above_hull": 0.01, "dft_formation_energy": -2.1}
    assert one.crystal is not None
    np.testing.assert_allclose(one.crystal.frac_coords, salt.structure.frac_coords)
    np.testing.assert_allclose(one.crystal.lattice, salt.structure.lattice.matrix)
    assert one.atomic_numbers == list(salt.structure.atomic_numbers)
    assert two.correction == pytest.approx(rust.correction_per_atom)
    assert (two.scheme, two.run_type, two.hubbards) == ("MP2020", "GGA+U", {"Fe": 5.3})
    assert (three.crystal, three.crystal_status, three.run_type) == (None, "no_structure", "GGA")
    assert three.energy == pytest.approx(-4.0)
    assert three.correction == pytest.approx(-0.2)
    assert three.scheme == "other"
    assert three.atomic_numbers == [8, 11, 11]


def test_a_file_read_in_small_pieces_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "hull.json"
    write_dictionary(path, [structure_entry("LiFePO4"), composition_entry("Na2O", -4.0, data={"ø": "µ"})] * 3)
    whole = [(e.id, e.energy, e.formula) for e in read_entries(path)]
    monkeypatch.setattr(json_stream, "_CHUNK", 7)
    assert [(e.id, e.energy, e.formula) for e in read_entries(path)] == whole


def test_ids(tmp_path: Path) -> None:
    """entry_id, mat_id, material_id, then the file's stem and the index; an id that comes again is told apart."""
    make = composition_entry
    rows = [
        make("NaCl", -3.0, entry_id="mp-1", data={"mat_id": "agm1"}),
        make("NaCl", -3.1, entry_id=None, data={"mat_id": "agm1", "material_id": "mp-9"}),
        make("NaCl", -3.2, entry_id=None, data={"material_id": "mp-9"}),
        make("NaCl", -3.3, entry_id=None),
        make("NaCl", -3.4, entry_id=7),
        make("NaCl", -3.5, entry_id="mp-1"),
        make("NaCl", -3.6, entry_id="mp-1#2"),
        make("NaCl", -3.7, entry_id="mp-1"),
    ]
    dumpfn(rows, tmp_path / "my.hull.json.gz")
    found = [e.id for e in read_entries(tmp_path / "my.hull.json.gz")]
    assert found == ["mp-1", "agm1", "mp-9", "my.hull-3", "7", "mp-1#2", "mp-1#2#2", "mp-1#3"]
    again = [e.id for e in read_entries([tmp_path / "my.hull.json.gz"] * 2)]
    assert len(set(again)) == 16
    assert again[:8] == found


def broken_entries() -> list[Any]:
    good = structure_entry("NaCl", -3.4).as_dict()
    structure = good["structure"]
    disordered = Structure(Lattice.cubic(4), [{"Na": 0.5, "K": 0.5}, "Cl"], [[0] * 3, [0.5] * 3]).as_dict()
    return [
        good,
        "no entry",
        {"energy": -3.4},
        good | {"energy": None},
        good | {"energy": math.nan},
        good | {"composition": {"Xx": 1}},
        good | {"composition": {}, "structure": None},
        good | {"composition": {"Na": "one"}},
        good | {"composition": {"Na": 4, "Cl": 3}},
        good | {"structure": disordered, "composition": {"Na": 1, "K": 1, "Cl": 2}},
        good | {"structure": structure | {"lattice": {"matrix": [[0.0] * 3] * 3}}},
        good | {"structure": structure | {"sites": [{}]}},
        good | {"composition": {"Na": 0.5, "Cl": 0.5}, "energy": -3.4},
        {key: value for key, value in good.items() if key != "composition"},
        good | {"composition": {"Na+": 4.0, "Cl-": 4.0}},
        good | {"energy_adjustments": [{"name": "?"}], "correction": None},
        good | {"composition": {"Na": math.pi, "Cl": math.e, "K": 2**0.5}, "structure": None},
    ]


def test_broken_entries_keep_their_rows(tmp_path: Path) -> None:
    path = tmp_path / "broken.json"
    path.write_text(json.dumps(broken_entries()))
    found = list(read_entries(path))
    assert [(e.status, e.crystal_status) for e in found] == [
        ("ok", "ok"),
        ("unreadable", "unreadable"),
        ("unreadable", "no_structure"),
        ("no_energy", "ok"),
        ("no_energy", "ok"),
        ("unknown_element", "ok"),
        ("empty_crystal", "no_structure"),
        ("unreadable", "ok"),
        ("unreadable", "unreadable"),  # composition and structure contradict each other
        ("ok", "disordered"),
        ("ok", "bad_lattice"),
        ("ok", "unreadable"),
        ("ok", "ok"),
        ("ok", "ok"),
        ("ok", "ok"),
        ("no_energy", "ok"),
        ("unreadable", "no_structure"),
    ]
    assert all(e.energy == pytest.approx(-3.4) for e in found if e.status == "ok" and e.formula == "NaCl")
    assert found[12].counts == {11: 1, 17: 1}
    assert len({e.id for e in found}) == len(found)
    assert {e.status for e in found} | {e.crystal_status for e in found} <= STATUSES.keys()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.json", b"[1, 2]", "no computed entries"),
        ("a.json", b"[]", "no computed entries"),
        ("a.json", b"3", "no computed entries"),
        ("a.json", b'{"energies": []}', "no computed entries"),
        ("a.json", b'{"entries": {"GGA": 1}}', "no computed entries"),
        ("a.json", b"hello", "cannot be read"),
        ("a.json", b"\xff\xfe\x00", "cannot be read"),
        ("a.json", b'[{"energy": 1, "composition": {"Na": 1}}', "cannot be read"),
        ("a.json", b'[{"energy": 1, "composition": {"Na": 1}} {}]', "cannot be read"),
        ("a.json", b'[{"energy": 1, "composition": {"Na": 1}}] []', "cannot be read"),
        ("a.json", b'{"entries": [{"energy": 1, "composition": {"Na": 1}}]', "cannot be read"),
        ("a.json", b'[{"energy": 1, "composition: {"Na": 1}}' + b" " * 40 + b"]", "cannot be read"),
        ("a.json.gz", gzip.compress(b'[{"energy": 1, "composition": {"Na": 1}}]', mtime=0)[:-12], "cannot be unpacked"),
        ("a.json.bz2", bz2.compress(b'[{"energy": 1, "composition": {"Na": 1}}]')[:-12], "cannot be unpacked"),
        ("a.json.bz2", b"BZh9 is not a bzip2", "cannot be unpacked"),
    ],
)
def test_what_is_no_file_of_entries_is_said_in_one_sentence(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=words) as error:
        list(read_entries(tmp_path / name))
    assert str(error.value).startswith(str(tmp_path / name))
    assert "\n" not in str(error.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent\.json does not exist"):
        list(read_entries(tmp_path / "absent.json"))


def test_a_corrected_energy_is_not_taken_for_an_uncorrected_one(tmp_path: Path) -> None:
    """Alexandria names both; where `energy` is the corrected one and no correction is carried, it is told apart."""
    data = {"energy_total": -12.0, "energy_corrected": -12.687, "mat_id": "agm1"}
    rows = [
        ComputedEntry("Li2O", -12.0, entry_id=None, data=data),
        ComputedEntry("Li2O", -12.687, entry_id=None, data=data),
        ComputedEntry("Li2O", -12.0, correction=-0.687, entry_id=None, data=data),
    ]
    dumpfn(rows, tmp_path / "a.json")
    found = list(read_entries(tmp_path / "a.json"))
    assert [e.energy for e in found] == pytest.approx([-4.0] * 3)
    assert [e.correction for e in found] == [None, pytest.approx(-0.229), pytest.approx(-0.229)]


def test_entries_are_crystals_for_every_stage(tmp_path: Path) -> None:
    path = tmp_path / "mine.json.bz2"
    rows = [structure_entry("NaCl", data={"e_above_hull": 0.0, "band_gap": 5.0}), composition_entry("Na2O", -4.0)]
    dumpfn({"entries": rows}, path)
    table = read_crystals([path])
    assert table.column("id").to_pylist() == ["mp-NaCl", "c-Na2O"]
    assert table.column("status").to_pylist() == ["ok", "no_structure"]
    assert table.column("formula").to_pylist() == ["NaCl", None]
    assert table.column("dft_e_above_hull").to_pylist() == [0.0, None]
    assert table.column("dft_band_gap").to_pylist() == [5.0, None]
    assert table.column("source").to_pylist() == ["mine"] * 2
    dumpfn([composition_entry("Na2O", -4.0)], tmp_path / "bare.json")
    with pytest.raises(InputError, match="without structures"):
        read_crystals([tmp_path / "bare.json"])


def test_the_json_of_ase_is_still_read(tmp_path: Path) -> None:
    import ase.db
    from ase.build import bulk

    with ase.db.connect(tmp_path / "a.json") as database:
        database.write(bulk("NaCl", "rocksalt", a=5.64))
    assert read_crystals([tmp_path / "a.json"]).column("formula").to_pylist() == ["NaCl"]


# --- corrections --------------------------------------------------------------


@pytest.mark.parametrize("name", structures())
def test_corrections_are_those_of_pymatgen(name: str) -> None:
    structure = structures()[name]
    expected = pymatgen_correction(structure_entry(name))
    scheme, crystal = MP2020(), crystal_of(structure)
    counts = composition(crystal.atomic_numbers)
    assert scheme.hubbards(counts) == HUBBARDS.get(name, {})
    assert scheme.correction(counts, crystal) == pytest.approx(expected, abs=1e-12)
    assert scheme.correction(counts, crystal, hubbards=HUBBARDS.get(name, {})) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        # eV a formula unit by the published table: per anion, and per metal that has a Hubbard U
        ("Li2O", -0.687),
        ("Li2O2", 2 * -0.465),
        ("KO2", 2 * -0.161),
        ("KO3", 0.0),
        ("NaCl", -0.614),
        ("Fe2O3", 3 * -0.687 + 2 * -2.256),
        ("LiFePO4", 4 * -0.687 - 2.256),
        ("FeF3", 3 * -0.462 - 2.256),
        ("MoS2", 2 * -0.503),
        ("MgSO4", 4 * -0.687),
        ("Na", 0.0),
    ],
)
def test_corrections_are_those_of_the_publication(name: str, value: float) -> None:
    crystal = crystal_of(structures()[name])
    atoms = Composition(name).num_atoms
    assert MP2020().correction(composition(crystal.atomic_numbers), crystal) == pytest.approx(value / atoms, abs=1e-9)


def test_without_a_structure_the_formula_decides() -> None:
    scheme = MP2020()
    for formula in ("Li2O", "Li2O2", "LiO2", "KO2", "NaCl", "Fe2O3", "LiFePO4", "CaO4"):
        hubbards = {"Fe": 5.3} if "Fe" in formula else {}
        entry = ComputedEntry(formula, -1.0, parameters={"run_type": "GGA", "hubbards": hubbards})
        assert scheme.correction(counts_of(formula)) == pytest.approx(pymatgen_correction(entry), abs=1e-12)
    # the guess goes wrong where the structure does not: a potassium ozonide of doubled formula, a sulfate
    sulfate = structures()["MgSO4"]
    assert scheme.correction(counts_of("MgSO4")) != pytest.approx(scheme.correction(counts_of("MgSO4"), crystal_of(sulfate)))


def test_labels_that_are_there_come_first() -> None:
    scheme = MP2020()
    peroxide = scheme.correction(counts_of("Li2O"), hints={"oxide_type": "peroxide"})
    assert peroxide == pytest.approx(-0.465 / 3)
    # a guess that is kept is not a label of later compounds
    assert scheme.correction(counts_of("NaCl")) == scheme.correction(counts_of("NaCl")) == pytest.approx(-0.307)
    assert scheme.correction(counts_of("NaCl"), hints={"oxidation_states": {"Na": 1.0, "Cl": -0.5}}) == 0.0
    assert scheme.correction(counts_of("NaCl")) == pytest.approx(-0.307)


@pytest.mark.parametrize("formula", ["LaCuSi6", "SeC", "LiRuH6"])
def test_the_order_of_elements_does_not_matter(formula: str) -> None:
    """Elements of equal electronegativity: pymatgen's answer depends on their order, ours is that of a sorted structure."""
    elements = sorted(counts_of(formula).items())
    in_order = ComputedEntry(
        Composition({s: counts_of(formula)[ATOMIC_NUMBERS[s]] for s in sorted(Composition(formula).as_dict())}),
        -1.0,
        parameters={"run_type": "GGA"},
    )
    for order in (elements, elements[::-1]):
        assert MP2020().correction(dict(order)) == pytest.approx(pymatgen_correction(in_order), abs=1e-12)


def test_what_the_scheme_does_not_cover_is_refused() -> None:
    with pytest.raises(NoCorrectionError, match="Invalid U value"):
        MP2020().correction(counts_of("Fe2O3"), hubbards={})
    with pytest.raises(NoCorrectionError):
        MP2020().correction(counts_of("Li2O"), hints={"oxide_type": "None"})


SECOND_ANIONS = ("Br", "I", "Se", "Si", "Sb", "Te", "H", "N", "F", "Cl")
"""Those that the scheme corrects where their oxidation state is negative."""


def reduced(counts: dict[int, int]) -> dict[int, int]:
    divisor = math.gcd(*counts.values())
    return {z: counts[z] // divisor for z in sorted(counts, key=electronegativity_rank)}


def test_corrections_of_real_crystals(shared: Path) -> None:
    """U values by pymatgen's input set itself, corrections by process_entries, on crystals of all kinds."""
    from pymatgen.io.vasp.sets import MPRelaxSet

    table = read_crystals([shared / "data" / "structures.parquet"])
    chosen = table.take(np.random.default_rng(7).choice(table.num_rows, 120, replace=False))
    scheme, unknown = MP2020(), 0
    for row in chosen.to_pylist():
        crystal = Crystal(
            np.array(row["atomic_numbers"]), np.reshape(row["frac_coords"], (-1, 3)), np.reshape(row["lattice"], (3, 3))
        )
        structure = Structure(crystal.lattice, crystal.atomic_numbers, crystal.frac_coords).get_sorted_structure()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            incar = MPRelaxSet(structure).incar
        symbols = [element.symbol for element in structure.elements]
        values = dict(zip(symbols, incar.get("LDAUU", [0] * len(symbols)), strict=True))
        hubbards = {symbol: u for symbol, u in values.items() if u}
        parameters = {"run_type": "GGA+U" if hubbards else "GGA", "hubbards": hubbards}
        counts = composition(crystal.atomic_numbers)
        # pymatgen guesses up to 20 atoms; beyond, and where it found no states, see test_oxidation_states.py
        guessed = structure.composition.reduced_composition.num_atoms <= 20
        data = {} if guessed else {"oxidation_states": oxidation_states(reduced(counts))}
        expected = pymatgen_correction(ComputedStructureEntry(structure, -1.0, parameters=parameters, data=data))
        second = any(may_be_second_anion(z, reduced(counts)) for z in counts if SYMBOLS[z - 1] in SECOND_ANIONS)
        if second and not oxidation_states(reduced(counts)):
            unknown += 1
            with pytest.raises(NoCorrectionError, match="whether"):
                scheme.correction(counts, crystal)
            continue
        assert scheme.correction(counts, crystal) == pytest.approx(expected, abs=1e-12)
    assert unknown < 6


# --- a reference of given energies --------------------------------------------

ENERGIES = {"Na": -1.3, "K": -1.1, "Li": -1.9, "Fe": -8.2, "O2": -4.95, "Cl2": -1.8, "F2": -1.9}
COMPOUNDS = {
    "NaCl": -3.1,
    "Na2O": -3.8,
    "Na2O2": -3.9,
    "KO2": -4.0,
    "LiFeO2": -6.3,
    "Fe2O3": -6.6,
    "FeO": -6.7,
    "LiCl": -3.6,
    "LiF": -4.9,
    "FeF3": -5.6,
    "Li3FeF6": -5.2,
    "Na3Cl": -1.5,
}


def hull_entries() -> list[ComputedEntry]:
    """Elements, and compounds with the run types that the Materials Project gives them."""
    rows = [composition_entry(formula, energy) for formula, energy in ENERGIES.items()]
    for formula, energy in COMPOUNDS.items():
        hubbards = {"Fe": 5.3} if "Fe" in formula else {}
        run = {"run_type": "GGA+U" if hubbards else "GGA", "hubbards": hubbards}
        rows.append(composition_entry(formula, energy, parameters=run))
    return rows


def reference(path: Path, *arguments: str, out: str = "dft.parquet") -> dict[str, Any]:
    command = [str(path), "--energies", "given", *arguments, "--out", str(path.parent / out), "--json"]
    result = CliRunner().invoke(reference_command, command, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture
def entries_file(tmp_path: Path) -> Path:
    path = tmp_path / "entries.json.bz2"
    dumpfn({"entries": hull_entries()}, path)
    return path


@pytest.mark.parametrize("corrections", ["mp2020", "none", "as-given"])
def test_the_hull_is_that_of_a_phase_diagram(tmp_path: Path, corrections: str) -> None:
    rows = hull_entries()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        processed = MaterialsProject2020Compatibility(check_potcar=False).process_entries(rows, inplace=False)
    assert len(processed) == len(rows)
    path = tmp_path / "entries.json.bz2"
    dumpfn({"entries": processed if corrections == "as-given" else rows}, path)
    summary = reference(path, "--corrections", corrections)
    assert summary["statuses"] == {"ok": len(rows)}
    assert summary["energies"]["corrections"] == ("none" if corrections == "none" else "MP2020")

    diagram = PhaseDiagram(rows if corrections == "none" else processed)
    hull = Hull.from_reference(tmp_path / "dft.parquet")
    random = np.random.default_rng(1)
    elements = [element.Z for element in diagram.elements]
    for _ in range(30):
        numbers = np.repeat(elements, random.integers(0, 4, len(elements)))
        if len(numbers) == 0:
            continue
        counts = {ATOMIC_NUMBERS_INVERSE[z]: n for z, n in composition(numbers).items()}
        expected = diagram.get_hull_energy_per_atom(Composition(counts))
        formation = hull.formation_energy(numbers, -4.0)
        assert -4.0 - hull.distance(numbers, formation).e_above_hull == pytest.approx(expected, abs=1e-6)
    for entry in diagram.all_entries:
        numbers = [z for z, n in counts_of(entry.composition.formula).items() for _ in range(n)]
        formation = hull.formation_energy(numbers, entry.energy_per_atom)
        assert formation == pytest.approx(diagram.get_form_energy_per_atom(entry), abs=1e-6)
        assert hull.distance(numbers, formation).e_above_hull == pytest.approx(diagram.get_e_above_hull(entry), abs=1e-6)


ATOMIC_NUMBERS_INVERSE = {z: symbol for symbol, z in ATOMIC_NUMBERS.items()}


def test_what_the_reference_records(entries_file: Path) -> None:
    reference(entries_file)
    table = pq.read_table(entries_file.parent / "dft.parquet")
    assert table.column_names == [column.name for column in REFERENCE]
    rows = {row["id"]: row for row in table.to_pylist()}
    assert {row["role"] for row in rows.values()} == {"hull_only"}
    assert {row["source"] for row in rows.values()} == {"entries"}
    assert rows["c-Na2O"]["energy"] == pytest.approx(-3.8 - 0.687 / 3)
    assert rows["c-Na2O"]["lattice"] is None
    assert rows["c-Na2O"]["n_atoms"] == 3
    assert rows["c-Na2O"]["formation_energy"] == pytest.approx(-3.8 - 0.687 / 3 + (2 * 1.3 + 4.95) / 3)
    record = read_provenance(entries_file.parent / "dft.parquet")
    assert record["potential"] == {
        "name": "DFT as given, PBE/PBE+U",
        "weights_sha256": sha256(entries_file),
        "corrections": "MP2020",
        "method": "DFT",
        "functional": "PBE",
        "variant": "",
    }
    assert record["elemental_energies"]["O"] == pytest.approx(-4.95)
    assert "from labels or the formula for 19" in record["energies"]["hull_only"]
    content = (entries_file.parent / "dft.parquet").read_bytes()
    reference(entries_file)
    assert (entries_file.parent / "dft.parquet").read_bytes() == content


def test_rows_that_cannot_be_used_keep_their_place_and_say_why(tmp_path: Path) -> None:
    path = tmp_path / "mixed.json"
    gga = {"run_type": "GGA", "hubbards": {}}
    rows = [
        composition_entry("Na", -1.3),
        composition_entry("Na", -1.2, entry_id="high"),
        composition_entry("O2", -4.9),
        composition_entry("Fe", -8.2),
        structure_entry("Fe2O3", -6.6),
        structure_entry("Fe2O3", -7.6, parameters=gga, entry_id="without U"),
        composition_entry("NaCl", -3.0),
        composition_entry("Na2O", -3.8, data={"oxide_type": "None"}),
    ]
    path.write_text(json.dumps([*rows, "broken"], cls=MontyEncoder))
    summary = reference(path)
    found = {row["id"]: row for row in pq.read_table(tmp_path / "dft.parquet").to_pylist()}
    statuses = {name: row["status"] for name, row in found.items()}
    assert statuses == {
        "c-Na": "ok",
        "high": "ok",
        "c-O2": "ok",
        "c-Fe": "ok",
        "mp-Fe2O3": "ok",
        "without U": "other_functional",
        "c-NaCl": "no_reference_energy",
        "c-Na2O": "no_correction",
        "mixed-8": "unreadable",
    }
    assert set(statuses.values()) <= STATUSES.keys()
    assert summary["statuses"]["ok"] == 5
    assert found["high"]["formation_energy"] == pytest.approx(0.1)
    assert Hull.from_reference(tmp_path / "dft.parquet").n_entries == 5


def test_one_functional_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "two.json"
    scan = {"run_type": "R2SCAN"}
    rows = [composition_entry("Na", -1.3), composition_entry("Cl2", -1.8), composition_entry("NaCl", -3.0)]
    rows += [composition_entry(f, e - 4, parameters=scan, entry_id=f"r-{f}") for f, e in (("Na", -1.3), ("Cl2", -1.8))]
    dumpfn(rows, path)
    with pytest.raises(InputError, match=r"entry 'r-Na'.*PBE and r2SCAN.*choose the functional"):
        reference(path)
    with pytest.raises(InputError, match="MP2020 corrections are made for PBE"):
        reference(path, "--functional", "r2SCAN")
    summary = reference(path, "--functional", "r2SCAN", "--corrections", "none")
    assert summary["statuses"] == {"ok": 2, "other_functional": 3}
    assert summary["energies"]["functional"] == "r2SCAN"
    assert reference(path, "--functional", "PBE")["statuses"] == {"ok": 3, "other_functional": 2}
    dumpfn(rows[3:], path)
    with pytest.raises(InputError, match="not for r2SCAN energies"):
        reference(path)


def test_corrections_as_given_are_called_mp2020_only_where_all_are(tmp_path: Path) -> None:
    path = tmp_path / "some.json"
    elements = [composition_entry(f, e) for f, e in ENERGIES.items()]
    named = [composition_entry("Na2O", -3.8), composition_entry("NaCl", -3.0)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        MaterialsProject2020Compatibility(check_potcar=False).process_entries(named)
    bare = composition_entry("K2O", -3.3)
    legacy = composition_entry("K2O", -3.3, correction=-0.687)
    for rows, corrections in (
        (named, "MP2020"),
        ([*named, bare], "as given, under no known name"),
        ([*named, legacy], "as given, under no known name"),
        ([bare], "as given, under no known name"),
    ):
        dumpfn(elements + rows, path)
        assert reference(path, "--corrections", "as-given")["energies"]["corrections"] == corrections
    table = {row["id"]: row for row in pq.read_table(tmp_path / "dft.parquet").to_pylist()}
    assert table["c-K2O"]["energy"] == pytest.approx(-3.3)


def test_elemental_energies(tmp_path: Path) -> None:
    path, elements = tmp_path / "compounds.json", tmp_path / "elements.json"
    dumpfn([composition_entry("NaCl", -3.0)], path)
    with pytest.raises(InputError, match="no usable elemental entries"):
        reference(path)
    elements.write_text(json.dumps({"Na": -1.0, "Xx": -2.0}))
    with pytest.raises(InputError, match=r"elements.json, key 'Xx' is not an element symbol"):
        reference(path, "--elemental-energies", str(elements))
    elements.write_text(json.dumps({"Na": -1.0, "Cl": -2.0}))
    reference(path, "--elemental-energies", str(elements))
    row = pq.read_table(tmp_path / "dft.parquet").to_pylist()[0]
    assert row["formation_energy"] == pytest.approx(-3.0 - 0.307 + 1.5)


def test_reading_is_lazy() -> None:
    """A long file is never in memory as a whole: entries are taken one after the other."""
    taken = []

    def endless() -> Any:
        for i in range(3):
            taken.append(i)
            yield DftEntry(f"a{i}", "ok", {11: 1}, -1.0, run_type="GGA" if i == 0 else "SCAN")

    with pytest.raises(InputError, match="do not make one hull"):
        given_reference(endless(), digest="00", source="here")
    assert taken == [0, 1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--energies", "given", "--potential", "chgnet"], "--potential has no effect"),
        (["--energies", "given", "--work", "here"], "--work has no effect"),
        (["--corrections", "none"], "--corrections has no effect"),
        (["--functional", "PBE"], "--functional has no effect"),
        ([], "--elemental-energies is missing"),
    ],
)
def test_options_without_effect_are_refused(entries_file: Path, arguments: list[str], words: str) -> None:
    out = entries_file.parent / "out.parquet"
    result = CliRunner().invoke(reference_command, [str(entries_file), *arguments, "--out", str(out)])
    assert isinstance(result.exception, InputError)
    assert words in str(result.exception)
    assert not out.exists()


def test_given_energies_need_a_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent\.json is not a file"):
        reference(tmp_path / "absent.json")


# --- a potential's energies against DFT ---------------------------------------


def identity_of(record: dict[str, Any] | None) -> PotentialIdentity | None:
    return PotentialIdentity.from_record(record)


@pytest.mark.parametrize(
    ("record", "functional", "corrections"),
    [
        (CHGNET, Functional.PBE, Corrections.MP2020),
        (R2SCAN, Functional.R2SCAN, Corrections.NONE),
        (RAW, Functional.UNKNOWN, Corrections.NONE),
        (MACE, Functional.UNKNOWN, Corrections.UNKNOWN),
        (
            MACE | {"corrections": "those of the training energies, head matpes_r2scan"},
            Functional.R2SCAN,
            Corrections.UNKNOWN,
        ),
        ({"name": "ASE my.module:Class", "corrections": "unknown"}, Functional.UNKNOWN, Corrections.UNKNOWN),
        ({"name": "x", "corrections": None}, Functional.UNKNOWN, Corrections.UNKNOWN),
    ],
)
def test_what_an_old_record_says_of_its_scale(
    record: dict[str, Any], functional: Functional, corrections: Corrections
) -> None:
    """Version 0.1 wrote the corrections as prose."""
    found = identity_of(record)
    assert found is not None
    assert (found.functional, found.corrections) == (functional, corrections)
    assert PotentialIdentity.from_record(found.as_record()) == found


def test_a_record_without_a_name_is_no_identity() -> None:
    assert identity_of({}) is identity_of(None) is identity_of({"corrections": "none"}) is None


def dft_of(record: dict[str, Any]) -> PotentialIdentity:
    found = identity_of(record)
    assert found is not None
    return found


def dft(corrections: str, functional: str = "PBE") -> dict[str, Any]:
    return {"name": "DFT", "weights_sha256": "1", "corrections": corrections, "method": "DFT", "functional": functional}


@pytest.mark.parametrize(
    ("found", "expected", "said", "add"),
    [
        (CHGNET, dft("MP2020"), None, False),
        (CHGNET, dft("MP2020"), Corrections.MP2020, False),
        (RAW, dft("MP2020"), None, True),
        (RAW, dft("none"), None, False),
        (R2SCAN, dft("none", "r2SCAN"), None, False),
        (MACE, dft("MP2020"), Corrections.NONE, True),
        (MACE, dft("MP2020"), Corrections.MP2020, False),
        (MACE, dft("none"), Corrections.NONE, False),
        (None, dft("MP2020"), Corrections.NONE, True),
    ],
)
def test_what_is_added(found: dict[str, Any] | None, expected: dict[str, Any], said: Corrections | None, add: bool) -> None:
    assert must_add_mp2020("relaxed", identity_of(found), "reference", dft_of(expected), said) is add


@pytest.mark.parametrize(
    ("found", "expected", "said", "words"),
    [
        (CHGNET, CHGNET, None, "not of DFT"),
        (CHGNET, dft("none"), None, "include MP2020 corrections but reference holds uncorrected ones"),
        (MACE, dft("none"), Corrections.MP2020, "include MP2020 corrections but reference holds uncorrected ones"),
        (CHGNET, dft("MP2020"), Corrections.NONE, "contradicts what is said of their corrections, none"),
        (RAW, dft("MP2020"), Corrections.MP2020, "contradicts what is said of their corrections, MP2020"),
        (MACE, dft("MP2020"), None, "say whether they do"),
        (None, dft("MP2020"), None, "say whether they do"),
        (RAW, dft("as given, under no known name"), None, "of no known name"),
        (R2SCAN, dft("MP2020"), None, "learned r2SCAN, but reference holds PBE"),
        (CHGNET, dft("none", "r2SCAN"), None, "learned PBE, but reference holds r2SCAN"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    found: dict[str, Any] | None, expected: dict[str, Any], said: Corrections | None, words: str
) -> None:
    with pytest.raises(InputError, match=words):
        must_add_mp2020("relaxed", identity_of(found), "reference", dft_of(expected), said)


RELAXED = {"Li2O2": -4.7, "Fe2O3": -6.5, "NaCl": -3.0, "KO2": -3.9, "Na": -1.2}


def relaxed(path: Path, identity: dict[str, Any] | None, *, structured: bool = True) -> Path:
    crystals = [crystal_of(structures()[name]) for name in RELAXED]
    data: dict[str, Any] = {
        "id": [*RELAXED, "failed", "exotic"],
        "atomic_numbers": [c.atomic_numbers.tolist() for c in crystals] + [None, [92, 17]],
        "energy": [*RELAXED.values(), None, -3.0],
        "energy_initial": [e + 0.1 for e in RELAXED.values()] + [None, None],
        "status": ["ok"] * len(RELAXED) + ["collapsed", "ok"],
    }
    if structured:
        data["frac_coords"] = [c.frac_coords.ravel().tolist() for c in crystals] + [None, [0.0] * 3 + [0.5] * 3]
        data["lattice"] = [c.lattice.ravel().tolist() for c in crystals] + [None, (4 * np.eye(3)).ravel().tolist()]
    write_table(path, pa.table(data), {"stage": "relax"} | ({"potential": identity} if identity else {}))
    return path


def hull(folder: Path, *arguments: object) -> tuple[dict[str, dict[str, Any]], dict[str, Any], dict[str, Any]]:
    command = [*map(str, arguments), "--reference", str(folder / "dft.parquet"), "--out", str(folder / "hull.parquet")]
    result = CliRunner().invoke(hull_command, [*command, "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    rows = {row["id"]: row for row in pq.read_table(folder / "hull.parquet").to_pylist()}
    return rows, read_provenance(folder / "hull.parquet"), json.loads(result.stdout)


def test_another_scale_is_refused_unless_asked_for(entries_file: Path) -> None:
    reference(entries_file)
    folder = entries_file.parent
    path = relaxed(folder / "relaxed.parquet", RAW)
    with pytest.raises(
        InputError, match=r"raw potential.*holds energies of DFT as given.*file.*or ask for a comparison with DFT"
    ):
        hull(folder, path)
    with pytest.raises(InputError, match="contradict each other"):
        hull(folder, path, "--against-dft", "--assume-same-potential")
    other = relaxed(folder / "other.parquet", MACE)
    table = pq.read_table(other)
    write_table(other, table.set_column(0, "id", pa.array([f"x{i}" for i in range(table.num_rows)])), {"potential": MACE})
    with pytest.raises(InputError, match="give tables of one potential"):
        hull(folder, path, other, "--against-dft")
    assert not (folder / "hull.parquet").exists()


def test_an_uncorrected_potential_is_corrected_by_its_structures(entries_file: Path) -> None:
    reference(entries_file)
    folder = entries_file.parent
    rows, record, summary = hull(folder, relaxed(folder / "relaxed.parquet", RAW), "--against-dft")
    assert {name: row["status"] for name, row in rows.items()} == dict.fromkeys(RELAXED, "ok") | {
        "failed": "collapsed",
        "exotic": "no_reference_energy",
    }
    dft_hull = Hull.from_reference(folder / "dft.parquet")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        diagram = PhaseDiagram(MaterialsProject2020Compatibility(check_potcar=False).process_entries(hull_entries()))
    for name, energy in RELAXED.items():
        entry = structure_entry(name, energy)
        correction = pymatgen_correction(entry)
        numbers = entry.structure.atomic_numbers
        formation = dft_hull.formation_energy(numbers, energy + correction)
        assert rows[name]["formation_energy"] == pytest.approx(formation, abs=1e-9)
        assert rows[name]["formation_energy_initial"] == pytest.approx(formation + 0.1, abs=1e-9)
        expected = diagram.get_e_above_hull(entry, allow_negative=True)
        assert rows[name]["e_above_hull"] == pytest.approx(expected, abs=1e-6)
        assert rows[name]["e_above_hull_initial"] == pytest.approx(expected + 0.1, abs=1e-6)
    assert identity_of(record["potential"]) == identity_of(RAW)
    assert record["parameters"]["against_dft"] is True
    assert record["against_dft"]["corrections_added"] == "MP2020"
    assert identity_of(record["against_dft"]["reference"]) == dft_hull.identity
    assert record["against_dft"]["crystals"] == {"structure": 6, "composition": 0, "failed": 0}
    assert "MP2020 corrections added" in summary["against_dft"]["statement"]


def test_without_structures_the_record_says_so(entries_file: Path) -> None:
    reference(entries_file)
    folder = entries_file.parent
    _, record, _ = hull(folder, relaxed(folder / "relaxed.parquet", RAW, structured=False), "--against-dft")
    assert record["against_dft"]["crystals"] == {"structure": 0, "composition": 6, "failed": 0}


@pytest.mark.parametrize(("identity", "arguments"), [(CHGNET, []), (MACE, ["--potential-corrections", "mp2020"])])
def test_a_corrected_potential_is_left_as_it_is(entries_file: Path, identity: dict[str, Any], arguments: list[str]) -> None:
    reference(entries_file)
    folder = entries_file.parent
    rows, record, _ = hull(folder, relaxed(folder / "relaxed.parquet", identity), "--against-dft", *arguments)
    dft_hull = Hull.from_reference(folder / "dft.parquet")
    for name, energy in RELAXED.items():
        formation = dft_hull.formation_energy(structures()[name].atomic_numbers, energy)
        assert rows[name]["formation_energy"] == pytest.approx(formation, abs=1e-12)
    assert record["against_dft"]["corrections_added"] == "none"
    assert identity_of(record["potential"]) == identity_of(identity)


def test_the_user_says_what_the_identity_does_not(entries_file: Path) -> None:
    reference(entries_file)
    folder = entries_file.parent
    path = relaxed(folder / "relaxed.parquet", MACE)
    with pytest.raises(InputError, match="say whether they do"):
        hull(folder, path, "--against-dft")
    rows, record, _ = hull(folder, path, "--against-dft", "--potential-corrections", "none")
    assert record["against_dft"]["potential_corrections_by_user"] == "none"
    raw, _, _ = hull(folder, relaxed(folder / "raw.parquet", RAW), "--against-dft")
    assert rows == raw


def test_a_crystal_that_cannot_be_corrected_says_so(entries_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reference(entries_file)
    folder = entries_file.parent
    real = MP2020.correction

    def fails_for_salt(self: MP2020, counts: Any, *arguments: Any, **more: Any) -> float:
        if 17 in counts:
            raise NoCorrectionError("no")
        return real(self, counts, *arguments, **more)

    monkeypatch.setattr(MP2020, "correction", fails_for_salt)
    rows, record, _ = hull(folder, relaxed(folder / "relaxed.parquet", RAW), "--against-dft")
    assert rows["NaCl"]["status"] == "no_correction"
    assert rows["NaCl"]["e_above_hull"] is None
    assert rows["Na"]["status"] == "ok"
    assert record["against_dft"]["crystals"]["failed"] == 2


def test_a_reference_of_a_potential_is_no_dft(tmp_path: Path) -> None:
    table = make_table(
        REFERENCE, {"id": ["a"], "formula": ["Na"], "energy": [-1.3], "formation_energy": [0.0], "status": ["ok"]}
    )
    write_table(tmp_path / "dft.parquet", table, {"potential": CHGNET, "elemental_energies": {"Na": -1.3}})
    with pytest.raises(InputError, match="not of DFT"):
        hull(tmp_path, relaxed(tmp_path / "relaxed.parquet", RAW), "--against-dft")


def test_entries_with_structures_are_relaxed_like_other_crystals(tmp_path: Path) -> None:
    """`reference --potential` on entries: the potential's energies, with DFT labels that decide the roles."""
    path, elements = tmp_path / "mp.json.gz", tmp_path / "elements.json"
    near = structure_entry("NaCl", -3.4, data={"energy_above_hull": 0.0})
    far = structure_entry("Li2O", -4.0, data={"energy_above_hull": 0.7})
    dumpfn([near, far, composition_entry("K2O", -3.0)], path)
    elements.write_text(json.dumps({"Na": -1.3, "Cl": -1.8, "Li": -1.9, "O": -4.9}))
    out = tmp_path / "reference.parquet"
    command = [str(path), "--elemental-energies", str(elements), "--max-evaluations", "2", "--out", str(out)]
    result = CliRunner().invoke(reference_command, command, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    rows = {row["id"]: row for row in pq.read_table(out).to_pylist()}
    assert rows["mp-NaCl"]["role"] in ("pretraining", "held_out")
    assert rows["mp-NaCl"]["lattice"] is not None
    assert rows["mp-NaCl"]["dft_e_above_hull"] == 0.0
    assert (rows["mp-Li2O"]["role"], rows["mp-Li2O"]["status"]) == ("hull_only", "ok")
    assert rows["c-K2O"]["status"] == "no_structure"
    assert "DFT" not in read_provenance(out)["potential"]["name"]
