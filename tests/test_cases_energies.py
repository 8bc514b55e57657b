"""What went wrong for others with references, hulls and relaxation: their inputs made on the spot, and the right outcomes.

Energies were reported by those who met the cases, or lie near real ones; what must come of them are sums by hand.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ase.io
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ase import Atoms
from ase.build import bulk
from click.testing import CliRunner, Result

from crystalformer_rl.cli.evaluate import command as evaluate_command
from crystalformer_rl.cli.hull import command as hull_command
from crystalformer_rl.cli.reference import command as reference_command
from crystalformer_rl.cli.relax import command as relax_command
from crystalformer_rl.crystal.elements import ATOMIC_NUMBERS, parse_formula
from crystalformer_rl.errors import InputError
from crystalformer_rl.reading.entries import DftEntry
from crystalformer_rl.reference.given import given_reference
from crystalformer_rl.reference.identity import PotentialIdentity
from crystalformer_rl.tables.provenance import read_provenance

UNCORRECTED = ("--against-dft", "--potential-corrections", "none")


def entry(name: str, amounts: dict[str, float], energy: float, run_type: str | None = "GGA", **adjustments: float) -> dict:
    """A computed entry as JSON has it: energy, and adjustments by name, in eV for the amounts given."""
    listed = [
        {"@module": "pymatgen.entries.computed_entries", "@class": "ConstantEnergyAdjustment", "value": value, "name": title}
        for title, value in adjustments.items()
    ]
    return {
        "entry_id": name,
        "composition": amounts,
        "energy": energy,
        "correction": sum(adjustments.values()),
        "energy_adjustments": listed,
        "parameters": {"run_type": run_type, "hubbards": {}} if run_type else {},
        "data": {},
    }


def reference(folder: Path, entries: list[dict], *arguments: str, name: str = "given") -> dict[str, dict[str, Any]]:
    """The rows, by id, of the reference that the command makes of the entries."""
    source, out = folder / f"{name}.json", folder / f"{name}.parquet"
    source.write_text(json.dumps(entries), encoding="utf-8")
    run(reference_command, source, "--energies", "given", *arguments, "--out", out)
    return {row["id"]: row for row in pq.read_table(out).to_pylist()}


def crystals(folder: Path, rows: dict[str, tuple[str, float]]) -> Path:
    """A table of crystals: by id, formula and energy in eV/atom."""
    numbers = [[z for z, n in parse_formula(formula).items() for _ in range(n)] for formula, _ in rows.values()]
    table = {"id": list(rows), "atomic_numbers": numbers, "energy": [energy for _, energy in rows.values()]}
    pq.write_table(pa.table(table), folder / "crystals.parquet")
    return folder / "crystals.parquet"


def hull(table: Path, against: Path, *arguments: str, out: Path | None = None) -> dict[str, dict[str, Any]]:
    """The rows, by id, of the hull."""
    out = out or against.with_name("hull.parquet")
    run(hull_command, table, "--reference", against, *arguments, "--out", out)
    return {row["id"]: row for row in pq.read_table(out).to_pylist()}


def run(command: Any, *arguments: object) -> Result:
    result = CliRunner().invoke(command, [*map(str, arguments), "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result


def energies(rows: dict[str, dict[str, Any]], name: str) -> tuple[float, float]:
    """Energy and formation energy, eV/atom."""
    return rows[name]["energy"], rows[name]["formation_energy"]


# --- functionals and scales mixed in one file -----------------------------------

MIXING = "MP GGA(+U)/r2SCAN mixing adjustment"
CSI = [
    entry("Cs", {"Cs": 2}, -1.79, **{MIXING: -194.0}),
    entry("Cs-r2SCAN", {"Cs": 1}, -97.9, "R2SCAN"),
    entry("I", {"I": 8}, -12.12, **{MIXING: -92.0}),
    entry("CsI", {"Cs": 1, "I": 1}, -5.605, **{"MP2020 anion correction (I)": -0.379, MIXING: -47.3}),
]


def test_energies_of_two_functionals_need_a_choice(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"PBE and r2SCAN.*--functional"):
        reference(tmp_path, CSI)
    assert not (tmp_path / "given.parquet").exists()

    rows = reference(tmp_path, CSI, "--functional", "PBE")
    assert rows["Cs-r2SCAN"]["status"] == "other_functional"
    assert energies(rows, "Cs") == (-0.895, 0.0)
    assert energies(rows, "I") == (-1.515, 0.0)
    assert energies(rows, "CsI") == pytest.approx((-2.992, -1.787), abs=1e-9)  # measured: -1.796


def test_nonsense_that_a_file_carries_is_kept_off_every_hull(tmp_path: Path) -> None:
    rows = reference(tmp_path, CSI, "--functional", "PBE", "--corrections", "as-given")
    assert energies(rows, "CsI") == pytest.approx((-26.642, 28.813), abs=1e-9)
    assert rows["CsI"]["status"] == "implausible_energy"
    with pytest.raises(InputError, match="corrections of no known name"):
        hull(crystals(tmp_path, {"x": ("CsI", -2.99)}), tmp_path / "given.parquet", *UNCORRECTED)


CDPT = [
    entry("Cd", {"Cd": 1}, -20.08070333, None),
    entry("Pt", {"Pt": 2}, -102.83724637, None),
    entry("CdPt", {"Cd": 2, "Pt": 2}, -15.21257292, None),
    entry("CdPt3", {"Cd": 1, "Pt": 3}, -19.82129031, None),
]


@pytest.mark.parametrize("corrections", ["none", "mp2020"])
def test_elements_on_another_scale_than_compounds_are_refused(tmp_path: Path, corrections: str) -> None:
    with pytest.raises(InputError, match=r"2 of 2 compounds .*\(entry 'CdPt3', CdPt3: \+38\.63\).*not on one scale; give"):
        reference(tmp_path, CDPT, "--corrections", corrections)


def test_one_element_on_another_scale_is_found_among_many_compounds() -> None:
    def entries(cadmium: float) -> list[DftEntry]:
        elements = {"Na": -1.3, "Cl": -1.8, "K": -1.1, "Br": -1.6, "Cd": cadmium, "S": -4.1}
        compounds = {
            "NaCl": -3.4,
            "KCl": -3.3,
            "NaBr": -3.1,
            "KBr": -3.0,
            "CdS": -3.0,
            "CdCl2": -3.0,
            "CdBr2": -2.7,
            "KCdCl3": -3.2,
        }
        both = {**elements, **compounds}
        return [DftEntry(name, "ok", parse_formula(name), energy) for name, energy in both.items()]

    table, _ = given_reference(entries(-0.9), digest="00", source="here", corrections="none")
    assert set(table.column("status").to_pylist()) == {"ok"}
    with pytest.raises(InputError, match="3 of 4 compounds of Cd lie more than 5 eV/atom"):
        given_reference(entries(-25.1), digest="00", source="here", corrections="none")


def test_one_wrong_entry_costs_its_row_alone(tmp_path: Path) -> None:
    salts = [entry("Na", {"Na": 1}, -1.3), entry("Cl", {"Cl": 2}, -3.6), entry("Na3Cl", {"Na": 3, "Cl": 1}, -7.0)]
    right, of_a_cell = entry("right", {"Na": 4, "Cl": 4}, -27.2), entry("wrong", {"Na": 1, "Cl": 1}, -27.2)
    rows = reference(tmp_path, [*salts, right, of_a_cell], "--corrections", "none")
    assert rows["wrong"]["status"] == "implausible_energy"
    found = hull(crystals(tmp_path, {"x": ("NaCl", -3.4)}), tmp_path / "given.parquet", *UNCORRECTED)["x"]
    assert found["e_above_hull"] == pytest.approx(0.0, abs=1e-7)
    assert found["decomposition"] == '{"right": 1.0}'


# --- energies per cell, per atom, and with charges ------------------------------

CSBR = [
    entry("Cs", {"Cs": 2}, -1.79),
    entry("Br", {"Br": 8}, -12.8),
    entry("O", {"O": 2}, -9.896),
    entry("CsBr-unit", {"Cs": 1, "Br": 1}, -6.167),
    entry("CsBr-charged", {"Cs+": 1, "Br-": 1}, -6.167),
    entry("CsBr-cell", {"Cs": 8, "Br": 8}, -49.336),
    entry("CsBr-per-atom", {"Cs": 0.5, "Br": 0.5}, -3.0835),
    entry("Cs2O-per-atom", {"Cs": 2 / 3, "O": 1 / 3}, -3.1),
]


@pytest.mark.parametrize(
    ("corrections", "csbr", "cs2o"),
    [("none", (-3.0835, -1.836), (-3.1, -0.854)), ("mp2020", (-3.3505, -2.103), (-3.329, -1.083))],
)
def test_energies_belong_to_the_amounts_beside_them(
    tmp_path: Path, corrections: str, csbr: tuple[float, float], cs2o: tuple[float, float]
) -> None:
    rows = reference(tmp_path, CSBR, "--corrections", corrections)
    assert {row["status"] for row in rows.values()} == {"ok"}
    for name in ("CsBr-unit", "CsBr-charged", "CsBr-cell", "CsBr-per-atom"):
        assert energies(rows, name) == pytest.approx(csbr, abs=1e-7)
        assert (rows[name]["formula"], rows[name]["chemical_system"]) == ("CsBr", "Br-Cs")
    assert energies(rows, "Cs2O-per-atom") == pytest.approx(cs2o, abs=1e-7)
    assert (rows["Cs2O-per-atom"]["formula"], rows["Cs2O-per-atom"]["chemical_system"]) == ("Cs2O", "Cs-O")


def test_which_of_equal_entries_competes_does_not_depend_on_their_order(tmp_path: Path) -> None:
    table, named = crystals(tmp_path, {"x": ("CsBr", -3.0)}), set()
    for k, order in enumerate((CSBR, CSBR[::-1], CSBR[3:] + CSBR[:3])):
        reference(tmp_path, order, "--corrections", "none", name=f"order{k}")
        named.add(hull(table, tmp_path / f"order{k}.parquet", *UNCORRECTED)["x"]["decomposition"])
    assert named == {'{"CsBr-cell": 1.0}'}


# --- adjustments of another name ------------------------------------------------

NACL = {"Na": ({"Na": 1}, -1.3225, 0.0, -0.14283), "Cl": ({"Cl": 2}, -3.697, 0.0, -0.399276),
        "NaCl": ({"Na": 1, "Cl": 1}, -6.77796, -0.614, -0.79833)}  # fmt: skip


def sodium_chloride(scheme: str) -> list[dict]:
    """Na, Cl2 and NaCl with the adjustments of MP2020, or with those of the other scheme, a tenth of every energy."""
    title = {"mp2020": "MP2020 anion correction (Cl)", "other": "TRI110PBE"}[scheme]
    column = 2 if scheme == "mp2020" else 3
    return [entry(name, row[0], row[1], **({title: row[column]} if row[column] else {})) for name, row in NACL.items()]


@pytest.mark.parametrize(
    ("scheme", "corrections", "expected", "name", "distance"),
    [
        ("mp2020", "mp2020", (-3.69598, -2.11048), "MP2020", 0.0),
        ("other", "mp2020", (-3.69598, -2.11048), "MP2020", 0.0),
        ("mp2020", "none", (-3.38898, -1.80348), "none", 0.0),
        ("other", "none", (-3.38898, -1.80348), "none", 0.0),
        ("mp2020", "as-given", (-3.69598, -2.11048), "MP2020", 0.0),
        ("other", "as-given", (-3.788145, -2.031411), "as given, under no known name", None),
    ],
)
def test_adjustments_of_another_scheme_never_meet_a_potential(
    tmp_path: Path, scheme: str, corrections: str, expected: tuple[float, float], name: str, distance: float | None
) -> None:
    rows = reference(tmp_path, sodium_chloride(scheme), "--corrections", corrections)
    assert energies(rows, "NaCl") == pytest.approx(expected, abs=1e-7)
    identity = PotentialIdentity.from_record(read_provenance(tmp_path / "given.parquet")["potential"])
    assert identity is not None
    assert identity.corrections == name
    table = crystals(tmp_path, {"x": ("NaCl", -3.38898)})
    if distance is None:
        with pytest.raises(InputError, match="corrections of no known name"):
            hull(table, tmp_path / "given.parquet", *UNCORRECTED)
        return
    found = hull(table, tmp_path / "given.parquet", *UNCORRECTED)["x"]
    assert found["e_above_hull"] == pytest.approx(distance, abs=1e-7)


# --- zero is zero ---------------------------------------------------------------

ZERO = {"Li": -1.9071234567, "Na": -1.3225123456, "K": -1.1104321987, "Rb": -0.9623456789, "F": -1.8567891234,
        "Cl": -1.8485432191, "Br": -1.6012345678, "I": -1.5234567891, "Ti": -7.8951234567, "O": -4.9481234567}  # fmt: skip
SALTS = {"LiF": -4.95319085745, "NaCl": -3.50898456375, "KBr": -3.29706795265, "RbI": -2.9552469124}
RUTILE = -9.181691357433333


def ten_elements() -> list[dict]:
    """Energies of more digits than a reference keeps; anatase 19 meV/atom above rutile."""
    elements = [entry(f"el-{symbol}", {symbol: 4}, 4 * energy) for symbol, energy in ZERO.items()]
    salts = [entry(f, dict.fromkeys(composition_of(f), 4), 8 * energy) for f, energy in SALTS.items()]
    oxides = [("rutile", RUTILE), ("anatase", RUTILE + 0.019)]
    return [*elements, *salts, *(entry(f"TiO2-{name}", {"Ti": 4, "O": 8}, 12 * e) for name, e in oxides)]


def composition_of(formula: str) -> list[str]:
    symbols = {z: symbol for symbol, z in ATOMIC_NUMBERS.items()}
    return [symbols[z] for z in parse_formula(formula)]


@pytest.mark.parametrize("turned", [False, True])
def test_members_of_the_hull_lie_on_it_and_polymorphs_apart(tmp_path: Path, turned: bool) -> None:
    reference(tmp_path, ten_elements()[::-1] if turned else ten_elements(), "--corrections", "none")
    given = {
        "NaCl-again": ("NaCl", SALTS["NaCl"]),
        "rutile-again": ("Ti2O4", RUTILE),
        "anatase-again": ("TiO2", RUTILE + 0.019),
        "brookite": ("TiO2", RUTILE + 0.030),
        "better": ("TiO2", RUTILE - 0.030),
        "octet": ("LiNaKRbFClBrI", sum(SALTS.values()) / 4 + 0.050),
        "Na-metal": ("Na2", ZERO["Na"]),
        "Na-strained": ("Na", ZERO["Na"] + 0.012),
    }
    rows = hull(crystals(tmp_path, given), tmp_path / "given.parquet", *UNCORRECTED)
    expected = {
        "NaCl-again": 0.0, "rutile-again": 0.0, "anatase-again": 0.019, "brookite": 0.030, "better": -0.030, "octet": 0.050,
        "Na-metal": 0.0, "Na-strained": 0.012,
    }  # fmt: skip
    assert {name: row["e_above_hull"] for name, row in rows.items()} == pytest.approx(expected, abs=1e-7)
    assert {row["status"] for row in rows.values()} == {"ok"}
    support = {"Na-metal": 0, "NaCl-again": 1, "brookite": 1, "octet": 4}
    assert {name: rows[name]["hull_support"] for name in support} == support
    assert json.loads(rows["brookite"]["decomposition"]) == {"TiO2-rutile": 1.0}
    assert json.loads(rows["octet"]["decomposition"]) == pytest.approx(dict.fromkeys(SALTS, 0.25))


# --- elements at the edge of what is known --------------------------------------


def written(folder: Path, structures: dict[str, Atoms]) -> Path:
    """A folder of CIF files as ASE writes them, in P 1."""
    folder.mkdir()
    for name, atoms in structures.items():
        ase.io.write(folder / f"{name}.cif", atoms)
    return folder


def test_elements_that_a_potential_or_a_hull_lacks_cost_their_rows_alone(tmp_path: Path, embedded: Path) -> None:
    xenon_fluoride = Atoms(
        "Xe2F4", cell=[4.315, 4.315, 6.99], pbc=True,
        scaled_positions=[[0, 0, 0], [0.5] * 3, *([x, x, x + sign * 0.2862] for x in (0.0, 0.5) for sign in (1, -1))],
    )  # fmt: skip
    folder = written(
        tmp_path / "crystals",
        {
            "PmN": bulk("PmN", "rocksalt", a=5.06, cubic=True),
            "CmO2": bulk("CmO2", "fluorite", a=5.36, cubic=True),
            "RaF2": bulk("RaF2", "fluorite", a=6.37, cubic=True),
            "XeF2": xenon_fluoride,
            "Kr": bulk("Kr", "fcc", a=5.72, cubic=True),
        },
    )
    out = tmp_path / "evaluated"
    run(evaluate_command, folder, "--reference", embedded, "--skip-properties", "--out", out)
    rows = {row["id"]: row for row in pq.read_table(out / "crystals.parquet").to_pylist()}
    assert {name: row["status"] for name, row in rows.items()} == {
        "PmN": "ok", "CmO2": "unsupported_element", "RaF2": "no_reference_energy", "XeF2": "ok", "Kr": "ok",
    }  # fmt: skip
    assert rows["CmO2"]["energy"] is None
    assert rows["RaF2"]["energy"] is not None
    assert rows["RaF2"]["formation_energy"] is None
    assert rows["RaF2"]["e_above_hull"] is None
    assert rows["Kr"]["hull_support"] == 0
    assert abs(rows["Kr"]["formation_energy"]) < 0.02
    assert rows["Kr"]["e_above_hull"] > -0.02
    assert all(rows[name]["charge_balanced"] for name in ("PmN", "RaF2", "XeF2", "Kr"))
    (figures,) = pq.read_table(out / "metrics.parquet").to_pylist()
    assert figures["n"] == 5
    shares = [name.removesuffix("_fraction") for name in figures if name.endswith("_fraction")]
    assert shares
    assert all(figures[f"{name}_fraction"] == figures[f"{name}_count"] / 5 for name in shares)


# --- atoms without neighbours, atoms on one place --------------------------------


def test_atoms_far_apart_or_on_one_place_cost_their_rows_alone(tmp_path: Path, embedded: Path) -> None:
    salt = bulk("NaCl", "rocksalt", a=5.64, cubic=True)
    structures = {
        "Cs_bcc": bulk("Cs", "bcc", a=6.141, cubic=True),  # neighbours at 5.32 Å; CHGNet sees 6 Å
        "Cs_stretched": bulk("Cs", "bcc", a=7.2, cubic=True),  # at 6.24 Å
        "H_in_a_box": Atoms("H", cell=[100.0] * 3, pbc=True),
        "two_on_one_place": Atoms(
            "Na2Cl", cell=[4.0] * 3, pbc=True, scaled_positions=[[0, 0, 0], [0.0001, 0, 0], [0.5] * 3]
        ),
        "NaCl": salt,
    }
    out = tmp_path / "relaxed.parquet"
    run(relax_command, written(tmp_path / "crystals", structures), "--out", out)
    rows = {row["id"]: row for row in pq.read_table(out).to_pylist()}
    assert {name: row["status"] for name, row in rows.items()} == {
        "Cs_bcc": "ok", "Cs_stretched": "isolated_atoms", "H_in_a_box": "isolated_atoms",
        "two_on_one_place": "overlapping_atoms", "NaCl": "ok",
    }  # fmt: skip
    assert rows["Cs_bcc"]["space_group"] == 229
    # CHGNet 0.3.0 itself, by its own package; DFT's caesium is at -0.895, which the potential misses by 0.05
    assert rows["Cs_bcc"]["energy"] == pytest.approx(-0.84757, abs=2e-4)
    alone = tmp_path / "alone.parquet"
    run(relax_command, written(tmp_path / "salt", {"NaCl": salt}), "--out", alone)
    assert pq.read_table(alone)["energy"][0].as_py() == pytest.approx(rows["NaCl"]["energy"], abs=1e-6)
    found = hull(out, embedded, out=tmp_path / "hull.parquet")
    assert found["H_in_a_box"]["e_above_hull"] is None
    assert abs(found["Cs_bcc"]["e_above_hull"]) < 0.06
