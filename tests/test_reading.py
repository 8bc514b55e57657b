"""What is read, what is refused, and that nothing is lost between: forms of files, folders, archives, tables, hostile content."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import pickle
import sys
import tarfile
import time
import warnings
import zipfile
from pathlib import Path

import ase.io
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ase import Atoms
from ase.build import bulk, mx2
from pymatgen.core import Lattice, Structure
from pymatgen.io.cif import CifWriter

from crystalformer_rl.crystal.encode import symmetrize
from crystalformer_rl.crystal.structure import Crystal, crystals_from_table, overlap
from crystalformer_rl.crystal.vacuum import is_low_dimensional, widest_gap
from crystalformer_rl.errors import InputError
from crystalformer_rl.reading import files
from crystalformer_rl.reading.cif_crystals import crystals_of_cif
from crystalformer_rl.reading.files import Kind, kind_of_file
from crystalformer_rl.reading.inputs import read_crystals
from crystalformer_rl.reading.poscar import crystals_of_poscar
from crystalformer_rl.report.crystal_lines import crystal_lines, spreadsheet
from crystalformer_rl.tables.column import table_of_rows
from crystalformer_rl.tables.discovery_columns import EVALUATED
from crystalformer_rl.tables.provenance import record_of

SALT = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.6402), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
CIF = SALT.to(fmt="cif")
POSCAR = SALT.to(fmt="poscar")


def statuses(path: Path) -> dict[str, str]:
    table = read_crystals([path])
    return dict(zip(table.column("id").to_pylist(), table.column("status").to_pylist(), strict=True))


def one(path: Path) -> Crystal:
    table = read_crystals([path])
    crystals, found = crystals_from_table(table)
    assert found == ["ok"]
    assert crystals[0] is not None
    return crystals[0]


# --- kinds of files -------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("salt.cif", CIF.encode()),
        ("salt.txt", CIF.encode()),
        ("salt.cif.gz", gzip.compress(CIF.encode())),
        ("salt.cif.bz2", bz2.compress(CIF.encode())),
        ("salt.cif.xz", lzma.compress(CIF.encode())),
        ("salt.cif.zst", pa.compress(CIF.encode(), "zstd", asbytes=True)),
        ("salt.cif", gzip.compress(gzip.compress(CIF.encode()))),
        ("salt", POSCAR.encode()),
        ("POSCAR.gz", gzip.compress(POSCAR.encode())),
        ("salt.vasp", POSCAR.encode().replace(b"\n", b"\r\n")),
        ("salt.json", json.dumps(SALT.as_dict()).encode()),
        ("salt.json.gz", gzip.compress(json.dumps(SALT.as_dict()).encode())),
        ("salt.json", json.dumps({"salt": SALT.as_dict()}).encode()),
        ("salt.json", json.dumps([{"material_id": "salt", "structure": SALT.as_dict(), "nsites": 8}]).encode()),
        ("salt.jsonl", (json.dumps({"id": "salt", "structure": SALT.as_dict()}) + "\n").encode()),
        ("salt.json", json.dumps({"id": "salt", "cif": CIF}).encode()),
        ("salt.csv", pd.DataFrame({"material_id": ["salt"], "cif": [CIF]}).to_csv(index=False).encode()),
        ("salt.csv", pd.DataFrame({"name": ["salt"], "structure": [str(SALT.as_dict())]}).to_csv().encode()),
        ("salt.csv", pd.DataFrame({"id": ["salt"], "cif": [CIF]}).to_csv(index=False, sep=";").encode("utf-16")),
        ("salt.tsv", pd.DataFrame({"id": ["salt"], "cif": [CIF]}).to_csv(index=False, sep="\t").encode("utf-8-sig")),
    ],
)
def test_one_crystal_in_many_clothes(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    sites = symmetrize(one(path))
    assert (sites.space_group, sites.n_atoms) == (225, 8)
    assert sites.lattice_parameters[0] == pytest.approx(5.6402, abs=1e-4)
    assert list(statuses(path)) in (["salt"], ["POSCAR"])


def test_data_frames_of_structures(tmp_path: Path) -> None:
    frame = pd.DataFrame({"mp_id": ["a", "b"], "energy": [-3.0, -4.0], "cif": [CIF, "data_"]})
    frame.to_parquet(tmp_path / "cifs.parquet")
    read = read_crystals([tmp_path / "cifs.parquet"])
    assert read.column("status").to_pylist() == ["ok", "unreadable"]
    assert read.column("energy").to_pylist() == [-3.0, -4.0]
    for orient in ("columns", "records", "split", "index"):
        path = tmp_path / f"{orient}.json"
        pd.DataFrame({"material_id": ["x", "y"], "structure": [SALT.as_dict()] * 2}).to_json(path, orient=orient)
        assert list(statuses(path).values()) == ["ok", "ok"], orient
    pd.DataFrame({"id": [7, 8], "structure": [json.dumps(SALT.as_dict())] * 2}).to_parquet(tmp_path / "text.parquet")
    assert statuses(tmp_path / "text.parquet") == {"7": "ok", "8": "ok"}


def test_several_blocks_in_a_cell_are_several_crystals(tmp_path: Path) -> None:
    other = Structure.from_spacegroup("Pm-3m", Lattice.cubic(4.123), ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    frame = pd.DataFrame({"id": ["two", "one"], "cif": [CIF + other.to(fmt="cif"), CIF]})
    for name, write in (("t.csv", frame.to_csv), ("t.parquet", frame.to_parquet)):
        write(tmp_path / name, index=False)
        assert statuses(tmp_path / name) == {"two-0": "ok", "two-1": "ok", "one": "ok"}


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.cif", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "a Git LFS pointer.*git lfs pull"),
        ("a.cif", b"<!DOCTYPE html><html>Not found</html>", "a web page"),
        ("a.cif", b"  \n", "an empty file"),
        ("a.parquet", b"", "an empty file"),
        ("a.pkl", pickle.dumps({"a": 1}), "a Python pickle.*unpickling runs code"),
        ("a.cif", pickle.dumps([print]), "a Python pickle"),
        ("a.h5", b"\x89HDF\r\n\x1a\n" + bytes(64), "an HDF5 file"),
        ("a.npy", b"\x93NUMPY" + bytes(64), "NumPy arrays"),
        ("a.xlsx", b"PK\x03\x04" + bytes(60), "a spreadsheet.*save the sheet as CSV"),
        ("a.cif.gz", gzip.compress(CIF.encode())[:-20], "cannot be unpacked.*cut off or damaged"),
        ("a.zip", b"PK\x03\x04" + bytes(60), "cannot be unpacked"),
        ("a.json", b'{"a": 1}', "a dictionary with a, and no crystals in it"),
        ("a.json", b"[]", "a list of 0, and no crystals"),
        ("a.json", b"{", "no valid JSON"),
        ("a.json", b'{"a": ' + b"[" * 100_000, "no valid JSON"),
        ("a.json", b"[" * 100_000, "cannot be read"),
        ("a.csv", b"id,smiles\n1,C\n", "no column 'cif' or 'structure'; it has id, smiles"),
        ("a.csv", b"id,cif\n", "holds no rows"),
        ("a.cif", b"data_x\n_cell_length_a 3\n", "no block of the CIF lists coordinates"),
        ("a.cif", b"data_x\nloop_\n_a\n_b\n1 2 3\n", "no valid CIF"),
        ("a.txt", b"once upon a time\n", "cannot be read"),
    ],
)
def test_what_is_no_file_of_crystals_is_named(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match=says) as error:
        read_crystals([path])
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


# --- folders and archives ---------------------------------------------------------


def test_every_file_of_a_folder_is_read_or_named(tmp_path: Path) -> None:
    (tmp_path / "a.cif").write_text(CIF)
    (tmp_path / "a.vasp").write_text(POSCAR)
    (tmp_path / "broken.cif").write_text("data_x\nloop_\n_a\n_b\n1 2 3\n")
    (tmp_path / "settings.json").write_text('{"seed": 1}')
    (tmp_path / "notes.txt").write_text("bring milk")
    (tmp_path / ".DS_Store").write_bytes(b"\0")
    (tmp_path / "sub").mkdir()
    pd.DataFrame({"id": ["x"], "cif": [CIF]}).to_csv(tmp_path / "table.csv")
    bulk("Si").write(tmp_path / "si.xsf")
    assert statuses(tmp_path) == {"a.cif": "ok", "a.vasp": "ok", "broken": "unreadable", "si": "ok"}
    left = {one["file"] for one in record_of(read_crystals([tmp_path]))["left_unread"]}
    assert left == {"settings.json", "notes.txt", ".DS_Store", "sub", "table.csv"}
    assert left | {"a.cif", "a.vasp", "broken.cif", "si.xsf"} == {path.name for path in tmp_path.iterdir()}


def test_a_folder_without_crystals_says_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("bring milk")
    with pytest.raises(InputError, match=r"holds no files of crystals .* notes.txt"):
        read_crystals([tmp_path])
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"holds no files of crystals that are read from a folder\.$"):
        read_crystals([tmp_path / "empty"])


def packed(path: Path, members: dict[str, bytes]) -> Path:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in members.items():
                archive.writestr(name, data)
        return path
    with tarfile.open(path, "w:gz") as tape:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tape.addfile(info, io.BytesIO(data))
    return path


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz"])
def test_archives_that_climb_out_of_their_folder_write_nothing(tmp_path: Path, suffix: str) -> None:
    members = {
        "good.cif": CIF.encode(),
        "deep/er/good.cif": CIF.encode(),
        "../climbs.cif": CIF.encode(),
        "/etc/absolute.cif": CIF.encode(),
        "..\\windows.cif": CIF.encode(),
        "__MACOSX/._good.cif": b"\0",
        "inner.zip": b"PK\x03\x04",
    }
    (tmp_path / "in").mkdir()
    path = packed(tmp_path / "in" / f"hostile{suffix}", members)
    assert set(statuses(path)) == {"good.cif", "deep/er/good.cif"}
    left = {one["file"]: one["why"] for one in record_of(read_crystals([path]))["left_unread"]}
    assert len(left) == 5
    assert sum("leads out of the archive" in why for why in left.values()) == 3
    assert [p.name for p in tmp_path.rglob("*.cif")] == []


def test_a_link_in_a_tape_is_not_followed(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tape:
        link = tarfile.TarInfo("secret.cif")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tape.addfile(link)
        info = tarfile.TarInfo("good.cif")
        info.size = len(CIF)
        tape.addfile(info, io.BytesIO(CIF.encode()))
    assert statuses(tmp_path / "a.tar") == {"good": "ok"}


def test_what_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "LARGEST", 1 << 20)
    monkeypatch.setattr("crystalformer_rl.reading.members.LARGEST", 1 << 20)
    (tmp_path / "bomb.cif.gz").write_bytes(gzip.compress(b" " * (1 << 21) + CIF.encode()))
    packed(tmp_path / "bomb.zip", {f"{i}.cif": b" " * (1 << 19) for i in range(4)})
    for name in ("bomb.cif.gz", "bomb.zip"):
        with pytest.raises(InputError, match=r"unpacks to more than|empty"):
            read_crystals([tmp_path / name])


def test_a_cif_with_a_huge_loop_ends_soon(tmp_path: Path) -> None:
    head = CIF[: CIF.index("loop_\n _atom_site_type_symbol")]
    rows = "\n".join(f"Na Na{i} 1 {i / 300_000:.6f} 0.5 0.5 1" for i in range(300_000))
    names = " ".join(f"_atom_site_{name}" for name in
                     ("type_symbol", "label", "symmetry_multiplicity", "fract_x", "fract_y", "fract_z", "occupancy"))  # fmt: skip
    (tmp_path / "huge.cif").write_text(f"{head}loop_ {names}\n{rows}\n")
    started = time.perf_counter()
    with pytest.raises(InputError, match="too_large: 300000 sites"):
        read_crystals([tmp_path / "huge.cif"])
    assert time.perf_counter() - started < 60


# --- one crystal ------------------------------------------------------------------


def cif(symmetry: str = "_space_group_name_H-M_alt 'P 1'", sites: str = "Na1 Na 0 0 0", cell: str = "4 4 4 90 90 90", more: str = "",
        columns: str = "label type_symbol fract_x fract_y fract_z") -> str:  # fmt: skip
    names = ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma")
    lines = ["data_x", *(f"_cell_{n} {v}" for n, v in zip(names, cell.split(), strict=True)), symmetry, more, "loop_"]
    return "\n".join([*lines, *(f"_atom_site_{name}" for name in columns.split()), *sites.split(";")]) + "\n"


@pytest.mark.parametrize(
    ("text", "status", "note"),
    [
        (cif(), "ok", None),
        (cif(symmetry=""), "symmetry_unclear", "add _space_group_name_H-M_alt 'P 1'"),
        (cif(symmetry="", more="_chemical_formula_sum Na\n_cell_formula_units_Z 1"), "ok", "no symmetry given, so P 1"),
        (cif(symmetry="_space_group_name_H-M_alt 'Q 9'"), "symmetry_unclear", "'Q 9' is not known"),
        (cif(symmetry="_space_group_name_Hall 'Q 9'"), "symmetry_unclear", "'Q 9' is not known"),
        (cif(symmetry="_space_group_name_H-M_alt 'F d -3 m'", sites="Si1 Si 0 0 0", cell="5.43 5.43 5.43 90 90 90"),
         "symmetry_unclear", "F d -3 m:1, F d -3 m:2, and several fit"),
        (cif(symmetry="_space_group_name_H-M_alt 'F d -3 m'", sites="Si1 Si 0 0 0", cell="5.43 5.43 5.43 90 90 90",
             more="_chemical_formula_sum Si\n_cell_formula_units_Z 8"), "symmetry_unclear", "and several fit"),
        (cif(symmetry="_space_group_name_H-M_alt 'F d -3 m'", sites="Mg1 Mg .125 .125 .125;Al1 Al .5 .5 .5;O1 O .2624 .2624 .2624",
             cell="8.083 8.083 8.083 90 90 90", more="_chemical_formula_sum 'Mg Al2 O4'\n_cell_formula_units_Z 8"), "ok", "only F d -3 m:2 fits"),
        (cif(symmetry="_space_group_name_H-M_alt 'P n -3 m'\n_space_group_IT_number 225"), "symmetry_unclear", "are of different space groups"),
        (cif(symmetry="_space_group_name_H-M_alt 'F m -3 m'", cell="4 5 4 90 90 90"), "symmetry_unclear", "not the shape"),
        (cif(symmetry="_space_group_name_H-M_alt 'R -3 m'", cell="4 4 9 90 90 120"), "ok", None),
        (cif(symmetry="_space_group_name_H-M_alt 'R -3 m'", cell="4 4 4 70 70 70"), "ok", None),
        (cif(symmetry="_space_group_name_H-M_alt 'R -3 m H'", cell="4 4 4 70 70 70"), "symmetry_unclear", "not the shape"),
        (cif(symmetry="_space_group_IT_number 14", cell="4 5 6 90 99 90"), "symmetry_unclear", "number 14 alone may mean"),
        (cif(symmetry="_symmetry_Int_Tables_number 221"), "ok", None),
        (cif(symmetry="_space_group_IT_number 1\nloop_\n_symmetry_equiv_pos_as_xyz\nx,y,z\n-x,-y\n"), "symmetry_unclear", "'-x,-y'"),
        (cif(symmetry="loop_\n_symmetry_equiv_pos_as_xyz\nx,y,z\ny,z,x\n"), "symmetry_unclear", "do not make a group"),
        (cif(symmetry="loop_\n_symmetry_equiv_pos_as_xyz\nx,y,z\n2x,y,z\n"), "symmetry_unclear", "2x,y,z"),
        # a symbol of the whole group over the asymmetric unit, without operations that make it
        (cif(symmetry="_symmetry_space_group_name_H-M 'F m -3 m'\nloop_\n_symmetry_equiv_pos_as_xyz\nx,y,z\n",
             sites="Na1 Na 0 0 0;Cl1 Cl 0.5 0.5 0.5", cell="5.64 5.64 5.64 90 90 90"), "symmetry_unclear", "the identity alone, but the file states space group 225"),
        (cif(symmetry="_symmetry_space_group_name_H-M 'F m -3 m'\nloop_\n_symmetry_equiv_pos_as_xyz\nx,y,z\n",
             columns="label type_symbol symmetry_multiplicity fract_x fract_y fract_z",
             sites="Na1 Na 4 0 0 0;Cl1 Cl 4 0.5 0.5 0.5", cell="5.64 5.64 5.64 90 90 90"), "formula_mismatch", "states multiplicity 4 of Na1"),
        (cif(sites="Na1 Na 0 0 0;Cl1 Cl 0.5 0.5 0.5", more="_chemical_formula_sum 'Na H Cl'"), "formula_mismatch", "states Na H Cl"),
        (cif(sites="Na1 Na 0 0 0", more="_chemical_formula_sum 'Na'\n_cell_formula_units_Z 2"), "formula_mismatch", "Z = 2"),
        (cif(sites="O1 O 0 0 0 2", columns="label type_symbol fract_x fract_y fract_z attached_hydrogens"), "formula_mismatch", "2 hydrogens"),
        (cif(sites="Na1 Na 0 0 0;Cl1 Cl 0.01 0 0"), "overlapping_atoms", "atom 1 (Na) and atom 2 (Cl)"),
        (cif(sites="Na1 Na 0 0 0;Na2 Na 1 0 0"), "overlapping_atoms", "atom 1 (Na) and atom 2 (Na)"),
        (cif(sites="H1 H ? ? ?"), "bad_coordinates", "H1 has no coordinates"),
        (cif(sites="X1 X 0 0 0"), "unknown_element", "X1 is 'X'"),
        (cif(sites="N1 NH4 0 0 0"), "unknown_element", "'NH4'"),
        (cif(sites="W1 Wat 0 0 0"), "unknown_element", "'Wat'"),
        (cif(sites="CO1 0 0 0", columns="label fract_x fract_y fract_z"), "unknown_element", "add the column _atom_site_type_symbol"),
        (cif(sites="CO1 0 0 0", columns="label fract_x fract_y fract_z", more="_chemical_formula_sum Co"), "ok", None),
        (cif(sites="CL1 CL1- 0 0 0"), "ok", None),
        (cif(sites="Na1 Na 0 0 0 0.98", columns="label type_symbol fract_x fract_y fract_z occupancy"), "disordered", "Na 0.98"),
        (cif(sites="Fe1 Fe2+ 0 0 0 0.5;Fe2 Fe3+ 0 0 0 0.5", columns="label type_symbol fract_x fract_y fract_z occupancy"), "ok", None),
        (cif(sites="Na1 Na 0 0 0 1.7", columns="label type_symbol fract_x fract_y fract_z occupancy"), "unreadable", "more than 1"),
        (cif(sites="Na1 Na 0 0 0 A;Na2 Na 0.5 0 0 B", columns="label type_symbol fract_x fract_y fract_z disorder_group"),
         "disordered", "alternatives"),
        (cif(sites="Du1 ? 0.3 0 0 dum;Na1 Na 0 0 0 .", columns="label type_symbol fract_x fract_y fract_z calc_flag"), "ok", None),
        (cif(more="_cell_modulation_dimension 1"), "unreadable", "modulated"),
        (cif(cell="4 4 4 30 40 80"), "bad_lattice", "no cell has"),
        (cif(cell="4 nan 4 90 90 90"), "bad_lattice", "'nan', no number"),
        (cif(cell="4 4 0 90 90 90"), "bad_lattice", "no cell has"),
        (cif().replace("_cell_length_b 4\n", ""), "bad_lattice", "_cell_length_b is missing"),
        (cif() + "_cell_length_a 5\n", "unreadable", "comes twice"),
        (cif(sites="Na1 Na 0 0 0", columns="label type_symbol Cartn_x Cartn_y Cartn_z"), "bad_coordinates", "Cartesian"),
    ],
)  # fmt: skip
def test_what_a_cif_says_of_itself_decides(text: str, status: str, note: str | None) -> None:
    (found,) = crystals_of_cif(text, "x")
    assert found.status == status, found.note
    assert (note is None) == (found.note is None)
    assert note is None or note in str(found.note)
    assert (found.crystal is None) == (status != "ok")


POSCAR_4 = "{}\n1.0\n4 0 0\n0 4 0\n0 0 4\n1 1\nDirect\n0 0 0{}\n0.5 0.5 0.5{}\n"


@pytest.mark.parametrize(
    ("text", "formula"),
    [
        (POSCAR_4.format("Cs Cl", "", ""), "CsCl"),
        (POSCAR_4.format("made by hand", " Cs", " Cl"), "CsCl"),
        (POSCAR_4.format("comment", "", "").replace("1 1\n", "Cs_sv Cl/0a1b\n1 1\n"), "CsCl"),
        (POSCAR_4.format("In As", "", "").replace("1 1\n", "Cs Cl\n1 1\n"), "CsCl"),
        (POSCAR_4.format("x", "", "").replace("1 1\nDirect", "Cs Cl\n1 1\nSelective dynamics\nDirect")
         .replace("0 0 0\n", "0 0 0 T T F\n"), "CsCl"),
        (POSCAR_4.format("x", "", "").replace("1 1\nDirect", "Cs Cl\n1 1\nCartesian").replace("0.5 0.5 0.5", "2 2 2"), "CsCl"),
        (POSCAR_4.format("x", "", "").replace("\n1.0\n", "\n-64.0\n").replace("1 1\n", "Cs Cl\n1 1\n"), "CsCl"),
    ],
)  # fmt: skip
def test_elements_of_a_poscar(text: str, formula: str) -> None:
    (found,) = crystals_of_poscar(text, "x")
    assert found.crystal is not None, found.note
    assert found.crystal.formula == formula
    assert found.crystal.volume == pytest.approx(64)
    assert np.allclose(found.crystal.frac_coords, [[0] * 3, [0.5] * 3])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (POSCAR_4.format("In order", "", ""), "no line of element symbols"),
        (POSCAR_4.format("CsCl", "", ""), "no line of element symbols"),
        (POSCAR_4.format("Cs Cl at 300 K", "", ""), "no line of element symbols"),
        (POSCAR_4.format("x", "", "").replace("1 1\n", "Cs Qq\n1 1\n"), "'Qq'"),
        (POSCAR_4.format("x", " Cs", " Br").replace("1 1\n", "Cs Cl\n1 1\n"), "not those of the line of symbols"),
        (POSCAR_4.format("Cs Cl", "", "").replace("0.5 0.5 0.5\n", ""), "counts 2 atoms and lists 1"),
        (POSCAR_4.format("Cs Cl", "", "").replace("0 0 4\n", "0 4 0\n"), "no volume"),
    ],
)
def test_a_poscar_without_elements_is_refused(text: str, says: str) -> None:
    (found,) = crystals_of_poscar(text, "x")
    assert found.crystal is None
    assert says in str(found.note)


def some(table: pa.Table, n: int) -> list[Crystal]:
    return [crystal for crystal in crystals_from_table(table.slice(0, n))[0] if crystal is not None]


def test_poscars_are_read_as_pymatgen_writes_them(real_crystals: pa.Table) -> None:
    for crystal in some(real_crystals, 100):
        structure = Structure(crystal.lattice, crystal.atomic_numbers, crystal.frac_coords).get_sorted_structure()
        (found,) = crystals_of_poscar(structure.to(fmt="poscar"), "x")
        assert found.crystal is not None
        assert np.array_equal(found.crystal.atomic_numbers, structure.atomic_numbers)
        assert np.allclose(found.crystal.frac_coords, structure.frac_coords, atol=1e-8)
        assert np.allclose(found.crystal.lattice, structure.lattice.matrix, atol=1e-6)


def test_cifs_are_read_as_pymatgen_writes_them(real_crystals: pa.Table) -> None:
    for crystal in some(real_crystals, 60):
        structure = Structure(crystal.lattice, crystal.atomic_numbers, crystal.frac_coords)
        right = symmetrize(crystal)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            texts = [str(CifWriter(structure)), str(CifWriter(structure, symprec=0.01, refine_struct=False))]
        for text in texts:
            (found,) = crystals_of_cif(text, "x")
            if found.status == "symmetry_unclear":  # operations of a cell that has not quite their shape
                continue
            assert found.crystal is not None, found.note
            sites = symmetrize(found.crystal)
            assert sites.fingerprint() == right.fingerprint()
            assert sites.lattice_parameters == pytest.approx(right.lattice_parameters, abs=5e-3)


# --- periodicity and vacuum -------------------------------------------------------


def test_periodicity_is_what_the_input_says(tmp_path: Path) -> None:
    layer = Structure(
        Lattice.hexagonal(3.16, 20), ["Mo", "S", "S"], [[1 / 3, 2 / 3, 0.5], [2 / 3, 1 / 3, 0.58], [2 / 3, 1 / 3, 0.42]]
    )
    spelled = layer.as_dict() | {"lattice": layer.lattice.as_dict() | {"pbc": [True, True, False]}}
    (tmp_path / "layer.json").write_text(json.dumps(spelled))
    with pytest.raises(InputError, match=r"not_periodic: periodic in 2 of three directions \(pbc T T F\).*set pbc to T T T"):
        read_crystals([tmp_path / "layer.json"])
    for pbc, status in ((True, "ok"), ((True, True, False), "not_periodic"), (False, "not_periodic")):
        atoms = Atoms("NaCl", cell=[4, 4, 4], pbc=pbc, scaled_positions=[[0] * 3, [0.5] * 3])
        ase.io.write(tmp_path / "two.extxyz", [atoms, bulk("Si")])
        assert list(statuses(tmp_path / "two.extxyz").values()) == [status, "ok"]


def test_layers_with_vacuum_are_flagged_and_layered_crystals_are_not(tmp_path: Path) -> None:
    layer = mx2("MoS2", vacuum=8.0)
    layer.pbc = True
    layer.write(tmp_path / "POSCAR", format="vasp")
    read = read_crystals([tmp_path / "POSCAR"])
    assert read.column("status").to_pylist() == ["ok"]
    assert "low_dimensional: 16 Å of vacuum" in read.column("note").to_pylist()[0]
    bulk_disulfide = Crystal(
        np.array([42, 42, 16, 16, 16, 16]),
        np.array([[1 / 3, 2 / 3, 0.25], [2 / 3, 1 / 3, 0.75], [1 / 3, 2 / 3, 0.621], [2 / 3, 1 / 3, 0.379],
                  [2 / 3, 1 / 3, 0.121], [1 / 3, 2 / 3, 0.879]]),
        Lattice.hexagonal(3.16, 12.295).matrix,
    )  # fmt: skip
    assert widest_gap(bulk_disulfide) == pytest.approx((0.75 - 0.5 - 0.121 + 0.121 - 0.008) * 12.295, abs=0.2)
    assert not is_low_dimensional(bulk_disulfide)
    caesium = bulk("Cs", "bcc", 6.141)
    assert not is_low_dimensional(Crystal(caesium.numbers, caesium.get_scaled_positions(), caesium.cell.array))


def test_vacuum_does_not_depend_on_the_cell() -> None:
    layer = mx2("MoS2", vacuum=8.0)
    crystal = Crystal(layer.numbers, layer.get_scaled_positions(), layer.cell.array)
    change = np.array([[1, 0, 0], [2, 1, 0], [3, -1, 1]])
    skew = Crystal(crystal.atomic_numbers, crystal.frac_coords @ np.linalg.inv(change), change @ crystal.lattice)
    assert widest_gap(skew) == pytest.approx(widest_gap(crystal), abs=1e-6)


def test_overlap_sees_images_in_oblique_cells() -> None:
    skew = np.array([[3.0, 0, 0], [29.9, 0.3, 0], [0, 0, 3.0]])  # a lattice vector of 0.3 Å hides in it
    assert overlap(Crystal(np.array([11]), np.zeros((1, 3)), skew)) == (0, 0)
    assert overlap(Crystal(np.array([11, 17]), np.array([[0, 0, 0.95], [0, 0, 0.05]]), 3 * np.eye(3))) == (0, 1)
    assert overlap(Crystal(np.array([11, 17]), np.array([[0, 0, 0], [0.5, 0.5, 0.5]]), 3 * np.eye(3))) is None


def test_disorder_of_objects_and_of_ase_is_named(tmp_path: Path) -> None:
    from crystalformer_rl.reading.objects import crystals_table

    alloy = Structure(Lattice.cubic(3.75), [{"Cu": 0.75, "Au": 0.25}], [[0, 0, 0]])
    heavy = Structure(Lattice.cubic(3.75), [{"D": 0.98, "H": 0.02}], [[0, 0, 0]])
    with pytest.warns(UserWarning, match=r"site 1 .* is occupied by Cu 0.75, Au 0.25"):
        table = crystals_table([alloy, heavy])
    assert table.column("status").to_pylist() == ["disordered", "ok"]
    assert table.column("formula").to_pylist() == [None, "H2"]
    read = ase.io.read(io.StringIO(alloy.to(fmt="cif")), format="cif")
    with pytest.warns(UserWarning, match="disordered"):
        assert crystals_table([read, bulk("Si")]).column("status").to_pylist() == ["disordered", "ok"]
    with pytest.raises(InputError, match="does not exist"):
        crystals_table(tmp_path / "missing.cif")


# --- what goes out ----------------------------------------------------------------


def test_texts_of_files_are_no_formulas_in_a_spreadsheet() -> None:
    names = ["=HYPERLINK(1)", "+1", "-1", "@a", "plain", "a,b", "\x1b[31mred"]
    rows = [
        {"id": name, "policy": "x", "formula": "NaCl", "status": "ok", "e_above_hull": -0.1, "note": "=1+1"}
        for name in names
    ]
    table = table_of_rows(EVALUATED, rows)
    read = list(csv.DictReader(io.StringIO(spreadsheet(table))))
    assert [row["id"] for row in read] == ["'=HYPERLINK(1)", "'+1", "'-1", "'@a", "plain", "a,b", "\x1b[31mred"]
    assert {row["note"] for row in read} == {"'=1+1"}
    assert {row["e_above_hull"] for row in read} == {"-0.1"}
    assert "\x1b" not in "\n".join(crystal_lines(table.to_pylist()))


def test_lines_say_what_each_crystal_is() -> None:
    rows = [
        {"id": "a" * 60, "formula": "NaCl", "space_group": 225, "e_above_hull": -0.0004, "novel": False, "rediscovered": False,
         "known_level": "structure", "band_gap": 5.19, "eps_electronic": 2.47, "low_dimensional": True, "status": "ok"},
        {"id": "b", "status": "disordered", "note": "Cu1 is occupied by Cu 0.75"},
    ]  # fmt: skip
    lines = crystal_lines(table_of_rows(EVALUATED, rows * 30).to_pylist(), most=2)
    assert len(lines) == 5
    assert lines[2].split() == [
        f"{'a' * 13}…{'a' * 14}",
        "NaCl",
        "Fm-3m",
        "0.000",
        "retrieved,",
        "low-dimensional",
        "5.19",
        "2.5",
    ]
    assert "disordered: Cu1 is occupied by Cu 0.75" in lines[3]
    assert lines[4] == "and 58 more."


def test_kinds_are_told_by_content(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1]}), tmp_path / "no.suffix")
    assert kind_of_file(tmp_path / "no.suffix") is Kind.PARQUET
    assert sys.getrecursionlimit() < 100_000  # deep JSON above was refused by that limit
