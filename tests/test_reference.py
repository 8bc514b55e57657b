"""Building a reference: roles, relaxed energies, resuming, and the refusal of other potentials' energies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from potential_examples import lonely_atom, perovskite, quartz, rock_salt, rutile

from crystalformer_rl.cli.reference import command
from crystalformer_rl.crystal.split import held_out
from crystalformer_rl.crystal.structure import Crystal, crystal_columns, crystals_from_table
from crystalformer_rl.crystal.tokens import primitive, sites_from_table
from crystalformer_rl.errors import InputError
from crystalformer_rl.potential import load, shards
from crystalformer_rl.potential.protocol import Evaluation
from crystalformer_rl.potential.recompute import self_test
from crystalformer_rl.reference.file import write_reference
from crystalformer_rl.reference.identity import PotentialIdentity
from crystalformer_rl.tables.column import make_table
from crystalformer_rl.tables.crystal_columns import CRYSTALS
from crystalformer_rl.tables.energy_columns import REFERENCE
from crystalformer_rl.tables.provenance import read_provenance
from crystalformer_rl.tables.status import STATUSES

ELEMENTAL = {"Na": -1.3, "Cl": -1.8, "Ti": -7.8, "O": -4.9, "Sr": -1.7, "Si": -5.4, "Ar": -0.1}
ROWS: list[tuple[str, Crystal, float | None]] = [
    ("salt", primitive(rock_salt()), 0.0),
    ("rutile", primitive(rutile()), 0.02),
    ("perovskite", primitive(perovskite()), 0.1),
    ("quartz", primitive(quartz()), 0.3),
    ("unlabelled", primitive(rock_salt(5.9)), None),
    ("argon", lonely_atom(), 0.0),
    ("lutetium", Crystal(np.array([71, 17]), primitive(rock_salt()).frac_coords, primitive(rock_salt()).lattice), 0.0),
]


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    """A folder with crystals.parquet, elements.json and points.parquet."""
    names, crystals, above = zip(*ROWS, strict=True)
    table = make_table(CRYSTALS, crystal_columns(crystals) | {"id": list(names)})
    table = table.append_column("source", pa.array(["made_up"] * len(names)))
    for name, values in (("dft_e_above_hull", above), ("dft_formation_energy", (-1.0,) * len(names))):
        table = table.append_column(name, pa.array(list(values), pa.float64()))
    pq.write_table(table, tmp_path / "crystals.parquet")
    (tmp_path / "elements.json").write_text(json.dumps(ELEMENTAL))
    found = load("chgnet").evaluate(crystals, forces=False)
    points = [o.energy if isinstance(o, Evaluation) else None for o in found]
    pq.write_table(pa.table({"material_id": list(names), "chgnet_energy": points}), tmp_path / "points.parquet")
    return tmp_path


def build(folder: Path, *more: str, out: str = "reference.parquet") -> Result:
    arguments = [str(folder / "crystals.parquet"), "--elemental-energies", str(folder / "elements.json")]
    return CliRunner().invoke(command, [*arguments, "--out", str(folder / out), *more])


def rows_by_id(path: Path) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in pq.read_table(path).to_pylist()}


def test_roles_energies_and_statuses(inputs: Path) -> None:
    run = build(inputs, "--json")
    assert run.exit_code == 0, run.output
    path = inputs / "reference.parquet"
    assert pq.read_table(path).column_names == [c.name for c in REFERENCE]
    rows = rows_by_id(path)
    assert list(rows) == [name for name, *_ in ROWS]
    for name in ("salt", "rutile", "perovskite"):
        assert rows[name]["role"] == ("held_out" if held_out(rows[name]["formula"]) else "pretraining")
        assert rows[name]["status"] == "ok"
        assert rows[name]["evaluations"] <= 5
    for name in ("quartz", "unlabelled"):
        assert (rows[name]["role"], rows[name]["status"], rows[name]["evaluations"]) == ("hull_only", "ok", 1)
        assert rows[name]["lattice"] is None
        assert rows[name]["wyckoff"] is None
    assert rows["argon"]["status"] == "isolated_atoms"
    assert rows["argon"]["energy"] is None
    assert rows["lutetium"]["status"] == "no_reference_energy"
    assert all(row["status"] in STATUSES for row in rows.values())

    by_name = {name: crystal for name, crystal, _ in ROWS}
    single = load("chgnet").evaluate([by_name["rutile"], by_name["quartz"]], forces=False)
    assert isinstance(single[0], Evaluation)
    assert isinstance(single[1], Evaluation)
    assert rows["rutile"]["energy"] < single[0].energy - 0.005
    assert rows["quartz"]["energy"] == pytest.approx(single[1].energy, abs=1e-5)
    assert rows["rutile"]["formation_energy"] == pytest.approx(
        rows["rutile"]["energy"] - (ELEMENTAL["Ti"] + 2 * ELEMENTAL["O"]) / 3, abs=2e-6
    )

    record = read_provenance(path)
    assert PotentialIdentity.from_record(record["potential"]) == load("chgnet").identity
    assert record["elemental_energies"] == ELEMENTAL
    assert set(record["inputs"]) == {"crystals.parquet", "elements.json"}

    sites = sites_from_table(pq.read_table(path), "reference")
    crystals, _ = crystals_from_table(pq.read_table(path))
    for site, crystal, row in zip(sites, crystals, rows.values(), strict=True):
        if site is not None:
            assert crystal is not None
            np.testing.assert_allclose(primitive(site).lattice, crystal.lattice, atol=2e-5)
            assert len(crystal) == row["n_atoms"]


def test_single_points_are_taken_and_checked(inputs: Path) -> None:
    points = inputs / "points.parquet"
    assert build(inputs, "--single-points", str(points)).exit_code == 0
    rows = rows_by_id(inputs / "reference.parquet")
    given = dict(zip(*pq.read_table(points).to_pydict().values(), strict=True))
    assert rows["quartz"]["energy"] == pytest.approx(given["quartz"], abs=1e-6)
    assert rows["quartz"]["evaluations"] == 0
    assert "1 of them" not in json.dumps(read_provenance(inputs / "reference.parquet")["energies"])
    assert "2 of them" in json.dumps(read_provenance(inputs / "reference.parquet")["energies"])

    shifted = [None if e is None else e + 0.01 for e in given.values()]
    pq.write_table(pa.table({"material_id": list(given), "chgnet_energy": shifted}), points)
    refused = build(inputs, "--single-points", str(points), out="other.parquet")
    assert isinstance(refused.exception, InputError)
    assert "10.0 meV/atom" in str(refused.exception)
    assert not (inputs / "other.parquet").exists()


def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(inputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SHARD", 2)
    assert build(inputs, out="whole.parquet").exit_code == 0
    real, count = shards._compute, []

    def dies_at_the_second(*arguments: Any) -> pa.Table:
        count.append(1)
        if len(count) == 2:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(shards, "_compute", dies_at_the_second)
    work = ["--work", str(inputs / "work")]
    assert build(inputs, *work).exit_code != 0
    assert not (inputs / "reference.parquet").exists()
    assert len(list((inputs / "work").glob("*.parquet"))) == 1

    count.append(1)
    before = len(count)
    assert build(inputs, *work).exit_code == 0
    computed = len(count) - before
    assert computed == len(list((inputs / "work").glob("*.parquet"))) - 1
    assert (inputs / "reference.parquet").read_bytes() == (inputs / "whole.parquet").read_bytes()

    # Other settings make other shards: nothing stale is taken.
    assert build(inputs, *work, "--max-evaluations", "1", out="other.parquet").exit_code == 0
    assert rows_by_id(inputs / "other.parquet")["rutile"]["evaluations"] == 1


def test_several_processes_give_the_same_bytes(inputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SHARD", 3)
    assert build(inputs, out="one.parquet").exit_code == 0
    assert build(inputs, "--processes", "2", out="two.parquet").exit_code == 0
    assert (inputs / "one.parquet").read_bytes() == (inputs / "two.parquet").read_bytes()


def test_the_self_test_knows_its_own_energies_and_refuses_others(inputs: Path) -> None:
    assert build(inputs).exit_code == 0
    path, chgnet = inputs / "reference.parquet", load("chgnet")
    assert self_test(path, chgnet) < 1e-4
    with pytest.raises(InputError, match=r"holds energies of CHGNet r2scan.* but .*CHGNet 0.3.0"):
        self_test(path, load("chgnet-r2scan"))

    table, made_by = pq.read_table(path), read_provenance(path)
    index = table.column_names.index("energy")
    energies = [None if e is None else e + 0.003 for e in table.column(index).to_pylist()]
    tampered = table.set_column(index, table.schema.field(index), pa.array(energies, pa.float64()))
    write_reference(inputs / "tampered.parquet", tampered, made_by)
    with pytest.raises(InputError, match=r"3\.0 meV/atom"):
        self_test(inputs / "tampered.parquet", chgnet)
    write_reference(inputs / "nameless.parquet", table, {})
    with pytest.raises(InputError, match="does not say which potential"):
        self_test(inputs / "nameless.parquet", chgnet)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not JSON"),
        ("[]", "no table"),
        ('{"Xx": 1.0}', "Xx"),
        ('{"Na": "low"}', "key 'Na'"),
        ('{"Na": NaN}', "key 'Na'"),
    ],
)
def test_bad_elemental_energies_are_refused(inputs: Path, text: str, words: str) -> None:
    (inputs / "elements.json").write_text(text)
    run = build(inputs)
    assert isinstance(run.exception, InputError)
    assert words in str(run.exception)


def test_the_embedded_reference_is_what_this_potential_says(root: Path) -> None:
    path = root / "resources" / "embedded" / "reference.parquet"
    if not path.is_file():
        pytest.skip("no embedded reference in this checkout")
    assert self_test(path, load("chgnet"), n=16) < 2e-3
