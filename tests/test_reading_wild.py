"""Forms in which crystals lie around and in which a reader once took them for something else, or lost them."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import ase.io
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ase.build import bulk
from pymatgen.core import Lattice, Molecule, Structure
from pymatgen.io.cif import CifWriter

from crystalformer_rl.errors import InputError
from crystalformer_rl.reading.cif_crystals import crystals_of_cif
from crystalformer_rl.reading.cif_species import element_of_symbol, stated_formula
from crystalformer_rl.reading.inputs import read_crystals
from crystalformer_rl.reading.objects import crystals_table
from crystalformer_rl.reading.poscar import crystals_of_poscar
from crystalformer_rl.tables.provenance import record_of

SALT = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
CHLORIDE = Structure(Lattice.cubic(4.12), ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
P_3M1 = [
    "x,y,z",
    "-y,x-y,z",
    "-x+y,-x,z",
    "y,x,-z",
    "x-y,-y,-z",
    "-x,-x+y,-z",
    "-x,-y,-z",
    "y,-x+y,-z",
    "x-y,x,-z",
    "-y,-x,z",
    "-x+y,y,z",
    "x,x-y,z",
]


def rows(path: Path) -> dict[str, tuple[str | None, str]]:
    table = read_crystals([path])
    return {row["id"]: (row["formula"], row["status"]) for row in table.select(["id", "formula", "status"]).to_pylist()}


def cif(sites: str, symmetry: str = "_space_group_name_H-M_alt 'P 1'", cell: str = "4 4 4 90 90 90", more: str = "",
        columns: str = "label type_symbol fract_x fract_y fract_z") -> str:  # fmt: skip
    names = ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma")
    lines = ["data_x", *(f"_cell_{n} {v}" for n, v in zip(names, cell.split(), strict=True)), symmetry, more, "loop_"]
    return "\n".join([*lines, *(f"_atom_site_{name}" for name in columns.split()), *sites.split(";")]) + "\n"


def operations(listed: list[str]) -> str:
    return "\n".join(["loop_", "_space_group_symop_operation_xyz", *(f"'{one}'" for one in listed)])


BRUCITE = {"symmetry": operations(P_3M1), "cell": "3.142 3.142 4.766 90 90 120",
           "sites": "Mg1 Mg 0 0 0;O1 O .33333 .66667 .2203"}  # fmt: skip
UNTYPED = {"columns": "label fract_x fract_y fract_z"}


@pytest.mark.parametrize(
    ("given", "status"),
    [
        (BRUCITE | {"more": "_chemical_formula_sum 'Mg (O2 H2)'"}, "formula_mismatch"),
        (BRUCITE | {"more": "_chemical_formula_structural 'Mg (O H)2'"}, "formula_mismatch"),
        (BRUCITE | {"more": "_chemical_formula_sum 'MG1 O2'"}, "ok"),
        ({"sites": "Ca1 0 0 0;Wat .5 .5 .5"} | UNTYPED, "unknown_element"),
        ({"sites": "Ca1 0 0 0;Vac1 .5 .5 .5"} | UNTYPED, "unknown_element"),
        ({"sites": "Ca1 0 0 0;Tet1 .5 .5 .5"} | UNTYPED, "unknown_element"),
        ({"sites": "Ca1 0 0 0;Du1 .5 .5 .5"} | UNTYPED, "unknown_element"),
        ({"sites": "Ca1 0 0 0;T1 .5 .5 .5"} | UNTYPED, "unknown_element"),
        ({"sites": "Ca1 0 0 0;OH .5 .5 .5"} | UNTYPED, "unknown_element"),
        ({"sites": "A1 NH4+ 0 0 0"}, "unknown_element"),
        ({"sites": "A1 CN- 0 0 0"}, "unknown_element"),
        ({"sites": "A1 NO3- 0 0 0"}, "unknown_element"),
        ({"sites": "Na1 Na 0 0 0;H1 H . . ."}, "bad_coordinates"),
        ({"sites": "Na1 Na 0 0 0;Cl1 Cl 1/2 1/2 1/2"}, "bad_coordinates"),
        # a fraction of the cell is not confirmed by Z
        ({"sites": "C1 C 0 0 0;H1 H .3 0 0;H2 H 0 .3 0", "symmetry": "", "more": "_chemical_formula_sum 'C2 H4'\n_cell_formula_units_Z 1"},
         "formula_mismatch"),
        ({"sites": "Cu1 Cu 0 0 0;Cl1 Cl .5 .5 0;Cl2 Cl .5 0 .5", "symmetry": "_space_group_name_H-M_alt 'P -1'\n" + operations(["x,y,z"]),
          "more": "_chemical_formula_sum 'Cu2 Cl4'\n_cell_formula_units_Z 1"}, "formula_mismatch"),
        # symbols that no table has do not become another setting of the number
        ({"sites": "Zr1 Zr .28 .25 .65", "symmetry": "_space_group_name_H-M_alt 'B 21/m'\n_space_group_IT_number 11", "cell": "8 5 9 90 100 90"},
         "symmetry_unclear"),
        ({"sites": "Zr1 Zr .28 .25 .65", "symmetry": "_space_group_name_H-M_alt 'F 4/m m c'\n_space_group_IT_number 140", "cell": "8 8 9 90 90 90"},
         "symmetry_unclear"),
        # an operation beside a symbol that it does not make
        ({"sites": "Na1 Na 0 0 0;Cl1 Cl .5 .5 .5", "cell": "5.64 5.64 5.64 90 90 90", "more": "_chemical_formula_sum 'Na Cl'",
          "symmetry": "_space_group_name_H-M_alt 'F m -3 m'\n_space_group_IT_number 1\n" + operations(["x,y,z"])}, "symmetry_unclear"),
        ({"sites": "Zn1 Zn 0 0 0;S1 S .25 .25 .25", "cell": "5.4 5.4 5.4 90 90 90",
          "symmetry": "_space_group_name_H-M_alt 'F43m'\n" + operations(["x,y,z"])}, "symmetry_unclear"),
        ({"sites": "P1 P 0 0 0;P2 P .5 .5 .4", "symmetry": "_space_group_name_H-M_alt 'P -1'\n" + operations(["x,y,z"])}, "symmetry_unclear"),
        ({"sites": "Na1 Na 0 0 0", "symmetry": "_space_group_name_H-M_alt 'P m -3 m'\n_symmetry_space_group_name_H-M 'F m -3 m'"},
         "symmetry_unclear"),
        ({"sites": "Fe1 Fe 0 0 0;O1 O .5 .5 .5", "more": "_chemical_formula_sum 'Fe0.99 O'"}, "formula_mismatch"),
        ({"sites": "Fe1 Fe 0 0 0;O1 O .5 .5 .5", "more": "_cell_volume 100"}, "bad_lattice"),
        # SHELXL-97 wrote the order of the site's own symmetry under this name
        ({"sites": "Cu1 Cu 2 0 0 0;K1 K 1 .2 .3 .4", "columns": "label type_symbol symmetry_multiplicity fract_x fract_y fract_z",
          "symmetry": operations(["x,y,z", "-x,y+1/2,-z+1/2", "-x,-y,-z", "x,-y+1/2,z+1/2"]), "cell": "7 8 9 90 100 90"}, "ok"),
        ({"sites": "Na1 Na 0 0 0", "columns": "label type_symbol fract_x fract_y fract_z",
          "more": "_atom_site_occupancy 1.0"}, "ok"),
    ],
)  # fmt: skip
def test_cifs_of_the_wild(given: dict[str, str], status: str) -> None:
    (found,) = crystals_of_cif(cif(**given), "x")
    assert (found.status, bool(found.note)) == (status, status != "ok"), found.note


def test_columns_of_different_lengths_stop_nothing(tmp_path: Path) -> None:
    broken = cif("Na1 Na 0 0").replace("_atom_site_fract_z\n", "") + "loop_\n_atom_site_fract_z\n0\n0\n"
    (tmp_path / "broken.cif").write_text(broken)
    SALT.to(filename=str(tmp_path / "good.cif"))
    assert rows(tmp_path) == {"broken": (None, "bad_coordinates"), "good": ("NaCl", "ok")}


@pytest.mark.parametrize(
    "structure",
    [
        Structure(Lattice.cubic(5.6), ["N"] * 8, np.array([[x, x, x] for x in (0.055, 0.945)] + [[0.555, 0.445, 0.945], [0.445, 0.555, 0.055],
                  [0.945, 0.555, 0.445], [0.055, 0.445, 0.555], [0.445, 0.945, 0.555], [0.555, 0.055, 0.445]])),
        Structure(Lattice.hexagonal(6.2, 4.5), ["Na"] * 6 + ["O"] * 6,
                  [[.3, 0, 0], [0, .3, 0], [.7, .7, 0], [.63, 0, .5], [0, .63, .5], [.37, .37, .5],
                   [0, 0, .33], [0, 0, .67], [.33, .67, .17], [.33, .67, .83], [.67, .33, .17], [.67, .33, .83]]),
    ],
)  # fmt: skip
def test_formulas_that_pymatgen_does_not_reduce(structure: Structure) -> None:
    (found,) = crystals_of_cif(str(CifWriter(structure)), "x")
    assert found.crystal is not None, found.note
    assert len(found.crystal) == len(structure)


@pytest.mark.parametrize(
    ("text", "amounts"),
    [
        ("Mg (O H)2", {1: 2, 8: 2, 12: 1}),
        ("Na Cl, 2(H2 O)", {1: 4, 8: 2, 11: 1, 17: 1}),
        ("C6 H12.5 O6", {1: 12.5, 6: 6, 8: 6}),
        ("Ca5(PO4)3F", {8: 12, 9: 1, 15: 3, 20: 5}),
        ("NA1 CL1 O3", {8: 3, 11: 1, 17: 1}),
        ("H4 N1 +", {1: 4, 7: 1}),
        ("Cu [N H3]4", {1: 12, 7: 4, 29: 1}),
        ("D2 O", {1: 2, 8: 1}),
    ],
)
def test_formulas(text: str, amounts: dict[int, float]) -> None:
    formula = stated_formula(text)
    assert formula is not None
    assert dict(sorted(formula.amounts.items())) == amounts


@pytest.mark.parametrize("text", ["Na Cl O3-x", "salt", "Xx2", "", "C6H5-CH3", "(Na,K)Cl2"])
def test_what_is_no_formula(text: str) -> None:
    formula = stated_formula(text)
    assert formula is None or text == "(Na,K)Cl2"


def test_one_hydrogen_of_many_is_missed() -> None:
    formula = stated_formula("C40 H60 N O19")
    assert formula is not None
    assert formula.denies({1: 59, 6: 40, 7: 1, 8: 19})
    assert not formula.denies({1: 240, 6: 160, 7: 4, 8: 76})


@pytest.mark.parametrize(("symbol", "number"), [("CL1-", 17), ("Na1+", 11), ("Fe3+", 26), ("O-2", 8), ("NH41+", None), ("HS-", None),
                                                ("BH4-", None), ("D1+", 1), ("Cm4+", 96), ("CA", 20), ("Zn0+", 30)])  # fmt: skip
def test_type_symbols(symbol: str, number: int | None) -> None:
    assert element_of_symbol(symbol) == number


# --- POSCAR, frames -----------------------------------------------------------------

HEAD = "x\n1.0\n4 0 0\n0 4 0\n0 0 4\n"
ATOMS = "Direct\n0 0 0\n0.5 0.5 0.5\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (HEAD + "Cs Cl\n1 1.0\n" + ATOMS, "'1 1.0'"),
        (HEAD + "Cs Cl\n1, 1\n" + ATOMS, "'1, 1'"),
        (HEAD + "Cs Cl K\n1 1\n" + ATOMS, "names 3 elements and gives 2"),
        (HEAD + "Cs Cl\n1 1\n" + ATOMS + "0.2 0.2 0.2\n", "more atoms, or another structure"),
        (HEAD + "Cs Cl\n1 1\n" + ATOMS + HEAD + "Cs Cl\n1 1\n" + ATOMS, "more atoms, or another structure"),
        (HEAD + "Cs Cl\n1 1\n" + ATOMS + "\n" + HEAD + "Cs Cl\n1 1\n" + ATOMS, "several structures in one file"),
        (
            HEAD + "Cs Cl\n1 1\nDirect configuration= 1\n0 0 0\n.5 .5 .5\nDirect configuration= 2\n0 0 0\n.5 .5 .6\n",
            "another structure",
        ),
        (HEAD + "Cs Cl\n1 1\n0 0 0\n0.5 0.5 0.5\n0.1 0.1 0.1\n", "no line says Direct or Cartesian"),
    ],
)
def test_poscars_of_which_a_part_would_be_lost(text: str, says: str) -> None:
    (found,) = crystals_of_poscar(text, "x")
    assert found.crystal is None
    assert says in str(found.note)


def test_velocities_after_the_atoms_are_no_structure() -> None:
    velocities = "\n" + "0.001 0.002 0.003\n" * 12
    (found,) = crystals_of_poscar(HEAD + "Cs Cl\n1 1\n" + ATOMS + velocities, "x")
    assert found.status == "ok", found.note


def test_frames_are_all_read_or_the_file_is_refused(tmp_path: Path) -> None:
    frame = '2\nLattice="4 0 0 0 4 0 0 0 4" Properties=species:S:1:pos:R:3 occupancy=1.0\nCs 0 0 0\nCl 2 2 2\n'
    path = tmp_path / "a.xyz"
    path.write_text(frame + "\n\n" + frame + "\n")
    assert list(rows(path).values()) == [("CsCl", "ok")] * 2
    path.write_text(frame + "bring milk\n" + frame)
    with pytest.raises(InputError, match="'bring milk' in line 5"):
        read_crystals([path])
    path.write_text(frame + frame[: frame.index("Cl 2")])
    with pytest.raises(InputError, match="counts 2 atoms in line 5 and lists fewer"):
        read_crystals([path])
    half = frame.replace("pos:R:3", "pos:R:3:occupancy:R:1").replace("0 0 0\nCl 2 2 2", "0 0 0 0.5\nCl 2 2 2 1")
    path.write_text(half.replace(" occupancy=1.0", "") + frame)
    assert [status for _, status in rows(path).values()] == ["disordered", "ok"]


def test_formats_that_do_not_say_what_the_crystal_is(tmp_path: Path) -> None:
    salt = bulk("NaCl", "rocksalt", 5.64)
    ase.io.write(tmp_path / "a.lammps-data", salt, format="lammps-data")
    with pytest.raises(InputError, match="numbers types of atoms, not elements"):
        read_crystals([tmp_path / "a.lammps-data"])
    shelx = "TITL x\nCELL 1 4.59 4.59 2.96 90 90 90\nZERR 2 0 0 0 0 0 0\nLATT 1\nSYMM -x,-y,z\nSFAC Ti O\nTi 1 0 0 0 10.125\nEND\n"
    (tmp_path / "a.res").write_text(shelx)
    with pytest.raises(InputError, match="SHELX file with symmetry"):
        read_crystals([tmp_path / "a.res"])


# --- JSON -----------------------------------------------------------------------------

S, S2 = SALT.as_dict(), CHLORIDE.as_dict()
MOLECULE = Molecule(["H", "H"], [[0, 0, 0], [0, 0, 0.7]]).as_dict()


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ({"mp-1": S, "mp-2": None}, {"mp-1": "ok", "mp-2": "unreadable"}),
        ({"mp-1": S, "mol": MOLECULE}, {"mp-1": "ok", "mol": "not_periodic"}),
        ({"mp-1": S, "mp-2": {"lattice": {"a": 1}}}, {"mp-1": "ok", "mp-2": "unreadable"}),
        ({"run1": {"structure": S}, "run2": {"error": "timeout"}}, {"run1": "ok", "run2": "unreadable"}),
        ({"structures": {"a": S, "b": None, "c": {"error": 1}}}, {"a": "ok", "b": "unreadable", "c": "unreadable"}),
        ({"data": [S, S2], "best": S2}, {"x-data-0": "ok", "x-data-1": "ok", "best": "ok"}),
        ({"structures": [S], "crystals": [S2]}, {"x-structures-0": "ok", "x-crystals-0": "ok"}),
        ({"valid_response": True, "response": [{"material_id": "mp-1", "structure": S}]}, {"mp-1": "ok"}),
        ([S, None, {"a": 1}], {"x-0": "ok", "x-1": "unreadable", "x-2": "unreadable"}),
        ({"structure": S, "formula_pretty": "CsCl"}, {"x": "formula_mismatch"}),
        ({"structure": S, "formula_pretty": "NaCl", "other": S2}, {"x": "ok"}),
        ({"jid": "J", "atoms": {"lattice_mat": [[4, 0, 0], [0, 4, 0], [0, 0, 4]], "coords": [[0, 0, 0], [2, 2, 2]], "elements": ["Cs"]}},
         {"J": "bad_coordinates"}),
    ],
)  # fmt: skip
def test_no_member_of_a_dictionary_is_lost(tmp_path: Path, value: object, found: dict[str, str]) -> None:
    (tmp_path / "x.json").write_text(json.dumps(value))
    if "ok" in found.values():
        assert {name: status for name, (_, status) in rows(tmp_path / "x.json").items()} == found
    else:
        with pytest.raises(InputError, match=next(iter(found.values()))):
            read_crystals([tmp_path / "x.json"])


def test_deep_nesting_ends_soon(tmp_path: Path) -> None:
    (tmp_path / "deep.json").write_text("[" * 30 + json.dumps(S) + "]" * 30)
    assert list(rows(tmp_path / "deep.json").values()) == [("NaCl", "ok")]
    (tmp_path / "deeper.json").write_text("[" * 900 + json.dumps(S) + "]" * 900)
    with pytest.raises(InputError, match=r"nested too deeply|no valid JSON"):
        read_crystals([tmp_path / "deeper.json"])


def test_keys_that_come_twice_are_two_crystals(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(f'{{"mp-1": {json.dumps(S)}, "mp-1": {json.dumps(S2)}}}')
    assert rows(tmp_path / "x.json") == {"mp-1": ("NaCl", "ok"), "mp-1#2": ("CsCl", "ok")}


OPTIMADE = {
    "lattice_vectors": [[4, 0, 0], [0, 4, 0], [0, 0, 4]],
    "cartesian_site_positions": [[0, 0, 0], [2, 2, 2]],
    "species_at_sites": ["Cs", "Cl"],
}


@pytest.mark.parametrize(
    ("more", "status"),
    [
        ({}, "ok"),
        ({"structure_features": ["implicit_atoms"]}, "formula_mismatch"),
        ({"structure_features": ["assemblies"]}, "disordered"),
        ({"species": [{"name": "Cl", "chemical_symbols": ["Cl"], "concentration": [1.0], "attached": ["H"], "nattached": [1]}]}, "formula_mismatch"),
        ({"species": [{"name": "Cl", "chemical_symbols": ["Cl"], "concentration": [0.5]}]}, "disordered"),
        ({"nsites": 3}, "bad_coordinates"),
        ({"chemical_formula_reduced": "Cl2Cs"}, "formula_mismatch"),
        ({"dimension_types": [1, 1, 0]}, "not_periodic"),
    ],
)  # fmt: skip
def test_what_optimade_says_of_a_structure(tmp_path: Path, more: dict[str, object], status: str) -> None:
    items = [{"id": "a", "attributes": OPTIMADE | more}, {"id": "b", "attributes": OPTIMADE}]
    (tmp_path / "x.json").write_text(json.dumps({"data": items}))
    assert [found for _, found in rows(tmp_path / "x.json").values()] == [status, "ok"]
    table = pa.Table.from_pylist([{"id": "a"} | OPTIMADE | more, {"id": "b"} | OPTIMADE])
    pq.write_table(table, tmp_path / "x.parquet")
    assert [found for _, found in rows(tmp_path / "x.parquet").values()] == [status, "ok"]


# --- tables -----------------------------------------------------------------------------

TABLE = {"id": ["a", "b"], "atomic_numbers": [[55, 17]] * 2, "frac_coords": [[0.0, 0, 0, 0.5, 0.5, 0.5]] * 2,
         "lattice": [[4.1, 0, 0, 0, 4.1, 0, 0, 0, 4.1]] * 2}  # fmt: skip


def test_a_formula_column_is_held_against_the_atoms(tmp_path: Path) -> None:
    pq.write_table(pa.table(TABLE | {"formula": ["NaCl", "ClCs"]}), tmp_path / "t.parquet")
    assert rows(tmp_path / "t.parquet") == {"a": ("NaCl", "formula_mismatch"), "b": ("CsCl", "ok")}


@pytest.mark.parametrize("status", [["completed", "failed"], [True, False], [1, 0]])
def test_a_status_column_of_others_is_not_ours(tmp_path: Path, status: list[object]) -> None:
    pq.write_table(pa.table(TABLE | {"status": status}), tmp_path / "t.parquet")
    assert rows(tmp_path / "t.parquet") == {"a": ("CsCl", "ok"), "b": ("CsCl", "ok")}
    table = read_crystals([tmp_path / "t.parquet"])
    assert table.column("status_given").to_pylist() == status
    assert record_of(table)["left_unread"][0]["file"] == "the column status"


def test_csv_of_others(tmp_path: Path) -> None:
    text = SALT.to(fmt="cif")
    pd.DataFrame({"ID": [1], "CIF": [text]}).to_csv(tmp_path / "capital.csv", index=False)
    assert rows(tmp_path / "capital.csv") == {"capital-0": ("NaCl", "ok")}
    pd.DataFrame({"id": ["a", ""], "cif": [text, text]}).to_csv(tmp_path / "named.txt", index=False)
    assert rows(tmp_path / "named.txt") == {"a": ("NaCl", "ok"), "named-1": ("NaCl", "ok")}
    (tmp_path / "twice.csv").write_text("id,cif,cif\n1,a,b\n")
    with pytest.raises(InputError, match="two columns 'cif'"):
        read_crystals([tmp_path / "twice.csv"])
    pd.DataFrame(TABLE).to_csv(tmp_path / "ours.csv", index=False)
    assert rows(tmp_path / "ours.csv") == {"a": ("CsCl", "ok"), "b": ("CsCl", "ok")}


def test_cells_without_numbers_are_a_row(tmp_path: Path) -> None:
    frame = pd.DataFrame(TABLE)
    frame.loc[1, "lattice"] = "None, else"
    frame.to_csv(tmp_path / "t.csv", index=False)
    assert [status for _, status in rows(tmp_path / "t.csv").values()] == ["ok", "unreadable"]


def test_bytes_in_parquet_are_text(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": ["a"], "cif": [SALT.to(fmt="cif").encode()]}), tmp_path / "t.parquet")
    assert rows(tmp_path / "t.parquet") == {"a": ("NaCl", "ok")}


# --- in a session, and pipes ---------------------------------------------------------------


def test_what_notebooks_hold() -> None:
    frame = pd.DataFrame({"material_id": ["a", "b"], "structure": [SALT, CHLORIDE]})
    assert crystals_table(frame).column("id").to_pylist() == ["a", "b"]
    assert crystals_table(S).column("formula").to_pylist() == ["NaCl"]
    assert crystals_table([S, S2]).column("formula").to_pylist() == ["NaCl", "CsCl"]
    assert crystals_table(SALT.to(fmt="cif")).column("status").to_pylist() == ["ok"]


def test_a_text_in_place_of_a_path_is_said() -> None:
    with pytest.raises(InputError, match="is no path of a file"):
        read_crystals([SALT.to(fmt="cif")])
    with pytest.raises(InputError, match="is no path of a file"):
        read_crystals(["Na Cl " * 100])


def test_a_damaged_file_among_several_is_a_row(tmp_path: Path) -> None:
    SALT.to(filename=str(tmp_path / "a.cif"))
    (tmp_path / "b.cif.gz").write_bytes(gzip.compress((tmp_path / "a.cif").read_bytes())[:-20])
    table = read_crystals([tmp_path / "a.cif", tmp_path / "b.cif.gz"])
    assert table.column("status").to_pylist() == ["ok", "unreadable"]
    assert "cut off or damaged" in table.column("note").to_pylist()[1]


def test_pipes_are_read_and_never_waited_for(tmp_path: Path) -> None:
    SALT.to(filename=str(tmp_path / "a.cif"))
    command = [
        sys.executable,
        "-m",
        "crystalformer_rl",
        "tokenize",
        "/dev/stdin",
        "--out",
        str(tmp_path / "t.parquet"),
        "--json",
    ]
    done = subprocess.run(command, input=(tmp_path / "a.cif").read_bytes(), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["status"] == {"ok": 1}
    os.mkfifo(tmp_path / "pipe.cif")
    assert rows(tmp_path)["a"] == ("NaCl", "ok")
    assert {one["file"]: one["why"] for one in record_of(read_crystals([tmp_path]))["left_unread"]}[
        "pipe.cif"
    ] == "no plain file"


def test_content_counts_before_the_name(tmp_path: Path) -> None:
    for name, text in (
        ("a.json", SALT.to(fmt="cif")),
        ("b.cif", json.dumps(S)),
        ("c.cif", SALT.to(fmt="poscar")),
        ("d.xyz", SALT.to(fmt="poscar")),
    ):
        (tmp_path / name).write_text(text)
        assert list(rows(tmp_path / name).values()) == [("NaCl", "ok")], name
