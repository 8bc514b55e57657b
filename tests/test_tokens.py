"""Crystals to tokens and back, and the readers of crystals."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from policy_examples import examples, rock_salt, rutile, same_sites
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Structure

from crystalformer_rl.cli import cli
from crystalformer_rl.crystal.encode import EncodeError, encode, symmetrize
from crystalformer_rl.crystal.structure import Crystal, crystal_columns, crystals_from_table
from crystalformer_rl.crystal.tokens import decode, primitive, sites_from_table
from crystalformer_rl.errors import InputError
from crystalformer_rl.reading.inputs import read_crystals
from crystalformer_rl.stages.tokenize import within_limits
from crystalformer_rl.tables.column import make_table
from crystalformer_rl.tables.crystal_columns import CRYSTALS, STATUS
from crystalformer_rl.tables.parquet import read_table, write_table


def as_structure(crystal: Crystal) -> Structure:
    return Structure(crystal.lattice, crystal.atomic_numbers, crystal.frac_coords)


def sample_of(table, n: int, seed: int = 0):
    return table.take(np.random.default_rng(seed).choice(table.num_rows, n, replace=False))


@pytest.mark.parametrize("sites", examples())
def test_examples_come_back(sites):
    assert same_sites(symmetrize(decode(sites)), sites) or StructureMatcher(scale=False).fit(
        as_structure(decode(symmetrize(decode(sites)))), as_structure(decode(sites))
    )
    assert as_structure(primitive(sites)).volume == pytest.approx(
        as_structure(decode(sites)).get_primitive_structure().volume, rel=1e-6
    )


def test_real_crystals_come_back(real_crystals):
    """Decode(encode(x)) is the same crystal, in the conventional and in the primitive cell."""
    crystals, statuses = crystals_from_table(sample_of(real_crystals, 120))
    assert set(statuses) == {"ok"}
    matcher = StructureMatcher(ltol=0.02, stol=0.05, angle_tol=0.5, scale=False)
    encoded = encode(crystals)
    assert sum(s is not None for s, _ in encoded) > 100
    for crystal, (sites, status) in zip(crystals, encoded, strict=True):
        if sites is None:
            assert status == "too_many_sites"
            continue
        assert matcher.fit(as_structure(crystal), as_structure(decode(sites)))
        assert len(primitive(sites)) == len(as_structure(crystal).get_primitive_structure(0.01))


def test_space_group_agrees_with_spglib(real_crystals):
    from spglib import get_symmetry_dataset

    crystals, _ = crystals_from_table(sample_of(real_crystals, 100, seed=1))
    agree = 0
    for crystal in crystals:
        found = get_symmetry_dataset((crystal.lattice, crystal.frac_coords, crystal.atomic_numbers), 0.01)
        agree += symmetrize(crystal).space_group == found.number
    assert agree >= 98


def test_published_tokens(shared):
    """The tokens of the published code: same space group, same lattice, on at least 99 of 100."""
    stored = np.load(shared / "parity" / "tokens.npz")
    table = pq.read_table(shared / "data" / "structures.parquet")
    place = {name: i for i, name in enumerate(table["material_id"].to_pylist())}
    crystals, _ = crystals_from_table(table.take([place[name] for name in stored["ids"]]))
    same = 0
    for (sites, _), g, l in zip(encode(crystals), stored["G"], stored["L"], strict=True):
        lengths = sites.lattice_parameters[:3] / sites.n_atoms ** (1 / 3)
        ours = np.concatenate([lengths, np.radians(sites.lattice_parameters[3:])])
        same += sites.space_group == g and np.abs(ours - l).max() < 2e-3
    assert same >= 396


def test_encoding_does_not_depend_on_the_description():
    """Another origin, order of atoms and cell give the same crystal's tokens."""
    matcher = StructureMatcher(ltol=0.01, stol=0.02, scale=False)
    for sites in examples():
        crystal = decode(sites)
        shifted = Crystal(
            crystal.atomic_numbers[::-1], crystal.frac_coords[::-1] + np.array([0.13, 0.41, 0.77]), crystal.lattice
        )
        doubled = as_structure(crystal).make_supercell([1, 1, 2], in_place=False)
        other = Crystal(np.array(doubled.atomic_numbers), doubled.frac_coords, doubled.lattice.matrix)
        for described in (shifted, other):
            again = symmetrize(described)
            assert again.space_group == sites.space_group
            assert again.n_atoms == sites.n_atoms
            assert matcher.fit(as_structure(decode(again)), as_structure(crystal))


def test_failures_have_names():
    many = Crystal(np.full(25, 6), np.random.default_rng(0).random((25, 3)), np.diag([9.0, 10.0, 11.0]))
    assert encode([many, None])[0] == (None, "too_many_sites")
    assert encode([None])[0] == (None, "upstream_failed")
    with pytest.raises(EncodeError) as caught:
        symmetrize(Crystal(np.array([11]), np.zeros((1, 3)), np.zeros((3, 3))))
    assert caught.value.status == "bad_lattice"


def write_crystals(path, crystals, **more):
    columns = {"id": [f"c{i}" for i in range(len(crystals))], **crystal_columns(crystals), **more}
    write_table(path, make_table((*CRYSTALS, STATUS) if "status" in more else CRYSTALS, columns), {})


def test_readers_agree(tmp_path):
    """One crystal read from Parquet, CIF, a folder, CSV and an ASE format is the same crystal."""
    from ase import Atoms
    from ase.io import write

    crystal = decode(rutile())
    write_crystals(tmp_path / "c.parquet", [crystal])
    text = as_structure(crystal).to(fmt="cif")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "rutile.cif").write_text(text)
    (tmp_path / "folder" / "broken.cif").write_text("not a CIF at all")
    (tmp_path / "c.csv").write_text('material_id,cif\nmine,"' + text.replace('"', "'") + '"\n')
    write(
        tmp_path / "c.xyz",
        Atoms(crystal.atomic_numbers, cell=crystal.lattice, scaled_positions=crystal.frac_coords, pbc=True),
    )
    sources = ["c.parquet", "folder", "folder/rutile.cif", "c.csv", "c.xyz"]
    for source in sources:
        table = read_crystals([tmp_path / source])
        found, statuses = crystals_from_table(table)
        good = [c for c, s in zip(found, statuses, strict=True) if s == "ok"]
        assert len(good) == 1
        assert StructureMatcher(scale=False).fit(as_structure(good[0]), as_structure(crystal))
        assert table.num_rows == (2 if source == "folder" else 1)
    assert read_crystals([tmp_path / "folder"]).column("status").to_pylist() == ["unreadable", "ok"]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("none.parquet", None, "does not exist"),
        ("broken.parquet", b"PAR1 and no more", "not a readable Parquet"),
        ("broken.cif", b"data_\nnothing", "no valid CIF"),
        ("table.csv", b"a,b\n1,2\n", "no column 'cif'"),
        ("empty.csv", b"material_id,cif\n", "no rows"),
        ("what.xyz", b"?", "where a frame's number of atoms should stand"),
    ],
)
def test_bad_files_are_named(tmp_path, name, content, says):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=says) as caught:
        read_crystals([tmp_path / name])
    assert name in str(caught.value)


def test_tokenize_keeps_every_row(tmp_path):
    broken = Crystal(np.array([11, 17]), np.array([[0, 0, 0], [np.nan, 0, 0]]), np.eye(3) * 5)
    write_crystals(tmp_path / "in.parquet", [decode(rock_salt()), broken, None, decode(rutile())])
    result = CliRunner().invoke(
        cli, ["tokenize", str(tmp_path / "in.parquet"), "--out", str(tmp_path / "out.parquet"), "--json"]
    )
    assert result.exit_code == 0, result.output
    table = read_table(tmp_path / "out.parquet")
    assert table.column("status").to_pylist() == ["ok", "bad_coordinates", "empty_crystal", "ok"]
    sites = sites_from_table(table, "out.parquet")
    assert [s is None for s in sites] == [False, True, True, False]
    assert sites[0].space_group == 225


def test_limits_leave_out_what_is_large_or_unstable():
    small = Crystal(np.array([11, 17]), np.array([[0, 0, 0], [0.5, 0.5, 0.5]]), 4.0 * np.eye(3))
    large = Crystal(np.array([11, 17] * 4), np.random.default_rng(0).random((8, 3)), 8.0 * np.eye(3))
    columns = {**crystal_columns([small, large]), "id": ["small", "large"]}
    table = make_table(CRYSTALS, columns).append_column("dft_e_above_hull", [[0.2, 0.0]])
    assert within_limits(table, None, None).num_rows == 2
    assert within_limits(table, 2, None).column("id").to_pylist() == ["small"]
    assert within_limits(table, None, 0.1).column("id").to_pylist() == ["large"]
    with pytest.raises(InputError, match="no crystal is within the limits"):
        within_limits(table, 2, 0.1)
    with pytest.raises(InputError, match="needs a column e_above_hull or dft_e_above_hull"):
        within_limits(make_table(CRYSTALS, columns), None, 0.1)
