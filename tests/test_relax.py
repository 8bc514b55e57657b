"""Relaxation in symmetry coordinates against ASE, finite differences and its own promises."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ase.data import covalent_radii
from click.testing import CliRunner
from potential_examples import lonely_atom, monoclinic, perovskite, quartz, rock_salt, rutile, sites, two_close_atoms

from crystalformer_rl.cli.relax import command
from crystalformer_rl.crystal.encode import symmetrize
from crystalformer_rl.crystal.lattice import free_lattice_parameters
from crystalformer_rl.crystal.structure import Crystal, crystal_columns, crystals_from_table
from crystalformer_rl.crystal.tokens import Sites, decode, primitive, sites_from_table, token_columns
from crystalformer_rl.crystal.wyckoff import wyckoff_table
from crystalformer_rl.potential.coordinates import Coordinates, free_strains
from crystalformer_rl.potential.free import relax_freely
from crystalformer_rl.potential.graph import crystal_graph
from crystalformer_rl.potential.protocol import EV_PER_A3_IN_GPA, Evaluation, Outcome, Potential
from crystalformer_rl.potential.relax_settings import RelaxSettings
from crystalformer_rl.potential.relaxation import relax
from crystalformer_rl.potential.springs import CROWDED, bond_changes, model_hessian, pushed_apart
from crystalformer_rl.potential.walker import updated_hessian
from crystalformer_rl.tables.column import make_table
from crystalformer_rl.tables.crystal_columns import CRYSTALS_AND_TOKENS
from crystalformer_rl.tables.energy_columns import RELAXED
from crystalformer_rl.tables.parquet import write_table
from crystalformer_rl.tables.provenance import read_provenance

EXAMPLES = {"rock salt": rock_salt(), "rutile": rutile(), "perovskite": perovskite(), "quartz": quartz()}


class Springs:
    """A potential with a known minimum: the cell wants the metric of `target`, the atoms want its places."""

    def __init__(self, target: Crystal, failing: tuple[int, ...] = ()) -> None:
        self.target = target
        self.calls = 0
        self.failing = failing

    identity: dict[str, Any] = {"name": "springs", "weights_sha256": "0" * 64, "corrections": "none"}  # noqa: RUF012

    def embed(self, crystals: Any) -> np.ndarray:
        raise NotImplementedError

    def evaluate(self, crystals: Any, *, forces: bool = True) -> list[Outcome]:
        self.calls += 1
        if self.calls in self.failing:
            return ["potential_failed"] * len(crystals)
        return [self._one(c) for c in crystals]

    def _one(self, c: Crystal) -> Evaluation:
        n, stiff = len(c), 40.0
        excess = c.lattice @ c.lattice.T - self.target.lattice @ self.target.lattice.T
        delta = c.frac_coords - self.target.frac_coords
        delta -= np.rint(delta)
        energy = 0.01 * (excess**2).sum() + 0.5 * stiff * (delta**2).sum()
        # dE/dL = 0.04 (LLᵀ - M) L, and L → L(1 + ε) gives dE/dε = Lᵀ dE/dL.
        stress = c.lattice.T @ (0.04 * excess @ c.lattice) / c.volume
        return Evaluation(energy / n, -stiff * delta @ np.linalg.inv(c.lattice).T, 0.5 * (stress + stress.T))


# --- coordinates --------------------------------------------------------------


def test_free_strains_are_as_many_as_free_lattice_parameters_and_keep_the_system() -> None:
    rng = np.random.default_rng(0)
    for g in range(1, 231):
        basis = free_strains(g)
        assert len(basis) == int(free_lattice_parameters(g).sum())
        np.testing.assert_allclose(np.einsum("aij,bij->ab", basis, basis), np.eye(len(basis)), atol=1e-12)
        letter = wyckoff_table().n_letters(g)
        cell = (5.0, 6.0, 7.0, 80.0, 95.0, 103.0) if g <= 2 else (5.0, 6.0, 7.0, 90.0, 95.0, 90.0)
        start = sites(g, tuple(_constrained(g, cell)), (letter, 11, 0.11, 0.23, 0.34))
        coordinates = Coordinates.of(start)
        q = np.zeros(len(coordinates))
        q[coordinates.n_positional :] = 0.05 * rng.normal(size=len(basis))
        moved = coordinates.sites(q)
        # `sites` sets what the system ties; that it changed nothing shows that the strain kept the system.
        free = coordinates.lattice @ (np.eye(3) + coordinates.strain(q))
        kept = decode(moved).lattice
        np.testing.assert_allclose(kept @ kept.T, free @ free.T, atol=1e-9)


def _constrained(g: int, cell: tuple[float, ...]) -> list[float]:
    from crystalformer_rl.crystal.lattice import constrain_lattice

    return constrain_lattice(g, np.array(cell)).tolist()


def test_every_wyckoff_position_moves_only_where_it_may() -> None:
    table, rng = wyckoff_table(), np.random.default_rng(1)
    for g in range(1, 231):
        for letter in range(1, table.n_letters(g) + 1):
            first = table.operations(g, letter)[0]
            x = first[:, :3] @ rng.random(3) + first[:, 3]
            cell = tuple(_constrained(g, (5.0, 6.0, 7.0, 80.0, 95.0, 103.0)))
            coordinates = Coordinates.of(sites(g, cell, (letter, 11, *(x % 1.0))))
            assert coordinates.n_positional == np.linalg.matrix_rank(first[:, :3])
            q = 0.3 * rng.normal(size=len(coordinates))
            q[coordinates.n_positional :] = 0
            moved = coordinates.sites(q).frac_coords[0]
            delta = first[:, :3] @ moved + first[:, 3] - moved
            np.testing.assert_allclose(delta - np.rint(delta), 0, atol=1e-9)


@pytest.mark.parametrize("start", [rutile(), quartz(), monoclinic()])
def test_coordinates_count_as_promised_and_agree_with_decode(start: Sites) -> None:
    coordinates = Coordinates.of(start)
    at_rest = coordinates.crystal(np.zeros(len(coordinates)))
    expected = primitive(start)
    np.testing.assert_allclose(at_rest.lattice, expected.lattice, atol=1e-9)
    delta = at_rest.frac_coords - expected.frac_coords
    np.testing.assert_allclose(delta - np.rint(delta), 0, atol=1e-9)
    # |q|² is the sum of all atoms' squared displacements.
    q = 0.02 * np.random.default_rng(0).normal(size=len(coordinates))
    q[coordinates.n_positional :] = 0
    moved = (coordinates.crystal(q).frac_coords - at_rest.frac_coords) @ at_rest.lattice
    assert (moved**2).sum() == pytest.approx((q**2).sum(), rel=1e-9)


@pytest.mark.parametrize("start", [rutile(), quartz(), monoclinic()])
def test_the_gradient_is_the_slope_of_the_energy(start: Sites) -> None:
    coordinates = Coordinates.of(start)
    rng = np.random.default_rng(0)
    away = 0.05 * rng.normal(size=len(coordinates))
    potential = Springs(coordinates.crystal(away))
    q = 0.03 * rng.normal(size=len(coordinates))

    def energy(q: np.ndarray) -> float:
        return potential._one(coordinates.crystal(q)).energy * len(coordinates.numbers)

    here = potential._one(coordinates.crystal(q))
    assert here.forces is not None
    assert here.stress is not None
    found = coordinates.gradient(q, here.forces, here.stress)
    numeric = [(energy(q + d) - energy(q - d)) / 2e-5 for d in 1e-5 * np.eye(len(q))]
    np.testing.assert_allclose(found, numeric, rtol=1e-6, atol=1e-6)


# --- the walk -----------------------------------------------------------------


def test_a_known_minimum_is_found() -> None:
    for start in (rutile(), quartz(), monoclinic()):
        coordinates = Coordinates.of(start)
        away = 0.08 * np.random.default_rng(3).normal(size=len(coordinates))
        (result,) = relax(
            Springs(coordinates.crystal(away)), [start], RelaxSettings(fmax=1e-4, smax=1e-3, max_evaluations=200)
        )
        assert result.converged
        assert result.energy == pytest.approx(0, abs=1e-7)


def test_where_a_walk_would_go_next_is_what_it_evaluates_next() -> None:
    strained = Sites(225, *(getattr(rock_salt(), name) for name in ("wyckoff", "elements", "frac_coords")),
                     rock_salt().lattice_parameters * [1.03, 1.03, 1.03, 1, 1, 1])  # fmt: skip
    springs = Springs(primitive(rock_salt()))
    (first,) = relax(springs, [strained], RelaxSettings(max_evaluations=1), ahead=True)
    (second,) = relax(springs, [strained], RelaxSettings(max_evaluations=2))
    assert first.ahead is not None
    (there,) = springs.evaluate([primitive(first.ahead)])
    assert second.energy is not None
    assert isinstance(there, Evaluation)
    assert there.energy == pytest.approx(second.energy, abs=1e-9)
    assert there.energy < 0.2 * first.energy_initial
    (at_rest,) = relax(springs, [rock_salt()], RelaxSettings(max_evaluations=1), ahead=True)
    assert np.allclose(at_rest.ahead.lattice_parameters, rock_salt().lattice_parameters, atol=1e-6)
    (failed,) = relax(springs, ["no_crystal"], ahead=True)
    assert failed.ahead is None


def test_failing_evaluations_on_the_way_are_survived() -> None:
    coordinates = Coordinates.of(rutile())
    target = coordinates.crystal(0.05 * np.ones(len(coordinates)))
    (result,) = relax(Springs(target, failing=(2, 4)), [rutile()], RelaxSettings(fmax=1e-3, smax=1e-2, max_evaluations=100))
    assert result.status == "ok"
    assert result.converged
    (result,) = relax(Springs(target, failing=(1,)), [rutile()])
    assert (result.status, result.energy, result.evaluations) == ("potential_failed", None, 1)


@pytest.mark.parametrize(("factor", "status"), [(1.5, "exploded"), (0.6, "collapsed")])
def test_cells_that_run_away_are_caught(factor: float, status: str) -> None:
    start = primitive(rock_salt())
    target = Crystal(start.atomic_numbers, start.frac_coords, start.lattice * factor)
    (result,) = relax(Springs(target), [rock_salt()], RelaxSettings(max_evaluations=200))
    assert result.status == status
    assert result.energy is None
    assert result.crystal is None
    assert result.energy_initial is not None


def test_the_best_geometry_is_returned_with_its_own_residuals(chgnet: Potential) -> None:
    for budget in (1, 2, 3, 5):
        (result,) = relax(chgnet, [quartz()], RelaxSettings(fmax=1e-3, smax=1e-2, max_evaluations=budget))
        assert result.evaluations == budget
        assert result.crystal is not None
        assert result.energy is not None
        assert result.energy_initial is not None
        assert result.energy <= result.energy_initial + 1e-6
        (again,) = chgnet.evaluate([result.crystal])
        assert isinstance(again, Evaluation)
        assert again.forces is not None
        assert again.stress is not None
        assert result.energy == pytest.approx(again.energy, abs=1e-5)
        assert result.force_max == pytest.approx(np.linalg.norm(again.forces, axis=1).max(), abs=2e-3)
        assert result.stress_max == pytest.approx(np.abs(again.stress).max() * EV_PER_A3_IN_GPA, abs=2e-2)


def test_the_updated_hessian_is_positive_and_keeps_the_secant() -> None:
    rng = np.random.default_rng(0)
    coordinates = Coordinates.of(quartz())
    hessian = model_hessian(coordinates, np.zeros(len(coordinates)))
    assert np.linalg.eigvalsh(hessian).min() > 0
    step = rng.normal(size=len(hessian))
    change = hessian @ step * 1.7
    np.testing.assert_allclose(updated_hessian(hessian, step, change) @ step, change, rtol=1e-9)
    assert np.linalg.eigvalsh(updated_hessian(hessian, step, -change)).min() > 0


def test_bond_changes_are_the_slopes_of_bond_lengths() -> None:
    coordinates = Coordinates.of(monoclinic())
    rng = np.random.default_rng(2)
    q, direction, step = 0.05 * rng.normal(size=len(coordinates)), rng.normal(size=len(coordinates)), 1e-5
    graph = crystal_graph(coordinates.crystal(q), 3.0)

    def lengths(at: np.ndarray) -> np.ndarray:
        crystal = coordinates.crystal(at)
        frac = graph_frac + crystal.frac_coords - coordinates.crystal(q).frac_coords
        return np.linalg.norm((frac[graph.first] - frac[graph.second] - graph.image) @ crystal.lattice, axis=1)

    graph_frac = graph.positions @ np.linalg.inv(coordinates.crystal(q).lattice)
    np.testing.assert_allclose(lengths(q), graph.lengths, atol=1e-9)
    slope = (lengths(q + step * direction) - lengths(q - step * direction)) / (2 * step)
    np.testing.assert_allclose(bond_changes(coordinates, q, graph) @ direction, slope, atol=1e-6)


def test_crowded_atoms_are_pushed_apart_and_others_stay() -> None:
    sensible = Coordinates.of(quartz())
    assert pushed_apart(sensible, np.zeros(len(sensible))) is None
    crowded = Coordinates.of(rutile(x=0.12))
    pushed = pushed_apart(crowded, np.zeros(len(crowded)))
    assert pushed is not None

    def nearest(q: np.ndarray) -> float:
        graph = crystal_graph(crowded.crystal(q), 4.0)
        radii = covalent_radii[crowded.numbers]
        return float((graph.lengths / (radii[graph.first] + radii[graph.second])).min())

    assert nearest(np.zeros(len(crowded))) < CROWDED
    assert nearest(pushed) > 0.7


def test_a_crowded_start_ends_in_the_crystal_it_should_be(chgnet: Potential) -> None:
    crowded, good = relax(chgnet, [rutile(x=0.12), rutile()], RelaxSettings(max_evaluations=100))
    assert good.energy is not None
    assert crowded.energy == pytest.approx(good.energy, abs=3e-3)
    (lonely,) = relax(Springs(lonely_atom()), [lonely_atom()])  # no neighbour, no spring
    assert lonely.status == "ok"


# --- without symmetry ---------------------------------------------------------


def held_by_symmetry() -> Sites:
    """LiVF6 with its fluorine in the middle between metals, a place that nothing but the symmetry gives it."""
    return sites(225, (7.5, 7.5, 7.5, 90, 90, 90), (1, 3, 0, 0, 0), (2, 23, 0.5, 0.5, 0.5), (4, 9, 0, 0.25, 0.25))


def test_free_relaxation_lowers_or_keeps(chgnet: Potential) -> None:
    starts = [held_by_symmetry(), rock_salt(), "unreadable", quartz()]
    settings = RelaxSettings(max_evaluations=60)
    kept = relax(chgnet, starts, settings)
    free = relax_freely(chgnet, kept, settings)
    assert [r.status for r in free] == ["ok", "ok", "unreadable", "ok"]
    assert free[2] == kept[2]
    for before, after in ((kept[0], free[0]), (kept[1], free[1]), (kept[3], free[3])):
        assert after.energy is not None
        assert before.energy is not None
        assert before.sites is not None
        assert after.energy <= before.energy
        assert (after.energy_kept, after.space_group_kept) == (before.energy, before.sites.space_group)
        assert after.evaluations > before.evaluations
        assert after.crystal is not None
        (again,) = chgnet.evaluate([after.crystal], forces=False)
        assert isinstance(again, Evaluation)
        assert after.energy == pytest.approx(again.energy, abs=1e-5)
    assert free[0].energy is not None
    assert free[0].energy < kept[0].energy - 0.1  # type: ignore[operator]
    assert free[0].sites is not None
    assert free[0].sites.space_group != 225
    assert (free[1].sites, free[1].crystal) == (kept[1].sites, kept[1].crystal)
    assert relax_freely(chgnet, kept, settings)[0].energy == free[0].energy


# --- against ASE --------------------------------------------------------------


def _ase_minimum(start: Sites) -> tuple[float, int]:
    """Energy (eV/atom) and steps of ASE's FIRE, cell and symmetry-constrained atoms, with CHGNet's own calculator."""
    from ase import Atoms
    from ase.constraints import FixSymmetry
    from ase.filters import FrechetCellFilter
    from ase.optimize import FIRE
    from chgnet.model import CHGNet
    from chgnet.model.dynamics import CHGNetCalculator

    crystal = decode(start)
    atoms = Atoms(numbers=crystal.atomic_numbers, scaled_positions=crystal.frac_coords, cell=crystal.lattice, pbc=True)
    atoms.set_constraint(FixSymmetry(atoms))
    atoms.calc = CHGNetCalculator(model=CHGNet.load(use_device="cpu", verbose=False), use_device="cpu")
    optimizer = FIRE(FrechetCellFilter(atoms), logfile=None)
    optimizer.run(fmax=0.05, steps=300)
    return atoms.get_potential_energy() / len(atoms), optimizer.nsteps


def test_energies_are_those_of_ase_or_lower(chgnet: Potential) -> None:
    for (name, start), result in zip(EXAMPLES.items(), relax(chgnet, EXAMPLES.values()), strict=True):
        energy, steps = _ase_minimum(start)
        assert result.converged, name
        assert result.energy is not None
        assert result.energy < energy + 0.002, name
        assert result.energy > energy - 0.01, name
        assert result.evaluations < steps, name


# --- promises of the batch ----------------------------------------------------


def test_the_space_group_stays(chgnet: Potential) -> None:
    for start, result in zip(EXAMPLES.values(), relax(chgnet, EXAMPLES.values()), strict=True):
        assert result.crystal is not None
        assert result.sites is not None
        assert result.sites.fingerprint() == start.fingerprint()
        assert symmetrize(result.crystal).space_group == start.space_group
        # The tokens say the same crystal as the coordinates.
        again = primitive(result.sites)
        np.testing.assert_allclose(again.lattice, result.crystal.lattice, atol=1e-9)
        np.testing.assert_allclose(again.frac_coords % 1.0, result.crystal.frac_coords % 1.0, atol=1e-9)


def test_a_batch_gives_what_each_crystal_gives_alone(chgnet: Potential) -> None:
    together = relax(chgnet, EXAMPLES.values(), batch_size=2)
    for start, result in zip(EXAMPLES.values(), together, strict=True):
        (alone,) = relax(chgnet, [start])
        assert alone.evaluations == result.evaluations
        assert alone.energy == pytest.approx(result.energy, abs=5e-6)


def test_a_broken_crystal_leaves_the_others_alone(chgnet: Potential) -> None:
    (alone,) = relax(chgnet, [rutile()])
    nowhere = sites(225, (5.0, 5.0, 5.0, 90, 90, 90), (1, 11, 0, 0, 0))
    nowhere = Sites(225, nowhere.wyckoff, nowhere.elements, nowhere.frac_coords, np.array([5, 5, 5, 20.0, 20.0, 170.0]))
    batch = [two_close_atoms(), rutile(), "unreadable", lonely_atom(), nowhere, rock_salt(1.2)]
    results = relax(chgnet, batch)
    assert [r.status for r in results] == [
        "overlapping_atoms", "ok", "unreadable", "isolated_atoms", "bad_lattice", "overlapping_atoms",
    ]  # fmt: skip
    assert results[1].energy == pytest.approx(alone.energy, abs=2e-6)
    assert all(r.crystal is None and r.energy is None for k, r in enumerate(results) if k != 1)


def test_a_supercell_relaxes_as_its_primitive_cell(chgnet: Potential) -> None:
    conventional = decode(rock_salt())
    (result,) = relax(chgnet, [conventional])
    assert result.crystal is not None
    assert len(result.crystal) == 2
    assert result.sites is not None
    assert result.sites.space_group == 225


def test_a_crystal_without_symmetry_relaxes_in_p1(chgnet: Potential, monkeypatch: pytest.MonkeyPatch) -> None:
    from crystalformer_rl.crystal.encode import EncodeError
    from crystalformer_rl.potential import relaxation as module

    def refuse(*_: Any) -> Sites:
        raise EncodeError("no_symmetry")

    monkeypatch.setattr(module, "symmetrize", refuse)
    (result,) = relax(chgnet, [primitive(rutile())])
    assert result.sites is not None
    assert result.sites.space_group == 1
    (with_symmetry,) = relax(chgnet, [rutile()])
    assert result.energy == pytest.approx(with_symmetry.energy, abs=2e-3)


def test_real_crystals_end_near_the_energy_of_ase(chgnet: Potential, real_crystals: pa.Table) -> None:
    table = real_crystals.filter(np.array(real_crystals["n_atoms"]) <= 8)
    relaxed, _ = crystals_from_table(table.take(np.random.default_rng(5).choice(table.num_rows, 12, replace=False)))
    # They are at rest; stretched by 3 % they have somewhere to go.
    crystals = [None if c is None else Crystal(c.atomic_numbers, c.frac_coords, 1.03 * c.lattice) for c in relaxed]
    results = relax(chgnet, [c for c in crystals if c is not None])
    assert all(r.status == "ok" and r.converged for r in results)
    for crystal, result in list(zip(crystals, results, strict=True))[:3]:
        assert crystal is not None
        energy, _ = _ase_minimum(symmetrize(crystal))
        assert result.energy is not None
        assert result.energy < energy + 0.002


# --- the command --------------------------------------------------------------


def _table(path: Path, rows: list[Sites | None], statuses: list[str]) -> None:
    crystals = [None if s is None else decode(s) for s in rows]
    data = crystal_columns(crystals) | token_columns(rows, coords_name="site_frac_coords")
    data |= {"id": [f"s{k}" for k in range(len(rows))], "status": statuses}
    from crystalformer_rl.tables.crystal_columns import STATUS

    write_table(path, make_table((*CRYSTALS_AND_TOKENS, STATUS), data), {})


def test_the_command_writes_relaxed_crystals_with_tokens_and_keeps_every_row(tmp_path: Path) -> None:
    samples, out = tmp_path / "samples.parquet", tmp_path / "relaxed.parquet"
    _table(samples, [rock_salt(), None, rutile(), rock_salt(1.2)], ["ok", "no_crystal", "ok", "ok"])
    run = CliRunner().invoke(command, [str(samples), "--out", str(out), "--json"])
    assert run.exit_code == 0, run.output
    summary = json.loads(run.stdout)
    assert summary["status"] == {"ok": 2, "no_crystal": 1, "overlapping_atoms": 1}
    table = pq.read_table(out)
    assert table.column_names == [c.name for c in RELAXED]
    assert table.column("id").to_pylist() == ["s0", "s1", "s2", "s3"]
    assert table.column("status").to_pylist() == ["ok", "no_crystal", "ok", "overlapping_atoms"]
    assert table.column("formula").to_pylist() == ["NaCl", None, "TiO2", "NaCl"]
    assert [len(z) if z else None for z in table.column("atomic_numbers").to_pylist()] == [2, None, 6, 8]
    assert [x is None for x in table.column("lattice").to_pylist()] == [False, True, False, True]
    back = sites_from_table(table, "relaxed")
    assert [s.space_group if s else None for s in back] == [225, None, 136, None]
    assert back[0] is not None
    assert back[0].lattice_parameters[0] == pytest.approx(5.71, abs=0.02)
    made_by = read_provenance(out)
    assert made_by["potential"]["name"] == "CHGNet 0.3.0"
    assert made_by["stage"] == "relax"

    second = tmp_path / "again.parquet"
    assert CliRunner().invoke(command, [str(samples), "--out", str(second)]).exit_code == 0
    assert second.read_bytes() == out.read_bytes()


def test_the_command_takes_tables_and_cifs_as_others_write_them(tmp_path: Path) -> None:
    import pyarrow as pa

    from crystalformer_rl.discovery.cif import cif_text
    from crystalformer_rl.errors import InputError
    from crystalformer_rl.reading.inputs import read_crystals

    def table(name: str, **columns: Any) -> Path:
        crystal = primitive(rock_salt())
        data = {key: pa.array(value) for key, value in crystal_columns([crystal]).items()} | {"id": pa.array([name])}
        pq.write_table(pa.table(data | columns), tmp_path / name)
        return tmp_path / name

    salt, titania = (cif_text(primitive(s), "x") for s in (rock_salt(), rutile()))
    two = tmp_path / "two.cif"
    two.write_text(salt + "\n" + titania)
    large = table("large.parquet", formula=pa.array(["NaCl"], pa.large_string()))
    read = read_crystals([two, large])
    assert read.column("id").to_pylist() == ["two-0", "two-1", "large.parquet"]
    assert read.column("formula").to_pylist() == ["NaCl", "TiO2", "NaCl"]
    marked = tmp_path / "marked.csv"
    marked.write_text(f'cif,id\n"{salt}",a\n', encoding="utf-8-sig")
    assert read_crystals([marked]).column("status").to_pylist() == ["ok"]

    nameless = tmp_path / "nameless.csv"
    nameless.write_text(f'cif,id\n"{salt}",a\n"{salt}",\n')
    assert read_crystals([nameless]).column("id").to_pylist() == ["a", "nameless-1"]
    with pytest.raises(InputError, match=r"group.parquet, column 'space_group': expected int64, found string"):
        read_crystals([table("group.parquet", space_group=pa.array(["Fm-3m"]))])
    with pytest.raises(InputError, match="do not make one table"):
        read_crystals([table("a.parquet", energy=pa.array([1.0])), table("b.parquet", energy=pa.array(["low"]))])
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "lost.cif").symlink_to(tmp_path / "nowhere.cif")
    with pytest.raises(InputError, match=r"lost.cif \(no plain file\)"):
        read_crystals([tmp_path / "folder"])


def test_the_command_reports_what_a_free_relaxation_changed(tmp_path: Path) -> None:
    samples, out = tmp_path / "samples.parquet", tmp_path / "relaxed.parquet"
    _table(samples, [held_by_symmetry(), None, rock_salt()], ["ok", "no_crystal", "ok"])
    run = CliRunner().invoke(command, [str(samples), "--free", "--out", str(out), "--json"])
    assert run.exit_code == 0, run.output
    rows = pq.read_table(out).to_pylist()
    assert [row["space_group_kept"] for row in rows] == [225, None, 225]
    assert rows[0]["energy"] < rows[0]["energy_kept"]
    assert rows[2]["energy"] == rows[2]["energy_kept"]
    changed = json.loads(run.stdout)["changed_when_free"]
    assert changed == {"crystals": 1, "other_space_group": 1}


def test_the_command_refuses_bad_input_before_it_starts(tmp_path: Path) -> None:
    from crystalformer_rl.errors import InputError

    missing = CliRunner().invoke(command, [str(tmp_path / "no.parquet"), "--out", str(tmp_path / "x.parquet")])
    assert isinstance(missing.exception, InputError)
    samples = tmp_path / "samples.parquet"
    _table(samples, [rock_salt()], ["ok"])
    arguments = [str(samples), "--potential", "chgnut", "--out", str(tmp_path / "x.parquet")]
    wrong = CliRunner().invoke(command, arguments)
    assert isinstance(wrong.exception, InputError)
    assert CliRunner().invoke(command, [str(samples), "--max-evaluations", "0", "--out", "x"]).exit_code == 2
    assert not (tmp_path / "x.parquet").exists()
