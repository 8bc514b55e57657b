"""Property models: features' invariances, the kernel against scikit-learn, networks against torch, files, tables, the embedded models."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ase import Atoms
from ase.neighborlist import neighbor_list
from click.testing import CliRunner

from crystalformer_rl.crystal.elements import ATOMIC_NUMBERS
from crystalformer_rl.crystal.structure import Crystal, crystal_columns
from crystalformer_rl.errors import InputError
from crystalformer_rl.properties import PropertyModels, check_embedding, properties_table
from crystalformer_rl.properties.accuracy import INTERVAL
from crystalformer_rl.properties.anisotropy import (
    N_TENSORS,
    Anisotropy,
    log_deviators,
    orientation_tensors,
    principal_values,
)
from crystalformer_rl.properties.card import card_text
from crystalformer_rl.properties.dielectric_training import DielectricSet, judged, kernel_of
from crystalformer_rl.properties.distortion import distorted
from crystalformer_rl.properties.element_table import N_ELEMENTS
from crystalformer_rl.properties.element_table import PROPERTIES as ELEMENT_PROPERTIES
from crystalformer_rl.properties.examples import Examples, examples, join, read_labelled
from crystalformer_rl.properties.families import REST, anion_family, cation_family
from crystalformer_rl.properties.feature_cache import crystal_features
from crystalformer_rl.properties.features import (
    Elements,
    composition_features,
    feature_matrix,
    feature_names,
    n_composition_features,
    neighbours,
)
from crystalformer_rl.properties.gap_training import NetworkSettings, stack, train_network
from crystalformer_rl.properties.gaussian_process import GaussianProcess, Kernel
from crystalformer_rl.properties.models import METADATA_KEY, dielectric_rows, figure_of_merit, widened
from crystalformer_rl.properties.network import GapEstimate, combine
from crystalformer_rl.properties.pairs import CompositionLabels, paired, read_composition_labels
from crystalformer_rl.properties.seen_formulas import fingerprints, seen
from crystalformer_rl.properties.soft_modes import soft_mode
from crystalformer_rl.properties.textbook import TEXTBOOK
from crystalformer_rl.properties.training import Material, elements, train
from crystalformer_rl.reference.identity import PotentialIdentity
from crystalformer_rl.tables.column import make_table
from crystalformer_rl.tables.crystal_columns import CRYSTALS
from crystalformer_rl.tables.property_columns import PREDICTED, PROPERTIES

ROOT = Path(__file__).resolve().parents[1]
EMBEDDED = ROOT / "resources" / "embedded" / "properties.safetensors"
IDENTITY = PotentialIdentity("fake", "ab" * 32)


def cubic(a: float, sites: dict[tuple[float, float, float], int]) -> Crystal:
    return Crystal(np.array(list(sites.values())), np.array(list(sites)), a * np.eye(3))


FCC = [(0.0, 0.0, 0.0), (0.0, 0.5, 0.5), (0.5, 0.0, 0.5), (0.5, 0.5, 0.0)]


def rock_salt(cation: int = 11, anion: int = 17, a: float = 5.64) -> Crystal:
    return cubic(a, dict.fromkeys(FCC, cation) | {((x + 0.5) % 1, y, z): anion for x, y, z in FCC})


def caesium_chloride(cation: int = 55, anion: int = 17, a: float = 4.12) -> Crystal:
    return cubic(a, {(0, 0, 0): cation, (0.5, 0.5, 0.5): anion})


def perovskite(a: float = 3.9) -> Crystal:
    oxygen = {(0.5, 0.5, 0.0): 8, (0.5, 0.0, 0.5): 8, (0.0, 0.5, 0.5): 8}
    return cubic(a, {(0, 0, 0): 38, (0.5, 0.5, 0.5): 22} | oxygen)


@pytest.fixture(scope="module")
def table() -> Elements:
    pytest.importorskip("pymatgen")
    return elements()


# --- features -----------------------------------------------------------------


def test_elements_are_complete_and_right(table: Elements) -> None:
    assert table.table.shape == (N_ELEMENTS, len(ELEMENT_PROPERTIES))
    assert np.isfinite(table.table).all()

    def of(z: int, *names: str) -> list[float]:
        return [table.table[z - 1, ELEMENT_PROPERTIES.index(name)] for name in names]

    electrons = ("s_electrons", "p_electrons", "d_electrons", "f_electrons")
    assert of(8, *electrons) == [2, 4, 0, 0]
    assert of(26, *electrons) == [2, 0, 6, 0]
    assert of(64, *electrons) == [2, 0, 1, 7]
    assert of(72, *electrons) == [2, 0, 2, 0]
    assert of(82, *electrons) == [2, 2, 0, 0]
    assert of(17, "p_holes", "d_holes", "group", "row") == [1, 0, 17, 3]
    assert of(9, "electronegativity") == pytest.approx([3.98])
    assert table.states[7, 0] == -2


@pytest.mark.parametrize("crystal", [rock_salt(), caesium_chloride(), perovskite()], ids=["NaCl", "CsCl", "SrTiO3"])
def test_features_do_not_depend_on_the_description(table: Elements, crystal: Crystal) -> None:
    expected, names = feature_matrix([crystal], table)
    random = np.random.default_rng(0)
    rotation = np.linalg.qr(random.normal(size=(3, 3)))[0]
    order = random.permutation(len(crystal))
    doubled = np.concatenate([crystal.frac_coords / [2, 1, 1], (crystal.frac_coords + np.array([1, 0, 0])) / [2, 1, 1]])
    sheared = np.array([[1, 0, 0], [1, 1, 0], [0, -1, 1]])
    same = [
        Crystal(crystal.atomic_numbers[order], crystal.frac_coords[order], crystal.lattice),
        Crystal(crystal.atomic_numbers, crystal.frac_coords + np.array([0.3, -4.2, 0.77]), crystal.lattice @ rotation),
        Crystal(np.tile(crystal.atomic_numbers, 2), doubled, crystal.lattice * np.array([[2], [1], [1]])),
        Crystal(crystal.atomic_numbers, crystal.frac_coords @ np.linalg.inv(sheared), sheared @ crystal.lattice),
    ]
    for row in feature_matrix(same, table)[0]:
        assert row == pytest.approx(expected[0], abs=1e-7, rel=1e-7)
    assert names == feature_names(table)
    assert names[: n_composition_features(table)] == list(composition_features(crystal.atomic_numbers, table))


def test_features_say_what_their_names_say(table: Elements) -> None:
    rows, names = feature_matrix([rock_salt(), caesium_chloride(), perovskite()], table)
    value = {name: rows[:, i] for i, name in enumerate(names)}
    assert value["coordination_mean"][:2] == pytest.approx([6, 9.5], rel=0.1)
    assert value["bond_length_mean"][0] == pytest.approx(5.64 / 2, rel=0.01)
    assert value["like_neighbours_max"][[0, 2]] == pytest.approx(0, abs=0.01)
    assert value["polarity_mean"][0] == pytest.approx(3.16 - 0.93, rel=0.05)
    assert value["volume_per_atom"][0] == pytest.approx(5.64**3 / 8)
    assert value["density"][0] == pytest.approx((22.990 + 35.453) / 2 / (5.64**3 / 8), rel=1e-4)
    assert value["fraction_oxygen"] == pytest.approx([0, 0, 0.6])
    assert value["n_elements"].tolist() == [2, 2, 3]


@pytest.mark.parametrize(
    ("numbers", "imbalance", "odd"),
    [
        ([11, 17], 0, 0),
        ([12, 8, 8], 2 / 3, 0),
        ([38, 22, 8, 8, 8], 0, 0),
        ([11, 11, 17], 1 / 3, 1),
        ([26, 26, 8, 8, 8], 0, 0),
    ],
)
def test_charge_balance(table: Elements, numbers: list[int], imbalance: float, odd: int) -> None:
    found = composition_features(np.array(numbers), table)
    assert found["charge_imbalance"] == pytest.approx(imbalance, abs=1e-9)
    assert found["odd_electrons"] == odd


def test_neighbours_agree_with_ase() -> None:
    random = np.random.default_rng(1)
    for n in (1, 3, 6):
        lattice = 4 * np.eye(3) + random.normal(size=(3, 3))
        coords = random.random((n, 3)) * 3 - 1
        first, second, distance = neighbours(Crystal(np.full(n, 14), coords, lattice), 6.0)
        expected = neighbor_list("ijd", Atoms(f"Si{n}", scaled_positions=coords, cell=lattice, pbc=True), 6.0)
        assert sorted(zip(first, second, distance.round(6), strict=True)) == sorted(
            zip(expected[0], expected[1], expected[2].round(6), strict=True)
        )


def test_lonely_atoms_have_features(table: Elements) -> None:
    # a dense cluster and one atom in the middle of the void, further away than the density suggests
    grid = np.stack(np.meshgrid(*[np.arange(5)] * 3), -1).reshape(-1, 3) * 2.0 / 40
    crystal = Crystal(np.array([14] * 125 + [8]), np.vstack([grid, [0.6, 0.6, 0.6]]), 40 * np.eye(3))
    first, _, _ = neighbours(crystal, 3 * (crystal.volume / len(crystal)) ** (1 / 3))
    assert 125 not in first
    assert np.isfinite(feature_matrix([crystal], table)[0]).all()


# --- the Gaussian process -----------------------------------------------------


def test_process_agrees_with_scikit_learn() -> None:
    sklearn = pytest.importorskip("sklearn.gaussian_process")
    from sklearn.gaussian_process.kernels import ConstantKernel, DotProduct, RationalQuadratic

    random = np.random.default_rng(2)
    x, new = random.normal(size=(40, 6)), random.normal(size=(15, 6))
    y = np.sin(x[:, 0]) + 0.3 * x[:, 1]
    kernel = Kernel((6,), (0.7,), 0.9, 0.4)
    noise = 0.2
    process = GaussianProcess(kernel, x, y, noise, np.ones(40))
    oracle = sklearn.GaussianProcessRegressor(
        ConstantKernel(0.9**2) * RationalQuadratic(alpha=1.0, length_scale=np.sqrt(6 / (2 * 0.7)))
        + ConstantKernel(0.4**2 / 6) * DotProduct(sigma_0=1e-9)
        + ConstantKernel(1.0),
        alpha=noise**2 + 1e-6,
        optimizer=None,
    ).fit(x, y - y.mean())
    mean, std = oracle.predict(new, return_std=True)
    ours = process.predict(new)
    assert ours[0] == pytest.approx(mean + y.mean(), abs=1e-8)
    assert ours[1] == pytest.approx(np.sqrt(std**2 + noise**2), abs=1e-8)


def test_kernel_blocks_add_their_distances() -> None:
    random = np.random.default_rng(3)
    a, b = random.normal(size=(4, 5)), random.normal(size=(3, 5))
    kernel = Kernel((2, 3), (0.5, 2.0), 1.0, 0.0)
    expected = [[0.5 * np.mean((u - v)[:2] ** 2) + 2.0 * np.mean((u - v)[2:] ** 2) for v in b] for u in a]
    assert kernel.squared_distance(a, b) == pytest.approx(np.array(expected))
    assert np.diag(kernel(a, a)) == pytest.approx(kernel.variance(a))


def test_outliers_have_little_say_and_far_rows_little_certainty() -> None:
    x = np.linspace(-2, 2, 60)[:, None]
    y = np.sin(2 * x[:, 0])
    y[30] += 5.0
    kernel = Kernel((1,), (1.0,), 1.0, 0.1)
    process = GaussianProcess.fit(kernel, x, y, 0.05)
    mean, std = process.predict(np.array([x[30], [4.9]]))
    assert abs(mean[0] - np.sin(2 * x[30, 0])) < 0.1
    assert process.noise_weights[30] > 100 * np.median(process.noise_weights)
    assert std[1] > 4 * std[0]


# --- the networks -------------------------------------------------------------


def test_networks_in_numpy_are_those_of_torch() -> None:
    torch = pytest.importorskip("torch")
    random = np.random.default_rng(4)
    inputs = random.normal(size=(300, 5)).astype(np.float32)
    gaps = np.maximum(inputs[:, 0] * 2, 0)
    weights = train_network(inputs, gaps, NetworkSettings(hidden=16, epochs=2, batch=64), seed=0)
    again = train_network(inputs, gaps, NetworkSettings(hidden=16, epochs=2, batch=64), seed=0)
    assert all(np.array_equal(a, b) for a, b in zip(weights, again, strict=True))
    hidden = torch.from_numpy(inputs)
    for i in range(0, 6, 2):
        stored = [torch.from_numpy(w.astype(np.float16).astype(np.float32)) for w in weights[i : i + 2]]
        hidden = hidden @ stored[0] + stored[1]
        hidden = torch.nn.functional.silu(hidden) if i < 4 else hidden
    assert stack([weights])(inputs)[0] == pytest.approx(hidden.numpy(), abs=1e-5)


def test_training_a_network_learns() -> None:
    pytest.importorskip("torch")
    random = np.random.default_rng(5)
    inputs = random.normal(size=(3000, 4)).astype(np.float32)
    gaps = np.where(inputs[:, 0] > 0.2, 1.0 + 2 * inputs[:, 0] + inputs[:, 1] ** 2, 0.0)
    weights = train_network(
        inputs[:2500], gaps[:2500], NetworkSettings(hidden=48, epochs=40, batch=256, input_dropout=0.0), seed=1
    )
    estimate = combine(stack([weights])(inputs[2500:]))
    truth = gaps[2500:]
    assert np.mean((estimate.insulator_probability >= 0.5) == (truth > 0)) > 0.95
    assert (
        np.abs(estimate.insulating_gap - truth)[truth > 0].mean()
        < 0.3 * np.abs(truth[truth > 0] - truth[truth > 0].mean()).mean()
    )


def test_reported_deviation_is_that_of_the_mixture() -> None:
    random = np.random.default_rng(6)
    n = 400_000
    for probability in (0.05, 0.4, 0.6, 0.97):
        estimate = GapEstimate(np.array([probability]), np.array([2.0]), np.array([0.3]))
        gap, std = estimate.reported(1.5)
        truth = np.where(random.random(n) < probability, random.normal(2.0, 0.45, n), 0.0)
        assert gap[0] == (2.0 if probability >= 0.5 else 0.0)
        assert std[0] == pytest.approx(np.sqrt(np.mean((truth - gap[0]) ** 2)), rel=0.02)


def test_ensemble_variance_is_within_plus_between() -> None:
    outputs = np.zeros((3, 2, 3))
    outputs[:, 0, 1] = [1.0, 2.0, 3.0]
    outputs[:, 1, 1] = -1.0
    estimate = combine(outputs)
    assert estimate.insulating_gap.tolist() == [2.0, 0.0]
    assert estimate.insulating_std == pytest.approx(np.sqrt([2 + 1, 2]))


def test_deviation_of_the_figure_of_merit() -> None:
    random = np.random.default_rng(7)
    eps, gap = random.normal(5.0, 0.8, 400_000), random.normal(3.0, 0.6, 400_000)
    fom, std = figure_of_merit(np.array([5.0]), np.array([0.8]), np.array([3.0]), np.array([0.6]))
    assert fom[0] == 15.0
    assert std[0] == pytest.approx((eps * gap).std(), rel=0.01)


# --- anisotropy ---------------------------------------------------------------


def hexagonal(c: float) -> Crystal:
    """Wurtzite ZnO with an axis of c (Å)."""
    wurtzite = next(one.crystal for one in TEXTBOOK if one.name == "ZnO")
    return replace(wurtzite, lattice=wurtzite.lattice * np.array([[1], [1], [c / 5.207]]))


def test_orientation_tensors_turn_with_the_crystal_and_keep_its_symmetry(table: Elements) -> None:
    crystal = hexagonal(5.6)
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    turned = replace(crystal, lattice=crystal.lattice @ rotation)
    doubled = Crystal(
        np.tile(crystal.atomic_numbers, 2),
        np.concatenate([crystal.frac_coords / [1, 1, 2], (crystal.frac_coords + np.array([0, 0, 1])) / [1, 1, 2]]),
        crystal.lattice * np.array([[1], [1], [2]]),
    )
    first, second, third, cubic_ = orientation_tensors([crystal, turned, doubled, rock_salt()], table)
    assert first.shape == (N_TENSORS, 3, 3)
    assert second == pytest.approx(rotation.T @ first @ rotation, abs=1e-9)
    assert third == pytest.approx(first, abs=1e-9)
    assert np.abs(cubic_).max() < 1e-9
    assert np.trace(first, axis1=1, axis2=2) == pytest.approx(0, abs=1e-9)
    assert first == pytest.approx(first.transpose(0, 2, 1), abs=1e-9)
    assert first[:, 0, 0] == pytest.approx(first[:, 1, 1], abs=1e-9)  # one axis


def test_anisotropy_learns_what_the_structure_says(table: Elements) -> None:
    crystals = [hexagonal(c) for c in np.linspace(4.6, 5.8, 25)]
    tensors = orientation_tensors(crystals, table)
    inputs = np.linspace(-1, 1, 25)[:, None]
    truth = 0.4 * tensors[:, 0] - 0.2 * tensors[:, 9]
    learned = Anisotropy.fit(Kernel((1,), (0.1,), 1.0, 1.0), inputs[::2], tensors[::2], truth[::2])
    found = learned.deviators(inputs[1::2], tensors[1::2])
    assert np.abs(found - truth[1::2]).max() < 0.15 * np.abs(truth).max()


def test_principal_values_have_the_mean_and_are_those_of_the_tensor() -> None:
    tensors = np.array([np.diag([2.0, 3.0, 10.0]), 4.0 * np.eye(3)])
    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    found = principal_values(np.array([5.0, 4.0]), log_deviators(rotation @ tensors @ rotation.T))
    assert found == pytest.approx(np.array([[2, 3, 10], [4, 4, 4]]))


# --- what is learned from -----------------------------------------------------


def test_families_are_those_of_chemistry() -> None:
    assert [anion_family(f) for f in ("MgO", "LaOF", "GaAs", "Cs2LiI3", "MgZn2")] == [
        "oxides",
        "fluorides",
        "phosphides, arsenides, antimonides",
        "bromides, iodides",
        REST,
    ]
    assert [cation_family(f) for f in ("NaCl", "BaTiO3", "GaAs", "TiO2", "La2O3", "ZnO")] == [
        "alkali",
        "alkaline earth",
        "main group",
        "early transition",
        "rare earth, actinide",
        "late transition",
    ]


def test_formulas_are_recognized_by_fingerprint() -> None:
    known = fingerprints(["NaCl", "MgO", "NaCl"])
    assert len(known) == 2
    assert seen(["MgO", "GaAs", "NaCl"], known).tolist() == [True, False, True]


def test_labels_of_a_composition_go_to_its_only_crystal(tmp_path: Path) -> None:
    crystals = [rock_salt(), caesium_chloride(), rock_salt(12, 8), rock_salt(20, 8), rock_salt(3, 9), rock_salt(19, 35)]
    crystals += [caesium_chloride(19, 35), rock_salt(37, 17)]
    table = crystals_table(crystals, ["ok"] * 8).append_column("source", pa.array(["mp"] * 6 + ["wbm", "mp"]))
    own = pa.array([5.0, None, 4.4, None, None, None, 2.0, 1.0], pa.float64())
    pq.write_table(table.append_column("dft_band_gap", own), tmp_path / "gaps.parquet")
    rows = [
        {"formula": "NaCl", "n_entries": 1, "band_gap": 5.01, "refractive_index": 1.5, "reserved": False},
        {"formula": "CsCl", "n_entries": 2, "band_gap": 5.0, "refractive_index": 1.6, "reserved": False},
        {"formula": "MgO", "n_entries": 1, "band_gap": 3.0, "refractive_index": 1.7, "reserved": False},
        {"formula": "CaO", "n_entries": 1, "band_gap": 0.05, "refractive_index": 9.0, "reserved": False},
        {"formula": "LiF", "n_entries": 1, "band_gap": None, "refractive_index": None, "reserved": True},
        {"formula": "KBr", "n_entries": 1, "band_gap": 4.0, "refractive_index": 1.6, "reserved": False},
        {"formula": "RbCl", "n_entries": 1, "band_gap": None, "refractive_index": None, "reserved": True},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "compositions.parquet")
    known = read_composition_labels(str(tmp_path / "compositions.parquet"))
    assert known.reserved == {"LiF", "RbCl"}
    data = read_labelled(str(tmp_path / "gaps.parquet"), {"dft_band_gap": 0.0}, complete=False)
    found = paired(data, "dft_band_gap", known)
    # CsCl has two entries, LiF and RbCl are reserved, the KBr of another source keeps its own gap
    assert found.formulas == ["NaCl", "MgO", "CaO", "KBr", "KBr"]
    assert found.labels["band_gap"].tolist() == [5.0, 4.4, 0.05, 4.0, 2.0]
    # MgO's gaps disagree, CaO's is a metal's
    constants = found.labels["eps_electronic"]
    assert constants[[0, 3]] == pytest.approx([2.25, 2.56])
    assert np.isnan(constants[[1, 2, 4]]).all()
    twice = CompositionLabels(known.band_gap, known.eps_electronic, frozenset())
    assert np.isnan(paired(data.take(np.array([0, 0])), "dft_band_gap", twice).labels["eps_electronic"]).all()
    pq.write_table(pa.table({"formula": ["NaCl"]}), tmp_path / "other.parquet")
    with pytest.raises(InputError, match="has no column 'n_entries'"):
        read_composition_labels(str(tmp_path / "other.parquet"))


def test_distorted_crystals_are_strained_and_moved_as_asked() -> None:
    crystal = rock_salt()
    [still] = distorted([crystal], 0.0, 0.0)
    assert still.lattice == pytest.approx(crystal.lattice)
    [strained] = distorted([crystal], 0.03, 0.0)
    strain = np.linalg.inv(crystal.lattice) @ strained.lattice - np.eye(3)
    assert 0 < np.abs(strain).max() <= 0.03
    assert strain == pytest.approx(strain.T)
    many = distorted([crystal] * 200, 0.0, 0.1)
    moves = np.concatenate([(c.frac_coords - crystal.frac_coords) @ crystal.lattice for c in many])
    assert moves.std() == pytest.approx(0.1, rel=0.05)


def test_withheld_and_left_out_crystals_do_not_matter(material: Material) -> None:
    data = replace(
        material.dielectric,
        examples=replace(material.dielectric.examples, rows=dielectric_rows(material.dielectric.examples.rows, 4)),
    )
    families = np.array([anion_family(formula) for formula in data.examples.formulas])
    out = families == "oxides"
    assert out.any()
    other = {name: np.where(out | data.examples.withheld, 3 * v, v) for name, v in data.examples.labels.items()}
    changed = replace(data, examples=replace(data.examples, labels=other))
    first, second = (judged(kernel_of(material.blocks), each, families) for each in (data, changed))
    assert first.logs["eps_total"][0][out] == pytest.approx(second.logs["eps_total"][0][out])
    assert not np.allclose(first.logs["eps_total"][0][~out], second.logs["eps_total"][0][~out])


def test_deviations_grow_beyond_the_edge_and_not_for_ever() -> None:
    assert widened(2.0, 0.5, np.array([0.2, 1.0, 2.0, 3.0, 9.0])).tolist() == [2.0, 2.0, 3.0, 4.0, 4.0]


def test_textbook_crystals_are_what_they_are_called() -> None:
    pytest.importorskip("moyopy")
    from crystalformer_rl.crystal.encode import space_group

    found = {one.name: (one.crystal.formula, space_group(one.crystal, 0.05)) for one in TEXTBOOK}
    assert found["HfO₂"] == ("HfO2", 14)
    assert found["TiO₂, rutile"] == ("TiO2", 136)
    assert found["BaTiO₃"] == ("BaTiO3", 99)
    assert (found["ZnO"][1], found["Si"][1], found["GaAs"][1], found["MgO"][1]) == (186, 227, 216, 225)


# --- training, files, tables --------------------------------------------------


class FakePotential:
    """Embeds by composition and volume; refuses helium, as potentials refuse what they cannot do."""

    identity = IDENTITY

    def embed(self, crystals: Sequence[Crystal]) -> np.ndarray:
        rows = [[np.mean(c.atomic_numbers), np.std(c.atomic_numbers), c.volume / len(c), 1.0] for c in crystals]
        refused = np.array([2 in c.atomic_numbers for c in crystals])
        return np.where(refused[:, None], np.nan, np.array(rows).reshape(-1, 4))

    def evaluate(self, crystals: Sequence[Crystal], *, forces: bool = True) -> Sequence[Any]:
        return ["isolated_atoms" if 2 in c.atomic_numbers else SimpleNamespace(energy=0.0) for c in crystals]


def made_up(n: int, seed: int) -> list[Crystal]:
    """Rock salt and caesium chloride of random elements and sizes."""
    random = np.random.default_rng(seed)
    kinds = (rock_salt, caesium_chloride)
    return [
        kinds[i % 2](int(random.integers(3, 60)), int(random.choice([8, 9, 16, 17, 34, 35])), random.uniform(3.5, 6.5))
        for i in range(n)
    ]


def labelled(crystals: list[Crystal], table: Elements, potential: FakePotential, source: str) -> Examples:
    """Labels that follow from the features, with noise, so that there is something to learn."""
    random = np.random.default_rng(len(crystals))
    rows = np.hstack([potential.embed(crystals), feature_matrix(crystals, table)[0]])
    polarity = rows[:, 4 + feature_names(table).index("polarity_mean")]
    gap = np.maximum(3 * (polarity - 1.0) + random.normal(0, 0.2, len(rows)), 0)
    eps = np.exp(2.5 - 0.8 * polarity + random.normal(0, 0.1, len(rows))) + 1
    labels = {"band_gap": gap, "eps_electronic": eps, "eps_total": 2 * eps}
    return Examples(rows, [c.formula for c in crystals], [source] * len(rows), labels)


def stretched(crystals: list[Crystal], seed: int) -> list[Crystal]:
    """The same along z, by random ratios."""
    random = np.random.default_rng(seed)
    ratios = random.uniform(0.9, 1.1, len(crystals))
    return [replace(c, lattice=c.lattice * np.array([[1], [1], [r]])) for c, r in zip(crystals, ratios, strict=True)]


@pytest.fixture(scope="module")
def material(table: Elements) -> Material:
    """Crystals with all labels, some with the electronic constant alone, and crystals with a gap."""
    potential = FakePotential()
    crystals = [made_up(400, 400), stretched(made_up(150, 150), 1), made_up(60, 60)]
    gaps, complete, pairs = (
        labelled(each, table, potential, source) for each, source in zip(crystals, ("a", "dielectric", "b"), strict=True)
    )
    pairs.labels["eps_total"][:] = np.nan
    dielectric = join(complete, pairs)
    tensors = orientation_tensors([*crystals[1], *crystals[2]], table)
    deviators = 0.5 * tensors[:, 0]
    deviators[150:] = np.nan
    n = n_composition_features(table)
    blocks = (4, n, len(feature_names(table)) - n)
    data = DielectricSet(dielectric, tensors, deviators)
    others = distorted(crystals[1], 0.03, 0.05)
    rows = np.vstack([np.hstack([potential.embed(others), feature_matrix(others, table)[0]]), pairs.rows])
    moved = replace(data, examples=replace(dielectric, rows=rows))
    return Material(join(gaps, dielectric), data, blocks, {"moved": moved})


@pytest.fixture(scope="module")
def models(table: Elements, material: Material) -> PropertyModels:
    pytest.importorskip("torch")
    card = {"data": ["made up"], "licence": "none", "embedding": {**IDENTITY.as_record(), "load": "fake"}}
    card |= {"features": feature_names(table), "embedding_size": 4}
    return train(material, card, NetworkSettings(hidden=32, epochs=15, batch=64, per_fold=1))


def test_training_reports_honest_figures(models: PropertyModels) -> None:
    figures = models.card["figures"]
    assert figures["gap"]["balanced_accuracy"] > 0.75
    assert set(figures["gap"]["by_source"]) == {"a", "b", "dielectric"}
    for name in ("eps_electronic", "eps_total"):
        assert figures["dielectric"][name]["mae_ln"] < 0.3
        assert 0.8 < figures["dielectric"][name]["coverage_cross"] < 0.98
    for name in ("fom", "fom_total"):
        assert 0.8 < figures[name]["coverage_cross"] < 0.98
    assert figures["fom_total"]["mean_truth"] == pytest.approx(2 * figures["fom"]["complete"]["mean_truth"])
    for name, rows in (("eps_electronic", 210), ("eps_total", 150)):
        assert sum(row[name]["rows"] for row in figures["applicability"]) == rows
        assert sum(row[name]["rows"] for row in figures["families_applicability"]) == 2 * rows
        for families in figures["families"].values():
            assert families[0][name]["rows"] == rows == sum(row[name]["rows"] for row in families[1:])
    assert sum(row["rows"] for row in figures["gap_families"][1:]) == 610
    assert figures["anisotropy"]["values"]["mae"] < 0.5 * figures["anisotropy"]["values"]["if_isotropic"]
    relaxed, moved = figures["unrelaxed"]
    assert relaxed["geometry"] == "relaxed"
    assert relaxed["eps_total"]["mae_ln"] == pytest.approx(figures["dielectric"]["eps_total"]["mae_ln"])
    assert moved["eps_electronic"]["mae_ln"] > relaxed["eps_electronic"]["mae_ln"]
    text = card_text(models, "properties.safetensors", 123456)
    assert "| ε_total |" in text
    assert "made up" in text


def test_held_out_intervals_cover_nine_in_ten(models: PropertyModels, table: Elements) -> None:
    crystals = made_up(300, 99)
    fresh = labelled(crystals, table, FakePotential(), "new")
    predicted = models.predict_rows(fresh.rows, orientation_tensors(crystals, table), np.zeros(300, bool))
    for name in ("eps_electronic", "eps_total"):
        hit = np.abs(getattr(predicted, name) - fresh.labels[name]) <= INTERVAL * getattr(predicted, f"{name}_std")
        assert 0.8 < hit.mean() < 0.99
    assert 0.85 < np.mean(predicted.applicability <= 1.0) <= 1.0


def test_saved_models_predict_the_same_and_are_the_same_bytes(models: PropertyModels, tmp_path: Path) -> None:
    path = tmp_path / "properties.safetensors"
    models.save(path)
    content = path.read_bytes()
    loaded = PropertyModels.load(path)
    crystals = made_up(20, 5)
    embeddings = FakePotential().embed(crystals)
    first, second = models.predict(crystals, embeddings), loaded.predict(crystals, embeddings)
    for field in fields(first):
        assert getattr(second, field.name) == pytest.approx(getattr(first, field.name), rel=1e-3, abs=1e-3)
    loaded.save(path)
    assert path.read_bytes() == content
    assert loaded.card == json.loads(json.dumps(models.card))


def test_prediction_is_that_of_each_crystal_alone(models: PropertyModels) -> None:
    crystals = made_up(9, 6)
    potential = FakePotential()
    together = models.predict(crystals, potential.embed(crystals))
    for i, crystal in enumerate(crystals):
        alone = models.predict([crystal], potential.embed([crystal]))
        for field in fields(together):
            assert getattr(alone, field.name)[0] == pytest.approx(getattr(together, field.name)[i], rel=1e-6, abs=1e-9)
    assert len(models.predict([], np.empty((0, 4))).fom) == 0


def test_physical_consistency(models: PropertyModels) -> None:
    crystals = made_up(200, 8)
    p = models.predict(crystals, FakePotential().embed(crystals))
    assert np.all(p.eps_total >= p.eps_electronic)
    assert np.all(p.band_gap >= 0)
    assert np.all((p.band_gap == 0) == ((p.insulator_probability < 0.5) | (p.band_gap == 0)))
    assert p.fom == pytest.approx(p.eps_electronic * p.band_gap)
    assert p.fom_total == pytest.approx(p.eps_total * p.band_gap)
    assert all(np.all(getattr(p, f.name) > 0) for f in fields(p) if f.name.endswith("_std"))
    principal = np.array([getattr(p, f"eps_electronic_{k}") for k in (1, 2, 3)])
    assert principal.mean(0) == pytest.approx(p.eps_electronic)
    assert principal == pytest.approx(np.tile(p.eps_electronic, (3, 1)), rel=1e-5)  # all of them are cubic


def test_foreign_and_damaged_files_are_refused(models: PropertyModels, tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    with pytest.raises(InputError, match="does not exist"):
        PropertyModels.load(tmp_path / "absent.safetensors")
    (tmp_path / "text.safetensors").write_text("no models here")
    with pytest.raises(InputError, match="not a readable safetensors file"):
        PropertyModels.load(tmp_path / "text.safetensors")
    save_file({"a": np.zeros(3)}, tmp_path / "foreign.safetensors")
    with pytest.raises(InputError, match="holds no property models"):
        PropertyModels.load(tmp_path / "foreign.safetensors")
    header = json.dumps({"format": "crystalformer_rl properties 2"})
    save_file({"a": np.zeros(3)}, tmp_path / "old.safetensors", {METADATA_KEY: header})
    with pytest.raises(InputError, match=r"property models of another version .* train them again"):
        PropertyModels.load(tmp_path / "old.safetensors")
    other = replace(models, card={**models.card, "features": models.card["features"][:-1]})
    other.save(tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="other features"):
        PropertyModels.load(tmp_path / "other.safetensors")


def test_other_embeddings_are_refused(models: PropertyModels) -> None:
    check_embedding(models, IDENTITY, "models")
    with pytest.raises(InputError, match="trained on embeddings of fake"):
        check_embedding(models, replace(IDENTITY, digest="cd"), "models")
    wider = FakePotential()
    wider.embed = lambda crystals: np.ones((len(crystals), 5))  # type: ignore[method-assign]
    with pytest.raises(InputError, match="embeddings of 4 numbers, not of 5"):
        properties_table(models, wider, crystals_table([rock_salt()], ["ok"]))


def crystals_table(crystals: Sequence[Crystal | None], statuses: list[str]) -> pa.Table:
    columns = {"id": [f"c{i}" for i in range(len(crystals))], **crystal_columns(crystals)}
    return make_table(CRYSTALS, columns).append_column("status", pa.array(statuses))


def test_every_row_keeps_its_place_and_status(models: PropertyModels) -> None:
    crystals = [rock_salt(), None, rock_salt(2, 9), caesium_chloride(), caesium_chloride(96, 17), perovskite()]
    statuses = ["ok", "no_crystal", "ok", "collapsed", "ok", "ok"]
    steps: list[int] = []
    result = properties_table(models, FakePotential(), crystals_table(crystals, statuses), steps.append)
    assert sum(steps) == 6
    assert result.schema.names == [column.name for column in PROPERTIES]
    rows = result.to_pylist()
    assert [row["status"] for row in rows] == [
        "ok",
        "no_crystal",
        "isolated_atoms",
        "collapsed",
        "unsupported_element",
        "ok",
    ]
    for row in rows:
        metal = row["band_gap"] == 0
        assert (row["in_training"] is None) == (row["status"] != "ok")
        known = {name for name, value in row.items() if value is not None} - {"id", "status", "soft_mode", "in_training"}
        everything = {column.name for column in PREDICTED}
        constants = {name for name in everything if name.startswith("eps_")}
        assert known == ((everything - constants if metal else everything) if row["status"] == "ok" else set())
    expected = models.predict([perovskite()], FakePotential().embed([perovskite()]))
    assert rows[5]["fom"] == pytest.approx(expected.fom[0])
    assert properties_table(models, FakePotential(), crystals_table([None], ["unreadable"])).column("fom").null_count == 1


def test_metals_have_no_dielectric_constant_and_a_figure_of_merit_of_zero(
    models: PropertyModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    estimate = GapEstimate.reported

    def first_is_metal(self: GapEstimate, factor: float) -> tuple[np.ndarray, np.ndarray]:
        gap, std = estimate(self, factor)
        return np.where(np.arange(len(gap)) == 0, 0.0, np.maximum(gap, 1.0)), std

    monkeypatch.setattr(GapEstimate, "reported", first_is_metal)
    table = crystals_table([rock_salt(), perovskite()], ["ok"] * 2)
    first, second = properties_table(models, FakePotential(), table).to_pylist()
    assert [first[name] for name in ("eps_electronic", "eps_electronic_std", "eps_total", "eps_total_std")] == [None] * 4
    assert (first["band_gap"], first["fom"], first["fom_total"]) == (0, 0, 0)
    assert second["fom"] == pytest.approx(second["band_gap"] * second["eps_electronic"])


def test_soft_modes_are_told_by_formula_and_structure() -> None:
    numbers = ATOMIC_NUMBERS

    def of(c: Crystal, **exchange: str) -> Crystal:
        swap = {numbers[a]: numbers[b] for a, b in exchange.items()}
        return Crystal(np.array([swap.get(int(z), int(z)) for z in c.atomic_numbers]), c.frac_coords, c.lattice)

    titanate, salt = perovskite(), rock_salt()
    assert soft_mode(titanate) == "perovskite titanate"
    assert soft_mode(of(titanate, Sr="K", Ti="Ta")) == "perovskite niobate or tantalate"
    assert soft_mode(of(salt, Na="Pb", Cl="Te")) == "IV–VI rock salt"
    stiff = [of(titanate, Ti="Zr"), of(titanate, O="F"), of(titanate, Sr="Mg"), salt, of(salt, Na="Pb", Cl="O")]
    assert [soft_mode(c) for c in stiff] == [None] * 5
    flat = Crystal(titanate.atomic_numbers, titanate.frac_coords * [1, 1, 0.95], titanate.lattice * [[1], [1], [1.05]])
    assert soft_mode(flat) == "perovskite titanate"  # tetragonal, polar
    assert soft_mode(of(caesium_chloride(), Cs="Pb", Cl="Te")) is None


def test_labelled_tables(tmp_path: Path, table: Elements) -> None:
    crystals = [rock_salt(), caesium_chloride(), rock_salt(2, 9), perovskite()]
    path = tmp_path / "gaps.parquet"

    def write(gaps: list[float | None]) -> str:
        pq.write_table(crystals_table(crystals, ["ok"] * 4).append_column("gap", pa.array(gaps, pa.float64())), path)
        return str(path)

    data = read_labelled(write([5.0, None, 1.0, 2.0]), {"gap": 0.0})
    assert [c.formula for c in data.crystals] == ["NaCl", "FHe", "SrTiO3"]
    assert data.sources == ["gaps"] * 3
    rows, statuses = crystal_features(FakePotential(), table, data.crystals, str(tmp_path / "cache"))
    assert statuses == ["ok", "isolated_atoms", "ok"]
    counted: list[int] = []
    others = [*data.crystals[::-1], caesium_chloride(37)]
    cached, again = crystal_features(FakePotential(), table, others, str(tmp_path / "cache"), counted.append)
    assert np.array_equal(cached[:3], rows[::-1], equal_nan=True)
    assert (again, counted) == ([*statuses[::-1], "ok"], [3, 1])
    kept = examples(data, rows, statuses)
    assert kept.labels["gap"].tolist() == [5.0, 2.0]
    assert kept.folds.tolist() == examples(data, rows, statuses).folds.tolist()

    with pytest.raises(InputError, match=r"gaps.parquet, row 'c3': gap = -2 is below 0"):
        read_labelled(write([5.0, None, 1.0, -2.0]), {"gap": 0.0})
    with pytest.raises(InputError, match="no label column 'eps_total'"):
        read_labelled(str(path), {"eps_total": 1.0})
    with pytest.raises(InputError, match="no row with a crystal and the labels gap"):
        read_labelled(write([None] * 4), {"gap": 0.0})


# --- the embedded models ------------------------------------------------------

needs_embedded = pytest.mark.skipif(not EMBEDDED.is_file(), reason="resources/embedded/properties.safetensors is not here")


@needs_embedded
def test_embedded_models_reach_their_goals() -> None:
    models = PropertyModels.load(EMBEDDED)
    assert EMBEDDED.stat().st_size < 5_000_000
    figures = models.card["figures"]
    assert figures["dielectric"]["eps_electronic"]["mae_ln"] <= 0.11
    assert figures["dielectric"]["eps_total"]["mae_ln"] <= 0.19
    assert figures["gap"]["mae_insulators"] <= 0.36
    assert figures["gap"]["balanced_accuracy"] >= 0.90
    for coverage in (
        figures["gap"]["coverage_insulators_cross"],
        *(figures["dielectric"][name]["coverage_cross"] for name in ("eps_electronic", "eps_total")),
        *(figures[name]["coverage_cross"] for name in ("fom", "fom_total")),
    ):
        assert 0.85 <= coverage <= 0.95
    assert "CC BY 4.0" in models.card["licence"]


def test_card_belongs_to_the_embedded_models() -> None:
    if not EMBEDDED.is_file():
        pytest.skip("resources/embedded/properties.safetensors is not here")
    card = ROOT / "docs" / "properties-card.md"
    assert card.read_text(encoding="utf-8") == card_text(
        PropertyModels.load(EMBEDDED), EMBEDDED.name, EMBEDDED.stat().st_size
    )


@needs_embedded
def test_command_on_textbook_crystals(tmp_path: Path) -> None:
    pytest.importorskip("chgnet")
    from crystalformer_rl.cli.properties import command

    diamond = [*FCC, *((x + 0.25, y + 0.25, z + 0.25) for x, y, z in FCC)]
    crystals = [
        rock_salt(12, 8, 4.25),
        rock_salt(),
        cubic(5.47, dict.fromkeys(diamond, 14)),
        cubic(3.58, dict.fromkeys(FCC, 29)),
        perovskite(3.94),
        None,
    ]
    source = tmp_path / "crystals.parquet"
    pq.write_table(crystals_table(crystals, ["ok"] * 5 + ["no_crystal"]), source)
    out = tmp_path / "properties.parquet"

    def run() -> dict[str, Any]:
        result = CliRunner().invoke(command, [str(source), "--out", str(out), "--json"], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    summary = run()
    assert summary["status"] == {"ok": 5, "no_crystal": 1}
    rows = pq.read_table(out).to_pylist()
    gaps = [row["band_gap"] for row in rows[:5]]
    # PBE gaps of MgO, NaCl, Si, Cu, SrTiO3 and the electronic dielectric constants of the insulators
    assert gaps[3] == 0
    assert rows[3]["insulator_probability"] < 0.05
    for row, truth in zip(rows, [4.5, 5.0, 0.6, 0.0, 1.8], strict=False):
        assert abs(row["band_gap"] - truth) < min(2 * INTERVAL * row["band_gap_std"] + 1e-9, 1.0)
    eps = [rows[i]["eps_electronic"] for i in (0, 1, 2, 4)]
    assert np.log(eps) == pytest.approx(np.log([3.1, 2.4, 13.0, 6.3]), abs=0.3)
    assert [row["applicability"] < 1 for row in rows[:5]] == [True, True, False, False, True]
    assert rows[5]["status"] == "no_crystal"
    content = out.read_bytes()
    run()
    assert out.read_bytes() == content


def test_training_command_refuses_bad_input_before_the_work(tmp_path: Path) -> None:
    pytest.importorskip("chgnet")
    from crystalformer_rl.cli.train_properties import command

    crystals = [rock_salt(), caesium_chloride()]
    table = crystals_table(crystals, ["ok"] * 2)
    gaps, dielectric = tmp_path / "gaps.parquet", tmp_path / "dielectric.parquet"
    pq.write_table(table.append_column("dft_band_gap", pa.array([5.0, 4.9])), gaps)
    pq.write_table(table.append_column("band_gap", pa.array([5.0, 4.9])), dielectric)

    def run(out: Path) -> None:
        arguments = ["--dielectric", str(dielectric), "--gaps", str(gaps), "--out", str(out)]
        CliRunner().invoke(command, arguments, catch_exceptions=False)

    with pytest.raises(InputError, match=r"dielectric\.parquet has no label column 'eps_electronic'"):
        run(tmp_path / "models.safetensors")
    with pytest.raises(InputError, match="is a folder"):
        run(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dielectric.parquet", "gaps.parquet"]
