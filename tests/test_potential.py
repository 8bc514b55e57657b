"""Potentials against the packages they come from, against the laws of physics, and against bad crystals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from potential_examples import (
    from_parameters,
    lonely_atom,
    monoclinic,
    off_minimum,
    perovskite,
    quartz,
    rock_salt,
    rutile,
    two_close_atoms,
)

from crystalformer_rl.crystal.distances import shortest_distance
from crystalformer_rl.crystal.structure import Crystal, crystals_from_table
from crystalformer_rl.crystal.tokens import decode, primitive
from crystalformer_rl.errors import InputError
from crystalformer_rl.potential import load
from crystalformer_rl.potential.contract import measure_laws
from crystalformer_rl.potential.graph import GraphError, crystal_graph
from crystalformer_rl.potential.protocol import EV_PER_A3_IN_GPA, Evaluation, Potential, screen_distances
from crystalformer_rl.reference.identity import Corrections, Functional, PotentialIdentity
from crystalformer_rl.stages.check_potential import check_potential
from crystalformer_rl.tables.status import STATUSES

OFF_MINIMUM = [off_minimum(primitive(s), k) for k, s in enumerate((rock_salt(), rutile(), perovskite(), quartz()))]


@pytest.fixture(scope="session")
def mace_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small MACE model with random weights, saved as checkpoints are."""
    import torch

    with torch.serialization.safe_globals([slice]):  # for e3nn's file of constants
        from e3nn import o3
    from mace import modules

    torch.manual_seed(0)
    numbers = [8, 11, 14, 17, 22, 38, 40]
    model = modules.ScaleShiftMACE(
        r_max=4.0,
        num_bessel=6,
        num_polynomial_cutoff=5,
        max_ell=2,
        interaction_cls=modules.interaction_classes["RealAgnosticResidualInteractionBlock"],
        interaction_cls_first=modules.interaction_classes["RealAgnosticInteractionBlock"],
        num_interactions=2,
        num_elements=len(numbers),
        hidden_irreps=o3.Irreps("8x0e + 8x1o"),
        MLP_irreps=o3.Irreps("8x0e"),
        gate=torch.nn.functional.silu,
        atomic_energies=np.linspace(-5, -1, len(numbers)),
        avg_num_neighbors=12.0,
        atomic_numbers=numbers,
        correlation=2,
        atomic_inter_scale=1.0,
        atomic_inter_shift=0.0,
    )
    path = tmp_path_factory.mktemp("mace") / "small.model"
    torch.save(model, path)
    return path


def energies(potential: Potential, crystals: list[Crystal], *, forces: bool = False) -> list[Evaluation]:
    outcomes = potential.evaluate(crystals, forces=forces)
    assert all(isinstance(o, Evaluation) for o in outcomes), outcomes
    return [o for o in outcomes if isinstance(o, Evaluation)]


# --- CHGNet against its own package -----------------------------------------


@pytest.mark.parametrize(("name", "version"), [("chgnet", "0.3.0"), ("chgnet-r2scan", "r2scan")])
def test_chgnet_agrees_with_the_package(name: str, version: str) -> None:
    import torch
    from chgnet.model import CHGNet
    from pymatgen.core import Structure

    package = CHGNet.load(model_name=version, use_device="cpu", verbose=False)
    structures = [Structure(c.lattice, c.atomic_numbers.tolist(), c.frac_coords) for c in OFF_MINIMUM]
    expected = package.predict_structure(structures, task="efsm", return_crystal_feas=True, return_atom_feas=True)
    potential = load(name)
    for crystal, theirs, ours in zip(OFF_MINIMUM, expected, energies(potential, OFF_MINIMUM, forces=True), strict=True):
        assert ours.energy == pytest.approx(float(theirs["e"]), abs=2e-5)
        np.testing.assert_allclose(ours.forces, theirs["f"], atol=2e-3)
        assert ours.stress is not None
        symmetric = 0.5 * (theirs["s"] + theirs["s"].T) / EV_PER_A3_IN_GPA
        np.testing.assert_allclose(ours.stress, symmetric, atol=2e-5)
        embedding = potential.embed([crystal])[0]
        # The package sums the features over atoms; we average, so that cells of any size compare.
        np.testing.assert_allclose(embedding[:64], theirs["crystal_fea"] / len(crystal), atol=1e-4)
        np.testing.assert_allclose(embedding[64:128], theirs["atom_fea"].mean(0), atol=1e-4)
        np.testing.assert_allclose(embedding[256:320], theirs["atom_fea"].std(0), atol=1e-4)
        with torch.no_grad():
            sites = package.site_wise(torch.as_tensor(theirs["atom_fea"]))[:, 0].numpy()
        np.testing.assert_allclose(np.abs(sites), theirs["m"], atol=1e-5)
        np.testing.assert_allclose(embedding[384:], [sites.mean(), sites.std(), sites.max()], atol=1e-4)


def test_chgnet_reproduces_the_single_points_and_formation_energies(chgnet: Potential, shared: Path) -> None:
    table = pq.read_table(shared / "data" / "structures.parquet").slice(0, 13081)
    rows = np.random.default_rng(3).choice(table.num_rows, 60, replace=False)
    table = table.take(np.sort(rows))
    points = pq.read_table(shared / "data" / "chgnet_single_points.parquet")
    known = dict(zip(points["material_id"].to_pylist(), points["chgnet_energy"].to_pylist(), strict=True))
    elemental = json.loads((shared / "data" / "elemental_reference.json").read_text())
    crystals, _ = crystals_from_table(table)
    found = np.array([o.energy for o in energies(chgnet, [c for c in crystals if c is not None])])
    np.testing.assert_allclose(found, [known[i] for i in table["material_id"].to_pylist()], atol=1e-4)

    from crystalformer_rl.crystal.elements import symbol

    zeros = [np.mean([elemental[symbol(z)] for z in c.atomic_numbers]) for c in crystals if c is not None]
    error = np.abs(found - zeros - np.array(table["dft_formation_energy"])).mean()
    assert error < 0.05  # 0.024 over all rows


def test_identities_tell_models_apart(mace_file: Path) -> None:
    identities = [load(name).identity for name in ("chgnet", "chgnet-r2scan", f"mace:{mace_file}")]
    assert len({i.digest for i in identities}) == 3
    assert all(len(i.digest) == 64 and PotentialIdentity.from_record(i.as_record()) == i for i in identities)
    assert [i.functional for i in identities] == [Functional.PBE, Functional.R2SCAN, Functional.UNKNOWN]
    assert [i.corrections for i in identities] == [Corrections.MP2020, Corrections.NONE, Corrections.UNKNOWN]
    assert load("chgnet").identity == identities[0]


# --- the laws -----------------------------------------------------------------


@pytest.mark.parametrize("name", ["chgnet", "chgnet-r2scan", "mace", "ase:calculators:lennard_jones"])
def test_potentials_keep_the_contract(name: str, mace_file: Path) -> None:
    potential = load(f"mace:{mace_file}" if name == "mace" else name)
    assert isinstance(potential, Potential)
    assert measure_laws(potential, OFF_MINIMUM[:3]).broken() == {}


def test_the_contract_finds_each_fault(chgnet: Potential) -> None:
    class Faulty:
        identity = chgnet.identity

        def __init__(self, fault: str) -> None:
            self.fault = fault

        def evaluate(self, crystals: Any, *, forces: bool = True) -> list[Any]:
            out = []
            for crystal, e in zip(crystals, chgnet.evaluate(crystals, forces=forces), strict=True):
                assert isinstance(e, Evaluation)
                energy, f, s = e.energy, e.forces, e.stress
                if self.fault == "extensive":
                    energy *= len(crystal)
                if self.fault == "rotation":
                    energy += 0.01 * crystal.lattice[0, 0]
                if self.fault == "permutation":
                    energy += 0.01 * float(crystal.atomic_numbers[0])
                if self.fault == "batch":
                    energy += 0.01 * len(crystals)
                if self.fault == "energy_only":
                    energy += 0.01 * forces
                if f is not None and self.fault == "forces":
                    f = -f
                if f is not None and self.fault == "nan":
                    f = f * np.nan
                if s is not None and self.fault == "stress":
                    s = -s
                out.append(Evaluation(energy, f, s))
            return out

        def embed(self, crystals: Any) -> np.ndarray:
            return chgnet.embed(crystals)

    for fault in ("extensive", "forces", "stress", "rotation", "permutation", "batch", "energy_only"):
        assert fault in measure_laws(Faulty(fault), OFF_MINIMUM[1:3]).broken()
    assert {"batch", "forces", "rotation"} <= measure_laws(Faulty("nan"), OFF_MINIMUM[1:3]).broken().keys()


@pytest.mark.parametrize(("name", "words"), [("failing", "can evaluate none"), ("pushing", r"breaks laws .*forces by")])
def test_no_run_trusts_a_potential_that_breaks_laws_or_evaluates_nothing(name: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        check_potential(load(f"ase:calculators:{name}"))


def test_mace_agrees_with_its_own_calculator(mace_file: Path) -> None:
    from ase import Atoms
    from mace.calculators import MACECalculator

    calculator = MACECalculator(model_paths=str(mace_file), device="cpu", default_dtype="float32")
    for crystal, ours in zip(OFF_MINIMUM, energies(load(f"mace:{mace_file}"), OFF_MINIMUM, forces=True), strict=True):
        atoms = Atoms(numbers=crystal.atomic_numbers, scaled_positions=crystal.frac_coords, cell=crystal.lattice, pbc=True)
        atoms.calc = calculator
        assert ours.energy == pytest.approx(atoms.get_potential_energy() / len(atoms), abs=1e-5)
        np.testing.assert_allclose(ours.forces, atoms.get_forces(), atol=1e-4)
        np.testing.assert_allclose(ours.stress, atoms.get_stress(voigt=False), atol=1e-5)


def test_embeddings_are_those_of_the_crystal_not_of_its_cell(mace_file: Path) -> None:
    for potential in (load("chgnet"), load(f"mace:{mace_file}")):
        small, large = potential.embed([primitive(rock_salt()), decode(rock_salt())])
        assert small.shape == large.shape
        np.testing.assert_allclose(small, large, atol=2e-4)


# --- neighbour graphs ---------------------------------------------------------


@pytest.mark.parametrize("crystal", [*OFF_MINIMUM, primitive(monoclinic())])
def test_the_graph_has_every_neighbor_once(crystal: Crystal) -> None:
    from pymatgen.core import Structure

    structure = Structure(crystal.lattice, crystal.atomic_numbers.tolist(), crystal.frac_coords)
    graph = crystal_graph(crystal, 5.0, 2.6)
    expected = sorted(np.round(structure.get_neighbor_list(5.0)[3], 6).tolist())
    np.testing.assert_allclose(np.sort(np.tile(graph.lengths, 2)), expected, atol=1e-5)
    assert np.all(graph.lengths[: graph.n_short] < 2.6)
    assert np.all(graph.lengths[graph.n_short :] >= 2.6)
    degree = np.bincount(
        np.concatenate([graph.first[: graph.n_short], graph.second[: graph.n_short]]), minlength=len(crystal)
    )
    assert len(graph.angle_center) == int((degree * (degree - 1)).sum())
    ends = np.stack([graph.first, graph.second], 1)
    for column in range(2):
        # The centre of an angle is the end of both its bonds that the signs name.
        end = np.where(graph.angle_signs[:, column] > 0, 0, 1)
        assert np.array_equal(ends[graph.angle_bonds[:, column], end], graph.angle_center)


def test_neighbors_at_the_cutoff_come_in_pairs() -> None:
    # All neighbours of a shell lie exactly at the cutoff, where rounding could keep a pair and lose its reverse.
    crystal = Crystal(np.array([11]), np.array([[0.1, 0.2, 0.3]]), np.eye(3) * 3.0)
    graph = crystal_graph(crystal, 6.0)
    assert len(graph.first) in (13, 16)


def test_a_nearly_flat_cell_does_not_start_an_endless_search() -> None:
    flat = Crystal(np.array([11] * 2), np.array([[0, 0, 0], [0.5, 0.5, 0.5]]), np.diag([900.0, 900.0, 1e-5]))
    with pytest.raises(GraphError):
        crystal_graph(flat, 6.0)


def test_an_oblique_cell_has_the_neighbors_of_the_plain_one(chgnet: Potential, mace_file: Path) -> None:
    change = np.array([[1, 0, 0], [7, 1, 0], [-5, 11, 1]])
    crystal = OFF_MINIMUM[0]
    oblique = Crystal(crystal.atomic_numbers, crystal.frac_coords @ np.linalg.inv(change), change @ crystal.lattice)
    for potential in (chgnet, load(f"mace:{mace_file}")):
        plain, other = energies(potential, [crystal, oblique], forces=True)
        assert other.energy == pytest.approx(plain.energy, abs=1e-6)
        assert other.forces == pytest.approx(plain.forces, abs=1e-4)
        assert other.stress == pytest.approx(plain.stress, abs=1e-5)
    pair = Crystal(np.array([11, 17]), np.array([[0, 0, 0], [0.05, 0, 0]]), np.eye(3) * 4.0)
    hidden = Crystal(pair.atomic_numbers, pair.frac_coords @ np.linalg.inv(change), change @ pair.lattice)
    assert shortest_distance(hidden) == pytest.approx(0.2)
    assert screen_distances(hidden) == "overlapping_atoms"


def test_distances_of_a_large_cell_need_little_memory() -> None:
    import tracemalloc

    places = np.stack(np.meshgrid(*[np.arange(8)] * 3, indexing="ij"), -1).reshape(-1, 3) / 8
    tracemalloc.start()
    assert shortest_distance(Crystal(np.full(512, 29), places, np.eye(3) * 20.0)) == pytest.approx(2.5)
    assert tracemalloc.get_traced_memory()[1] < 50e6
    tracemalloc.stop()


# --- crystals that break ------------------------------------------------------


def broken() -> dict[str, Crystal]:
    good = primitive(rock_salt())
    crowd = np.random.default_rng(0).random((60, 3)) * 0.05
    return {
        "overlapping_atoms": two_close_atoms(),
        "isolated_atoms": lonely_atom(),
        "unsupported_element": Crystal(np.array([118, 17]), good.frac_coords, good.lattice),
        "bad_coordinates": Crystal(good.atomic_numbers, good.frac_coords * np.nan, good.lattice),
        "bad_lattice": Crystal(good.atomic_numbers, good.frac_coords, good.lattice * 0),
        "too_large": Crystal(np.full(300, 11), np.random.default_rng(1).random((300, 3)), np.eye(3) * 40),
        "empty_crystal": Crystal(np.zeros(0, int), np.zeros((0, 3)), np.eye(3)),
        "bad_lattice ": Crystal(good.atomic_numbers, good.frac_coords, np.eye(3) * 1e6),
        "overlapping_atoms ": Crystal(np.full(60, 11), crowd, np.eye(3) * 4.0),
        "overlapping_atoms  ": from_parameters([11, 17], [[0, 0, 0], [0.5, 0.5, 0.5]], (1.2, 1.2, 1.2, 90, 90, 90)),
    }


@pytest.mark.parametrize("kind", ["chgnet", "mace"])
def test_broken_crystals_get_their_status_and_leave_the_others_alone(kind: str, mace_file: Path) -> None:
    potential = load("chgnet" if kind == "chgnet" else f"mace:{mace_file}")
    good = [primitive(rock_salt()), primitive(quartz())]
    alone = energies(potential, good, forces=True)
    cases = broken()
    outcomes = potential.evaluate([good[0], *cases.values(), good[1]], forces=True)
    assert list(outcomes[1:-1]) == [name.strip() for name in cases]
    assert {o for o in outcomes if isinstance(o, str)} <= set(STATUSES)
    for found, expected in zip((outcomes[0], outcomes[-1]), alone, strict=True):
        assert isinstance(found, Evaluation)
        assert found.energy == pytest.approx(expected.energy, abs=2e-6)
        np.testing.assert_allclose(found.forces, expected.forces, atol=2e-5)
    embedded = potential.embed([good[0], cases["isolated_atoms"], good[1]])
    assert np.isnan(embedded[1]).all()
    assert np.isfinite(embedded[[0, 2]]).all()


def test_batches_of_any_size_give_the_same(chgnet: Potential) -> None:
    from crystalformer_rl.potential.chgnet import CHGNet

    one_by_one = energies(CHGNet(rows=1), OFF_MINIMUM, forces=True)
    for a, b in zip(energies(chgnet, OFF_MINIMUM, forces=True), one_by_one, strict=True):
        assert a.energy == pytest.approx(b.energy, abs=2e-6)
        np.testing.assert_allclose(a.forces, b.forces, atol=5e-5)


def test_the_same_call_gives_the_same_bits(chgnet: Potential) -> None:
    first, second = (energies(chgnet, OFF_MINIMUM, forces=True) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        assert a.energy == b.energy
        assert np.array_equal(a.forces, b.forces)  # type: ignore[arg-type]


# --- names --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("chgnut", "is not a potential"),
        ("mace:", "is not a potential"),
        ("mace:/nowhere/x.model", "does not exist"),
        ("ase:ase.calculators.lj", "import path"),
        ("ase:ase.calculators.nothing:LJ", "cannot import"),
        ("ase:ase.calculators.lj:Nothing", "no class"),
        ("ase:builtins:dict", "not an ASE calculator"),
    ],
)
def test_wrong_names_are_refused(name: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        load(name)


def test_a_file_that_is_no_mace_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.model"
    path.write_bytes(b"not a model")
    with pytest.raises(InputError, match="cannot be loaded"):
        load(f"mace:{path}")


def test_a_file_of_any_kind_is_no_mace_model(tmp_path: Path) -> None:
    path = tmp_path / "x.model"
    path.write_bytes(b"\x80\x02K\x01K\x02R.")  # a pickle that calls a number
    with pytest.raises(InputError, match="cannot be loaded"):
        load(f"mace:{path}")


def test_whatever_a_calculator_raises_is_the_status_of_its_crystal(caplog: pytest.LogCaptureFixture) -> None:
    potential = load("ase:calculators:failing_for_salt")
    salt, other = primitive(rock_salt()), primitive(rutile())
    # twice: the second salt must not be taken up where the first one broke down
    outcomes = potential.evaluate([other, salt, primitive(rock_salt(5.6)), other])
    assert outcomes[1:3] == ["potential_failed"] * 2
    assert [o.energy for o in outcomes if isinstance(o, Evaluation)] == [-1.0, -1.0]
    assert [record.getMessage() for record in caplog.records] == [
        "ase:calculators:failing_for_salt cannot evaluate a crystal (AssertionError: no parameters for chlorine)"
    ]
    again = load("ase:calculators:failing_for_salt")
    assert again.identity == potential.identity  # though its object lies elsewhere
    with pytest.raises(InputError, match="PROGRAM is not set"):
        load("ase:calculators:without_settings")


def test_a_calculator_without_forces_is_refused() -> None:
    potential = load("ase:calculators:without_forces")
    assert energies(potential, [primitive(rock_salt())])[0].energy == -0.5
    with pytest.raises(InputError, match="forces or stress"):
        potential.evaluate([primitive(rock_salt())], forces=True)


# --- memory -------------------------------------------------------------------


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_batches_that_exhaust_the_memory_are_halved(
    error: Exception, chgnet: Potential, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch of more than two crystals, and rutile even alone, is too much."""
    from crystalformer_rl.potential import chgnet as module

    crystals = [primitive(s) for s in (rock_salt(), rutile(), quartz(), perovskite(), rock_salt(5.6))]
    expected = energies(chgnet, crystals, forces=True)
    original, sizes = module.CHGNet._evaluate_batch, []

    def hungry(self: Any, batch: Any, forces: bool) -> list[Any]:
        sizes.append(len(batch.counts))
        if len(batch.counts) > 2 or (22 in batch.numbers and 38 not in batch.numbers):
            raise error
        return original(self, batch, forces)

    monkeypatch.setattr(module.CHGNet, "_evaluate_batch", hungry)
    outcomes = chgnet.evaluate(crystals, forces=True)
    assert sizes[0] == 5
    assert outcomes[1] == "out_of_memory"
    for k in (0, 2, 3, 4):
        found = outcomes[k]
        assert isinstance(found, Evaluation)
        assert found.energy == pytest.approx(expected[k].energy, abs=2e-6)


def test_other_errors_of_a_batch_are_not_swallowed(chgnet: Potential, monkeypatch: pytest.MonkeyPatch) -> None:
    from crystalformer_rl.potential import chgnet as module

    def broken_code(*_: Any) -> list[Any]:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(module.CHGNet, "_evaluate_batch", broken_code)
    with pytest.raises(RuntimeError, match="shapes"):
        chgnet.evaluate([primitive(rock_salt())])


# --- the command --------------------------------------------------------------


def test_the_command_counts_what_a_small_reference_has(tmp_path: Path) -> None:
    import pyarrow as pa
    from click.testing import CliRunner

    from crystalformer_rl.cli import check_reference as check
    from crystalformer_rl.cli import reference
    from crystalformer_rl.crystal.structure import crystal_columns

    columns = crystal_columns([primitive(rock_salt()), primitive(rutile())])
    strange = crystal_columns([primitive(rock_salt())]) | {"atomic_numbers": [[119, 17]]}
    rows = {name: [*values, *strange[name]] for name, values in columns.items()}
    above = pa.array([0.0] * 3, pa.float64())
    pq.write_table(
        pa.table(rows | {"id": ["salt", "rutile", "strange"], "dft_e_above_hull": above}), tmp_path / "in.parquet"
    )
    (tmp_path / "elements.json").write_text(json.dumps(dict.fromkeys(("Na", "Cl", "Ti", "O"), -1.0)))
    calculator, made = ["--potential", "ase:calculators:lennard_jones"], str(tmp_path / "reference.parquet")
    arguments = [str(tmp_path / "in.parquet"), "--elemental-energies", str(tmp_path / "elements.json"), *calculator]
    run = CliRunner().invoke(
        reference.command, [*arguments, "--max-evaluations", "1", "--out", made], catch_exceptions=False
    )
    assert "2 ok, 1 unknown_element" in run.output
    run = CliRunner().invoke(check.command, ["--reference", made, *calculator, "--json"], catch_exceptions=False)
    assert json.loads(run.stdout)["entries"] == 2
