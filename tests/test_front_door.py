"""The front door: structures as people hold them in, DataFrames out, one worker and no framework in the caller's process."""

from __future__ import annotations

import inspect
import subprocess
import sys
import warnings
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from ase import Atoms
from ase.build import bulk
from pymatgen.analysis.phase_diagram import PDPlotter
from pymatgen.core import Lattice, Molecule, Structure

import crystalformer_rl as cf
from crystalformer_rl.crystal.structure import Crystal
from crystalformer_rl.errors import InputError
from crystalformer_rl.front_door import places
from crystalformer_rl.hull.convex_hull import Hull
from crystalformer_rl.reading.objects import crystals_table
from crystalformer_rl.resources.registry import Resource
from crystalformer_rl.tables.discovery_columns import EVALUATED
from crystalformer_rl.tables.parquet import write_table
from crystalformer_rl.tables.provenance import read_provenance, record_of


def rock_salt(a: str, b: str, length: float) -> Structure:
    return Structure.from_spacegroup("Fm-3m", Lattice.cubic(length), [a, b], [[0, 0, 0], [0.5, 0.5, 0.5]])


def mixed(folder: Path) -> list[object]:
    """Twenty inputs of all kinds, four of which are no crystals."""
    salts = [
        rock_salt(a, b, length) for a, b, length in (("Na", "Cl", 5.6), ("Mg", "O", 4.2), ("K", "Br", 6.6), ("Li", "F", 4.0))
    ]
    for k, salt in enumerate(salts):
        salt.to(filename=str(folder / f"salt{k}.cif"))
    salts[0].to(filename=str(folder / "POSCAR"))
    (folder / "broken.cif").write_text("data_x\n_cell_length_a long\n")
    shared = Structure(Lattice.cubic(3.7), [{"Cu": 0.5, "Au": 0.5}], [[0, 0, 0]])
    ours = Crystal(bulk("Ge").numbers, bulk("Ge").get_scaled_positions(), bulk("Ge").cell.array)
    paths = [folder / f"salt{k}.cif" for k in range(4)]
    atoms = [bulk("Si"), bulk("Cu"), bulk("GaAs", "zincblende", 5.7), bulk("Al"), bulk("ZnO", "wurtzite", 3.25, 5.2)]
    return [*salts, *atoms, *paths, str(folder / "POSCAR"), ours, folder / "broken.cif", folder / "missing.cif", shared, None,
            bulk("NaCl", "rocksalt", 5.6)]  # fmt: skip


def test_importing_costs_nothing_and_brings_no_framework() -> None:
    code = (
        "import time; t = time.perf_counter(); import crystalformer_rl as cf; t = time.perf_counter() - t; import sys; "
        "print(t, sorted({'jax', 'torch', 'numpy', 'pandas', 'pyarrow', 'pymatgen'} & set(sys.modules)), dir(cf))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert float(said.split()[0]) < 0.2
    assert "[]" in said
    assert set(cf.__all__) <= set(dir(cf))


def test_twenty_mixed_inputs_give_twenty_rows_with_one_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import crystalformer_rl.potential.client as client

    started: list[list[str]] = []

    class Counted(subprocess.Popen):  # type: ignore[type-arg]
        def __init__(self, arguments: list[str], **options: object) -> None:
            if "crystalformer_rl.potential.worker" in arguments:  # libraries start programs of their own, such as uname
                started.append(arguments)
            super().__init__(arguments, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(client.subprocess, "Popen", Counted)
    from crystalformer_rl.front_door import workers

    workers.close()
    with pytest.warns(UserWarning, match="not a|does not exist|disordered") as told:
        table = cf.evaluate(mixed(tmp_path), progress=False, max_evaluations=4)
    assert isinstance(table, pd.DataFrame)
    assert list(table.columns) == [column.name for column in EVALUATED]
    assert len(table) == 20
    assert table["id"].is_unique
    assert table["status"].tolist().count("unreadable") == 3
    assert table["status"].tolist().count("disordered") == 1
    words = [str(warning.message) for warning in told]
    for part in ("broken.cif", "missing.cif does not exist", "disordered", "NoneType, not a crystal"):
        assert any(part in sentence for sentence in words), part
    assert len(started) == 1, "one worker, which loads its potential once"

    # Equal crystals in different clothes are told apart from none but each other.
    by_id = table.set_index("id")
    assert by_id.loc["structure-0", "duplicate_of"] == "POSCAR"
    assert by_id.loc["salt0", "duplicate_of"] == "POSCAR"
    assert table.attrs["metrics"]["n"] == 20
    assert table.attrs["units"]["e_above_hull"] == "eV/atom"

    # The same worker answers the next questions; the tables lead back to structures.
    again = cf.relax([rock_salt("Mg", "O", 4.3)], progress=False)
    assert again["converged"].tolist() == [True]
    assert len(started) == 1
    structures = cf.to_structures(table)
    assert [s is None for s in structures] == [status != "ok" for status in table["status"]]
    assert structures[1].composition.reduced_formula == "MgO"
    assert structures[1].lattice.abc == pytest.approx([2.98] * 3, abs=0.05)  # the primitive cell, relaxed

    # Energies at hand are taken as they are.
    distances = cf.hull(again)
    assert distances["e_above_hull"].tolist() == pytest.approx([by_id.loc["structure-1", "e_above_hull"]], abs=2e-3)
    with pytest.raises(InputError, match="not relaxed"):
        cf.hull(again, fmax=0.01)
    with pytest.raises(InputError, match="'fmax' is -1"):
        cf.relax([rock_salt("Mg", "O", 4.3)], fmax=-1)
    assert bool(cf.novelty(again, progress=False)["unique"][0])
    gap = cf.properties(again, progress=False)
    assert gap["band_gap"][0] == pytest.approx(4.4, abs=1.5)
    workers.close()


def test_neither_framework_comes_into_the_process_that_evaluates(tmp_path: Path) -> None:
    code = (
        "import sys; from ase.build import bulk; import crystalformer_rl as cf; "
        "found = cf.evaluate([bulk('Cu')], models=None, progress=False, max_evaluations=1); "
        "print(found['status'].tolist(), sorted({'jax', 'torch'} & set(sys.modules)))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.split("\n")[0] == "['ok'] []"


def own_table(**more: object) -> pd.DataFrame:
    """Rock salt as somebody's own table has it, with nothing but what is needed."""
    cell = [0.0, 2.82, 2.82, 2.82, 0.0, 2.82, 2.82, 2.82, 0.0]
    row = {"id": ["mine"], "atomic_numbers": [[11, 17]], "frac_coords": [[0, 0, 0, 0.5, 0.5, 0.5]], "lattice": [cell]}
    return pd.DataFrame({**row, **more})


def test_tables_of_ones_own_need_four_columns() -> None:
    for given in (own_table(), pa.Table.from_pandas(own_table()), own_table().rename(columns={"id": "material_id"})):
        table = crystals_table(given)
        assert table.select(["id", "formula", "status"]).to_pylist() == [{"id": "mine", "formula": "NaCl", "status": "ok"}]
    with_objects = own_table(structure=[rock_salt("Na", "Cl", 5.64)])
    assert "structure" not in crystals_table(with_objects).column_names
    with pytest.raises(InputError, match="the table has no column 'lattice'"):
        cf.novelty(own_table().drop(columns="lattice"))
    with pytest.raises(InputError, match="column 'lattice': its values cannot be read"):
        crystals_table(own_table(lattice=[[[1, 0, 0], "b"]]))
    assert crystals_table([own_table(), bulk("Si"), own_table()]).column("id").to_pylist() == [
        "mine",
        "structure-1",
        "mine#2",
    ]
    assert crystals_table({"salt": own_table(), "Si": bulk("Si")}).column("id").to_pylist() == ["salt", "Si"]


def test_energies_of_ones_own_are_taken_where_their_potential_is_said(embedded: Path) -> None:
    mine = own_table(energy=[-3.37])
    with pytest.raises(InputError, match="the table does not say which potential"):
        cf.hull(mine, progress=False)
    found = cf.hull(mine, assume_same_potential=True, progress=False)
    hull = Hull.from_reference(embedded)
    expected = hull.distance([11, 17], hull.formation_energy([11, 17], -3.37)).e_above_hull
    assert found["e_above_hull"].tolist() == [pytest.approx(expected, abs=1e-12)]


def test_paths_of_tables_keep_tokens_energies_and_the_potential(tmp_path: Path, embedded: Path) -> None:
    entries = pq.read_table(embedded).slice(0, 400)
    entries = (
        entries.filter(pc.is_valid(entries["lattice"]))
        .slice(0, 4)
        .append_column("energy_initial", pa.nulls(4, pa.float64()))
    )
    record = read_provenance(embedded)
    paths = [tmp_path / "first.parquet", tmp_path / "second.parquet"]
    for k, path in enumerate(paths):
        write_table(path, entries.slice(2 * k, 2), {"potential": record["potential"]})
    for given in (paths[0], paths, [*paths, tmp_path / "missing.parquet"]):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            table = crystals_table(given)
        assert {"energy", "wyckoff", "site_frac_coords"} <= set(table.column_names)
        assert record_of(table)["potential"] == record["potential"]
    found = cf.hull(paths, progress=False)  # nothing is relaxed
    assert found["formation_energy"].tolist() == pytest.approx(entries["formation_energy"].to_pylist(), abs=1e-5)
    other = {**record["potential"], "name": "another"}
    write_table(paths[1], entries.slice(2, 2), {"potential": other})
    assert "potential" not in record_of(crystals_table(paths))


def test_what_cannot_be_read_is_said_at_the_line_that_asked(tmp_path: Path) -> None:
    (tmp_path / "broken.cif").write_text("data_x\n_cell_length_a long\n")
    bulk("Si").write(tmp_path / "good.cif")
    flat = Atoms("H", cell=[3, 3, 0], pbc=True)
    water = Molecule(["O", "H", "H"], [[0, 0, 0], [1, 0, 0], [0, 1, 0]])
    shared = Structure(Lattice.cubic(3.7), [{"Cu": 0.5, "Au": 0.5}], [[0, 0, 0]])
    for given, rows, says in (
        (tmp_path, 2, "broken: the input could not be read as a crystal"),
        (flat, 1, "structure-0: a lattice that is not finite"),
        ([water], 1, "a Molecule, not a crystal"),
        (water, 1, "a Molecule, not a crystal"),
        (shared, 1, "structure-0: sites that are partly occupied .* site 1 .* is occupied by Cu 0.5, Au 0.5"),
    ):
        with pytest.warns(UserWarning, match=says) as told:
            assert crystals_table(given).num_rows == rows
        assert told[0].filename == __file__


def test_rows_that_failed_do_not_get_in_the_way(tmp_path: Path) -> None:
    crystals = {
        "good": rock_salt("Na", "Cl", 5.64),
        "dense": Atoms("NaCl", cell=[1, 1, 1], pbc=True, scaled_positions=[[0] * 3, [0.5] * 3]),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = cf.evaluate(crystals, models=None, progress=False)
    assert found["status"].tolist() == ["ok", "overlapping_atoms"]
    assert found.loc[found["converged"], "id"].tolist() == ["good"]  # null is not true
    assert str(found["space_group"].dtype) == "Int64"
    assert isinstance(found["atomic_numbers"][0], list)
    assert [s is None for s in cf.to_structures(found)] == [False, True]
    # What comes out goes in again, failures and all.
    again = cf.relax(found, progress=False, max_evaluations=1)
    assert again["status"].tolist() == ["ok", "overlapping_atoms"]
    distances = cf.hull(found, progress=False)
    assert distances["e_above_hull"][0] == pytest.approx(found["e_above_hull"][0], abs=1e-9)


def test_help_shows_the_functions_of_rooms() -> None:
    assert list(inspect.signature(cf.hull).parameters)[:2] == ["structures", "reference"]
    assert "reward" in inspect.signature(cf.finetune).parameters


def test_rooms_of_those_names_stay_modules() -> None:
    import crystalformer_rl.hull.stability as stability
    from crystalformer_rl import finetune, hull, properties

    assert hull.stability is stability
    assert all(callable(room) for room in (finetune, hull, properties))


def test_phase_diagram_is_pymatgens() -> None:
    diagram = cf.phase_diagram("Mg-O")
    assert {"Mg", "MgO", "O2"} == {entry.composition.reduced_formula for entry in diagram.stable_entries}
    assert PDPlotter(diagram, backend="matplotlib") is not None
    with pytest.raises(InputError, match="'Xx' in 'Xx-O' is not an element symbol"):
        cf.phase_diagram("Xx-O")
    with pytest.raises(InputError, match="no element is named"):
        cf.phase_diagram(" ")


def test_the_phase_diagram_has_the_hull_of_the_reference(embedded: Path) -> None:
    diagram, hull = cf.phase_diagram("Li-P-S"), Hull.from_reference(embedded)
    assert len(diagram.all_entries) > 5
    for entry in diagram.all_entries:
        numbers = [element.Z for element, n in entry.composition.items() for _ in range(round(n))]
        ours = hull.distance(numbers, entry.energy_per_atom).e_above_hull
        assert ours == pytest.approx(diagram.get_e_above_hull(entry), abs=1e-9)


def test_one_structure_alone_and_cells_without_volume() -> None:
    assert crystals_table(bulk("Si")).num_rows == crystals_table(rock_salt("Na", "Cl", 5.6)).num_rows == 1
    with pytest.warns(UserWarning, match="bad_lattice"):
        flat = crystals_table([Atoms("H", cell=[3, 3, 0], pbc=True)])
    assert flat.column("status").to_pylist() == ["bad_lattice"]
    with pytest.raises(InputError, match="no crystals are given"):
        crystals_table([])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        twice = crystals_table([bulk("Si"), bulk("Si")])
    assert twice.column("id").to_pylist() == ["structure-0", "structure-1"]


def test_what_is_fetched_by_name_is_kept(tmp_path: Path, embedded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published = Resource("far", embedded.as_uri(), "reference")
    monkeypatch.setattr(places, "choose", lambda *_: published)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    found = places.located("far", "reference")
    assert tmp_path in found.parents
    assert found.read_bytes() == embedded.read_bytes()


def test_functions_are_found_before_their_rooms_are_imported() -> None:
    program = "import crystalformer_rl as cf; assert cf.__getattr__('hull') is cf.hull and callable(cf.hull)"
    subprocess.run([sys.executable, "-c", program], check=True)
