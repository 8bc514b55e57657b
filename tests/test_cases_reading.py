"""Files as people have them, each with the crystal that it means, worked out by hand from International Tables and textbooks.

Sources of the cases: reports to pymatgen (#1407, #438, #488, #3373, #886, #2175, #3796), gemmi, spglib, moyo, MatterGen (#226),
CrystalFormer's own CSV, LeMaterial's columns, and others; the files were made anew from facts.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crystalformer_rl.crystal.distances import shortest_distance
from crystalformer_rl.crystal.encode import symmetrize
from crystalformer_rl.crystal.structure import Crystal, crystals_from_table
from crystalformer_rl.crystal.tokens import Sites, primitive
from crystalformer_rl.errors import InputError
from crystalformer_rl.reading.inputs import read_crystals
from crystalformer_rl.tables.provenance import record_of

CASES = Path(__file__).parent / "data" / "cases"


def case(number: str) -> Path:
    return next(CASES.glob(f"{number}-*"))


def read(*paths: Path) -> dict[str, tuple[Crystal | None, str, str | None]]:
    """Crystal, status and note by id."""
    table = read_crystals(paths)
    crystals, statuses = crystals_from_table(table)
    return dict(
        zip(
            table.column("id").to_pylist(),
            zip(crystals, statuses, table.column("note").to_pylist(), strict=True),
            strict=True,
        )
    )


def crystal(path: Path) -> Crystal:
    """The one crystal of a file."""
    ((found, status, _),) = read(path).values()
    assert status == "ok"
    assert found is not None
    return found


def letters(sites: Sites) -> list[tuple[int, str]]:
    return sorted((int(z), chr(96 + int(w))) for z, w in zip(sites.elements, sites.wyckoff, strict=True))


def pair_distance(found: Crystal, first: int, second: int) -> float:
    """The shortest distance (Å) between atoms of two elements, over all images within one cell."""
    a, b = (found.frac_coords[found.atomic_numbers == z] for z in (first, second))
    shifts = np.stack(np.meshgrid(*[np.arange(-1, 2)] * 3, indexing="ij"), -1).reshape(-1, 3)
    delta = (a[:, None, None] - b[None, :, None] + shifts) @ found.lattice
    lengths = np.linalg.norm(delta, axis=-1)
    return float(lengths[lengths > 1e-6].min())


# 01 -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["si_plain", "si_text_after", "si_text_before", "si_text_with_tags"])
def test_text_between_semicolons_changes_nothing(name: str) -> None:
    silicon = crystal(case("01") / f"{name}.cif")
    sites = symmetrize(silicon)
    assert (sites.space_group, len(sites), sites.n_atoms, len(primitive(sites))) == (227, 1, 8, 2)
    assert sites.lattice_parameters[0] == pytest.approx(5.381)
    # origin choice 2 would give 16 atoms 1.90 Å apart, of the same formula and space group
    assert shortest_distance(silicon) == pytest.approx(2.330, abs=1e-3)
    assert silicon.volume / len(silicon) == pytest.approx(19.5, abs=0.05)


def test_a_block_without_atoms_is_no_crystal() -> None:
    found = read(case("01") / "two_phases_with_global.cif")
    assert [status for _, status, _ in found.values()] == ["ok", "ok"]
    gold, iodide = (symmetrize(c) for c, _, _ in found.values() if c is not None)
    assert (gold.space_group, *gold.lattice_parameters[[0, 2]].round(4)) == (123, 2.8, 3.67)
    assert (iodide.space_group, iodide.n_atoms, *iodide.lattice_parameters[[0, 2]].round(4)) == (164, 3, 4.24, 6.84)


# 02 -------------------------------------------------------------------------


def test_images_that_rounding_pulled_apart_are_one_atom() -> None:
    for name in ("mos2_3digits", "mos2_4digits"):
        disulfide = crystal(case("02") / f"{name}.cif")
        sites = symmetrize(disulfide)
        assert (sites.space_group, sites.n_atoms, letters(sites)) == (194, 6, [(16, "f"), (42, "c")])
        assert pair_distance(disulfide, 42, 16) == pytest.approx(2.417, abs=2e-3)
    laves = symmetrize(crystal(case("02") / "mgzn2_3digits.cif"))
    assert (laves.space_group, laves.n_atoms) == (194, 12)
    assert letters(laves) == [(12, "f"), (30, "a"), (30, "h")]


# 04 -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mgal2o4_hall", "mgal2o4_colon2", "mgal2o4_Z"])
def test_spinel_by_hall_symbol_or_origin_suffix(name: str) -> None:
    spinel = crystal(case("04") / f"{name}.cif")
    sites = symmetrize(spinel)
    assert (spinel.formula, sites.space_group, sites.n_atoms, len(primitive(sites))) == ("MgAl2O4", 227, 56, 14)
    assert sorted(sites.elements[np.argsort(sites.wyckoff)].tolist()) == [8, 12, 13]
    assert pair_distance(spinel, 12, 8) == pytest.approx(1.924, abs=1e-3)
    assert pair_distance(spinel, 13, 8) == pytest.approx(1.926, abs=1e-3)
    assert pair_distance(spinel, 8, 8) == pytest.approx(2.574, abs=1e-3)


def test_diamond_by_its_hall_symbol_and_tenorite_in_cell_choice_3() -> None:
    diamond = crystal(case("04") / "diamond_hall.cif")
    assert (symmetrize(diamond).space_group, len(diamond)) == (227, 8)
    assert shortest_distance(diamond) == pytest.approx(1.545, abs=1e-3)
    tenorite = crystal(case("04") / "cuo_I2a.cif")
    sites = symmetrize(tenorite)
    assert (sites.space_group, sites.n_atoms) == (15, 8)
    assert sites.lattice_parameters == pytest.approx([4.684, 3.423, 5.129, 90, 99.54, 90], abs=1e-2)
    assert pair_distance(tenorite, 29, 8) == pytest.approx(1.951, abs=1e-3)


def test_an_asymmetric_unit_without_symmetry_is_no_crystal() -> None:
    with pytest.raises(InputError, match=r"formula_mismatch: the file states Mg Al2 O4, its atoms make Mg Al O"):
        read(case("04") / "nosym_asymmetric_unit.cif")


# 06 -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "site"),
    [
        ("cu3au_random.cif", "Cu1 is occupied by Cu 0.75 beside Au 0.25"),
        ("cu3au_random_copy.cif.gz", "Cu1 is occupied by Cu 0.75 beside Au 0.25"),
        ("pauling_row.cif", "Nb,Zr is shared by several elements"),
        ("li3ps4_split.cif", "Li2 is occupied by Li 0.7"),
    ],
)
def test_disorder_is_named_with_its_site(name: str, site: str) -> None:
    with pytest.raises(InputError, match=rf"disordered: {site}"):
        read(case("06") / name)


def test_packed_and_plain_files_of_a_folder_are_read_alike() -> None:
    found = read(case("06"))
    assert {name: status for name, (_, status, _) in found.items()} == {
        "cu3au_random": "disordered",
        "cu3au_random_copy": "disordered",
        "kmnf3_dots": "ok",
        "kmnf3_dots_copy": "ok",
        "li3ps4_split": "disordered",
        "pauling_row": "disordered",
    }
    for name in ("kmnf3_dots", "kmnf3_dots_copy"):
        fluoride = found[name][0]
        assert fluoride is not None
        assert (fluoride.formula, symmetrize(fluoride).space_group, len(fluoride)) == ("KMnF3", 221, 5)
        assert pair_distance(fluoride, 25, 9) == pytest.approx(2.093, abs=1e-3)


# 07 -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["naald4", "naald4_98_percent"])
def test_deuterium_is_hydrogen(name: str) -> None:
    alanate = crystal(case("07") / f"{name}.cif")
    sites = symmetrize(alanate)
    assert (alanate.formula, sites.space_group, sites.n_atoms, len(primitive(sites))) == ("NaAlH4", 88, 24, 12)
    assert letters(sites) == [(1, "f"), (11, "a"), (13, "b")]
    assert sites.lattice_parameters[[0, 2]] == pytest.approx([5.012, 11.315], abs=1e-3)
    assert pair_distance(alanate, 13, 1) == pytest.approx(1.640, abs=1e-3)


# 08, 09 ---------------------------------------------------------------------


def test_encodings_line_ends_and_capitals_change_nothing() -> None:
    found = read(case("08"))
    assert set(found) == {"Kochsalz größe Ø", "bom_crlf", "cr_only", "latin1", "uppercase_keywords", "utf16"}
    for salt, status, _ in found.values():
        assert status == "ok"
        assert salt is not None
        sites = symmetrize(salt)
        assert (salt.formula, sites.space_group, len(primitive(sites))) == ("NaCl", 225, 2)
        assert sites.lattice_parameters[0] == pytest.approx(5.6402)


@pytest.mark.parametrize("name", ["mnf2.mcif", "mnf2_as_cif.cif"])
def test_magnetic_operations_move_nuclei(name: str) -> None:
    fluoride = crystal(case("09") / name)
    sites = symmetrize(fluoride)
    assert (sites.space_group, len(fluoride), letters(sites)) == (136, 6, [(9, "f"), (25, "a")])
    assert sites.frac_coords[sites.elements == 9][0][0] == pytest.approx(0.3049, abs=1e-4)
    assert pair_distance(fluoride, 25, 9) == pytest.approx(2.101, abs=1e-3)


# 12, 13, 14 -----------------------------------------------------------------


def test_displacements_of_a_phase_are_kept() -> None:
    folder = case("12")
    cubic, tilted, polar = (
        symmetrize(crystal(folder / name)) for name in ("srtio3_cubic.cif", "POSCAR_srtio3_I4mcm", "POSCAR_batio3_P4mm")
    )
    assert [sites.space_group for sites in (cubic, tilted, polar)] == [221, 140, 99]
    assert letters(tilted) == [(8, "a"), (8, "h"), (22, "c"), (38, "b")]
    assert tilted.lattice_parameters[[0, 2]] == pytest.approx([5.507, 7.796], abs=1e-3)
    assert len(primitive(tilted)) == 10
    assert {letter for _, letter in letters(polar)} <= {"a", "b", "c"}


def test_a_supercell_is_its_primitive_cell() -> None:
    for name in ("POSCAR_Si2", "POSCAR_Si216"):
        sites = symmetrize(crystal(case("13") / name))
        assert (sites.space_group, len(sites), len(primitive(sites))) == (227, 1, 2)
        assert sites.lattice_parameters[0] == pytest.approx(5.4307, abs=1e-4)


def test_the_choice_of_lattice_vectors_changes_nothing() -> None:
    found = [symmetrize(crystal(case("14") / f"POSCAR_fdd2_{name}")) for name in ("primitive", "skew", "very_skew")]
    for sites in found:
        assert (sites.space_group, len(primitive(sites)), [w for _, w in letters(sites)]) == (43, 10, ["a", "b", "b"])
        assert sites.lattice_parameters == pytest.approx(found[0].lattice_parameters, abs=1e-4)
        assert sorted(sites.lattice_parameters[:3]) == pytest.approx([3.6638, 10.490, 12.869], abs=1e-3)


def test_cells_that_no_crystal_has_get_a_status_each() -> None:
    found = read(case("14") / "generated_with_bad_cells.csv")
    assert {name: status for name, (_, status, _) in found.items()} == {
        "good-1": "ok",
        "flat": "bad_lattice",
        "impossible-angles": "bad_lattice",
        "nan": "bad_lattice",
        "empty": "unreadable",
        "good-2": "ok",
    }
    assert all(note for _, status, note in found.values() if status != "ok")


# 15, 16 ---------------------------------------------------------------------


def test_the_tables_that_crystalformer_writes() -> None:
    found = [symmetrize(c) for c, _, _ in read(case("15") / "output_225_struct.csv").values() if c is not None]
    assert [(s.space_group, round(float(s.lattice_parameters[0]), 4)) for s in found] == [
        (225, 5.6402),
        (221, 4.123),
        (225, 5.4626),
    ]
    with pytest.raises(InputError, match=r"no column 'cif' or 'structure'.*raw samples of CrystalFormer"):
        read(case("15") / "output_225.csv")


@pytest.mark.parametrize(
    ("path", "ids"),
    [
        ("results", "generated_crystals-{}"),
        ("results/generated_crystals.extxyz", "generated_crystals-{}"),
        ("results/generated_crystals_cif.zip", "gen_{}"),
        ("relaxed_structures.extxyz", "relaxed_structures-{}"),
    ],
)
def test_results_of_mattergen_are_three_crystals(path: str, ids: str) -> None:
    found = read(case("16") / path)
    assert list(found) == [ids.format(i) for i in range(3)]
    sites = [symmetrize(c) for c, _, _ in found.values() if c is not None]
    assert [(s.space_group, round(float(s.lattice_parameters[0]), 4)) for s in sites] == [
        (225, 5.6402),
        (216, 4.358),
        (225, 4.212),
    ]


def test_what_a_folder_leaves_is_named() -> None:
    left = record_of(read_crystals([case("16") / "results"]))["left_unread"]
    assert {one["file"] for one in left} == {"generated_crystals_cif.zip", "generated_trajectories.zip"}
    with pytest.raises(InputError, match="holds the steps by which crystals were generated"):
        read(case("16") / "results" / "generated_trajectories.zip")


# 17, 18, 20 -----------------------------------------------------------------


def test_frames_that_are_no_crystals() -> None:
    found = list(read(case("17") / "training_set.xyz").values())
    statuses = [status for _, status, _ in found]
    assert statuses == ["bad_lattice", "not_periodic", "not_periodic", "ok", "unknown_element"]
    assert "pbc T T F" in str(found[2][2])
    assert found[3][0] is not None
    assert symmetrize(found[3][0]).space_group == 225


@pytest.mark.parametrize(
    ("name", "ids"),
    [
        ("entries.json", ["mp-22862-GGA", "mp-127-GGA", "mp-22848-GGA"]),
        ("entries.jsonl", ["mp-22862-GGA", "mp-127-GGA", "mp-22848-GGA"]),
        ("mp_thermo_response.json", ["mp-22862-GGA", "mp-127-GGA", "mp-22848-GGA"]),
        ("structure.json", ["structure"]),
        ("structures_list.json", ["structures_list-0", "structures_list-1"]),
        ("jarvis_like.json", ["JVASP-x1"]),
        ("optimade_like.json", ["odbx/1"]),
        ("wbm_like.json.bz2", ["wbm-1-1", "wbm-1-2"]),
    ],
)
def test_json_of_many_kinds(name: str, ids: list[str]) -> None:
    found = read(case("18") / name)
    assert list(found) == ids
    salt, status, _ = next(iter(found.values()))
    assert status == "ok"
    assert salt is not None
    assert (salt.formula, symmetrize(salt).space_group) == ("NaCl", 225)
    assert symmetrize(salt).lattice_parameters[0] == pytest.approx(5.6402, abs=1e-4)


@pytest.mark.parametrize("name", ["nested", "fixed_size_float32", "lemat_like"])
def test_tables_of_many_types(name: str) -> None:
    found = read(case("20") / f"{name}.parquet")
    assert list(found) == ["mgo", "nacl"]
    sites = [symmetrize(c) for c, _, _ in found.values() if c is not None]
    assert [s.space_group for s in sites] == [225, 225]
    assert [s.lattice_parameters[0] for s in sites] == pytest.approx([4.212, 5.6402], abs=1e-5)


def test_the_rows_of_a_lattice_are_its_vectors() -> None:
    skew = crystal(case("20") / "transposed_lattice.parquet")
    written = pq.read_table(case("20") / "transposed_lattice.parquet").column("lattice").to_pylist()[0]
    assert np.linalg.norm(skew.lattice, axis=1) == pytest.approx(np.linalg.norm(np.reshape(written, (3, 3)), axis=1))
    assert np.linalg.norm(skew.lattice, axis=1) != pytest.approx([3, 4, 5])


# the command line -----------------------------------------------------------


def run(*arguments: Any) -> tuple[int, str, str]:
    command = [sys.executable, "-m", "crystalformer_rl", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def test_several_files_are_rows_as_in_a_folder(tmp_path: Path) -> None:
    files = sorted(case("06").iterdir())
    code, out, err = run("tokenize", *files, "--out", tmp_path / "t.parquet", "--json")
    assert code == 0, err
    assert json.loads(out)["status"] == {"ok": 2, "disordered": 4}
    assert "cu3au_random: disordered (Cu1 is occupied" in err
    tokens = pq.read_table(tmp_path / "t.parquet")
    assert tokens.column("id").to_pylist() == [
        "cu3au_random", "cu3au_random_copy", "kmnf3_dots", "kmnf3_dots_copy", "li3ps4_split", "pauling_row",
    ]  # fmt: skip
    assert "Au 0.25" in tokens.column("note").to_pylist()[0]


def test_nothing_to_read_ends_with_a_sentence_and_status_2(tmp_path: Path) -> None:
    for path in (case("06") / "cu3au_random_copy.cif.gz", case("15") / "output_225.csv"):
        code, out, err = run("tokenize", path, "--out", tmp_path / "t.parquet")
        assert (code, out) == (2, "")
        assert err.startswith(f"error: {path}")
        assert len(err.strip().splitlines()) == 1
    table = pa.table({"id": ["a", "b"], "cif": ["", "data_x"]})
    pq.write_table(table, tmp_path / "none.parquet")
    code, _, err = run("tokenize", tmp_path / "none.parquet", "--out", tmp_path / "t.parquet")
    assert code == 2
    assert "none of 2 crystals can be read; the first, a" in err


def test_a_name_on_several_places_stays_one_row_each(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        shutil.copy(case("08") / "latin1.cif", tmp_path / folder / "salt.cif")
    assert list(read(tmp_path / "a" / "salt.cif", tmp_path / "b" / "salt.cif")) == [
        str(tmp_path / "a" / "salt.cif"),
        str(tmp_path / "b" / "salt.cif"),
    ]


# the stages after reading --------------------------------------------------------


def test_relaxation_takes_what_was_read(tmp_path: Path) -> None:
    """A supercell relaxes as its primitive cell, roundings as their control, and phases keep their symmetry."""
    files = [case("13") / "POSCAR_Si2", case("13") / "POSCAR_Si216", case("12") / "POSCAR_srtio3_I4mcm",
             case("12") / "POSCAR_batio3_P4mm", case("02") / "mos2_3digits.cif", case("02") / "mos2_4digits.cif"]  # fmt: skip
    code, _, err = run("relax", *files, "--out", tmp_path / "r.parquet", "--max-evaluations", 4)
    assert code == 0, err
    rows = {row["id"]: row for row in pq.read_table(tmp_path / "r.parquet").to_pylist()}
    assert {row["status"] for row in rows.values()} == {"ok"}
    assert [rows[name]["space_group"] for name in ("POSCAR_srtio3_I4mcm", "POSCAR_batio3_P4mm")] == [140, 99]
    for one, other, atoms in (("POSCAR_Si2", "POSCAR_Si216", 2), ("mos2_4digits", "mos2_3digits", 6)):
        assert [len(rows[name]["atomic_numbers"]) for name in (one, other)] == [atoms, atoms]
        assert rows[one]["energy"] == pytest.approx(rows[other]["energy"], abs=1e-4)
        assert rows[one]["lattice_parameters"] == pytest.approx(rows[other]["lattice_parameters"], abs=1e-3)


def test_the_same_crystal_in_other_clothes_is_a_duplicate(tmp_path: Path, root: Path) -> None:
    files = [*sorted(case("13").iterdir()), *sorted(case("14").glob("POSCAR_*")), *sorted(case("07").iterdir())]
    reference = root / "resources" / "embedded" / "reference.parquet"
    code, _, err = run("novelty", *files, "--reference", reference, "--out", tmp_path / "n.parquet")
    assert code == 0, err
    rows = {row["id"]: row["duplicate_of"] for row in pq.read_table(tmp_path / "n.parquet").to_pylist()}
    assert rows == {
        "POSCAR_Si2": None,
        "POSCAR_Si216": "POSCAR_Si2",
        "POSCAR_fdd2_primitive": None,
        "POSCAR_fdd2_skew": "POSCAR_fdd2_primitive",
        "POSCAR_fdd2_very_skew": "POSCAR_fdd2_primitive",
        "naald4": None,
        "naald4_98_percent": "naald4",
    }
