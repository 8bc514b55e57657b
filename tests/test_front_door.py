"""The front door: structures as people hold them in, DataFrames out, one worker and no framework in the caller's process."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import pandas as pd
import pytest
from ase import Atoms
from ase.build import bulk
from pymatgen.analysis.phase_diagram import PDPlotter
from pymatgen.core import Lattice, Structure

import crystalformer_rl as cf
from crystalformer_rl.crystal.inputs import crystals_table
from crystalformer_rl.crystal.structure import Crystal
from crystalformer_rl.errors import InputError
from crystalformer_rl.tables.discovery_columns import EVALUATED


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
    assert table["status"].tolist().count("unreadable") == 4
    words = [str(warning.message) for warning in told]
    for part in ("broken.cif", "missing.cif does not exist", "disordered", "NoneType, not a crystal"):
        assert any(part in sentence for sentence in words), part
    assert len(started) == 1, "one worker, which loads its potential once"
    assert "torch" not in sys.modules or Path(sys.argv[0]).name == "__main__.py"

    # Equal crystals in different clothes are told apart from none but each other.
    by_id = table.set_index("id")
    assert by_id.loc["salt0", "duplicate_of"] == "structure-0"
    assert by_id.loc["POSCAR", "duplicate_of"] == "structure-0"
    assert table.attrs["metrics"]["n"] == 20
    assert table.attrs["units"]["e_above_hull"] == "eV/atom"

    # The same worker answers the next questions; the tables lead back to structures.
    again = cf.relax([rock_salt("Mg", "O", 4.3)], progress=False)
    assert again["converged"].tolist() == [True]
    assert len(started) == 1
    structures = cf.to_structures(table)
    assert [s is None for s in structures] == [status == "unreadable" for status in table["status"]]
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


def test_rooms_of_those_names_stay_modules() -> None:
    import crystalformer_rl.hull.stability as stability
    from crystalformer_rl import finetune, hull, properties

    assert hull.stability is stability
    assert all(callable(room) for room in (finetune, hull, properties))


def test_phase_diagram_is_pymatgens() -> None:
    diagram = cf.phase_diagram("Li-O")
    assert {"Li2O", "Li2O2"} <= {entry.composition.reduced_formula for entry in diagram.stable_entries}
    assert PDPlotter(diagram, backend="matplotlib") is not None
    with pytest.raises(InputError, match="'Xx' in 'Xx-O' is not an element symbol"):
        cf.phase_diagram("Xx-O")


def test_one_structure_alone_and_cells_without_volume() -> None:
    assert crystals_table(bulk("Si")).num_rows == crystals_table(rock_salt("Na", "Cl", 5.6)).num_rows == 1
    flat = crystals_table([Atoms("H", cell=[3, 3, 0], pbc=True)])
    assert flat.column("status").to_pylist() == ["bad_lattice"]
    with pytest.raises(InputError, match="no crystals are given"):
        crystals_table([])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        twice = crystals_table([bulk("Si"), bulk("Si")])
    assert twice.column("id").to_pylist() == ["structure-0", "structure-1"]
