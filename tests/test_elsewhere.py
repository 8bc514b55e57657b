"""Potentials in environments of their own: the same answers as here, SevenNet against its own calculator, the bias, the command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner
from potential_examples import lonely_atom, off_minimum, perovskite, quartz, rock_salt, rutile, two_close_atoms

from crystalformer_rl.cli import cli
from crystalformer_rl.crystal.structure import Crystal
from crystalformer_rl.crystal.tokens import primitive
from crystalformer_rl.errors import InputError
from crystalformer_rl.potential import load, load_here
from crystalformer_rl.potential.bias_measurement import NoBiasError, measure_bias
from crystalformer_rl.potential.contract import measure_laws
from crystalformer_rl.potential.environments import FOLDER_VARIABLE, Environment, environment, make
from crystalformer_rl.potential.potential_registry import environment_of, fingerprint
from crystalformer_rl.potential.protocol import Evaluation, Potential
from crystalformer_rl.potential.stored_biases import store_bias, stored_bias
from crystalformer_rl.reference.bias import Bias
from crystalformer_rl.reference.identity import Corrections, Functional, PotentialIdentity
from crystalformer_rl.rewards.reward_settings import RewardSettings
from crystalformer_rl.scoring.scorer import open_scoring

REFERENCE = Path(__file__).resolve().parents[1] / "resources" / "embedded" / "reference.parquet"
OFF_MINIMUM = [off_minimum(primitive(s), k) for k, s in enumerate((rock_salt(), rutile(), perovskite(), quartz()))]

CALCULATOR = """
import os, signal
from ase.calculators.calculator import all_changes
from ase.calculators.lj import LennardJones

class Springs(LennardJones):
    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        if len(atoms) == 7:
            os.kill(os.getpid(), signal.SIGKILL)
        super().calculate(atoms, properties, system_changes)
        self.results["energy"] += float(os.path.realpath(os.sys.prefix) == os.path.realpath({prefix!r}))

def springs():
    return Springs(sigma=2.0, epsilon=0.05, rc=6.0)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of environments with one that was made for a calculator, which says by 1 eV that it runs there."""
    place = tmp_path_factory.mktemp("potentials")
    made = Environment(place / "ase-my_springs")
    make(made, "ase:my_springs:springs", [])
    (place / "my_springs.py").write_text(CALCULATOR.format(prefix=str(made.folder)), encoding="utf-8")
    return place


@pytest.fixture
def elsewhere(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(FOLDER_VARIABLE, str(folder))
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    return folder


def test_a_potential_elsewhere_answers_as_here(elsewhere: Path) -> None:
    name = "ase:my_springs:springs"
    there, here = load(name), load_here(name)
    assert there.identity == here.identity
    for found, expected in zip(there.evaluate(OFF_MINIMUM), here.evaluate(OFF_MINIMUM), strict=True):
        assert isinstance(found, Evaluation)
        assert isinstance(expected, Evaluation)
        n = len(expected.forces) if expected.forces is not None else 0
        assert found.energy == pytest.approx(expected.energy + 1 / n, abs=1e-12)  # it runs in the other Python
        np.testing.assert_array_equal(found.forces, expected.forces)
        np.testing.assert_array_equal(found.stress, expected.stress)
    (without,) = there.evaluate(OFF_MINIMUM[:1], forces=False)
    assert isinstance(without, Evaluation)
    assert without.forces is None


def test_bad_and_deadly_crystals_leave_the_others_alone(elsewhere: Path) -> None:
    deadly = Crystal(np.full(7, 14), np.linspace(0, 0.86, 7)[:, None] * [1, 0, 0], np.diag([21.0, 4, 4]))
    crystals = [OFF_MINIMUM[0], two_close_atoms(), deadly, OFF_MINIMUM[1]]
    first, close, killed, last = load("ase:my_springs:springs").evaluate(crystals)
    assert isinstance(first, Evaluation)
    assert isinstance(last, Evaluation)
    assert (close, killed) == ("overlapping_atoms", "out_of_memory")


def test_what_an_environment_sees(elsewhere: Path) -> None:
    place = environment("ase:my_springs")
    code = "import crystalformer_rl, numpy, sys; print(crystalformer_rl.__file__); print(numpy.__file__); print(sys.prefix)"
    done = subprocess.run(
        [str(place.python), "-c", code], env={**os.environ, **place.variables()}, capture_output=True, text=True, check=True
    )
    package, numpy, prefix = done.stdout.splitlines()
    assert Path(package).resolve() == Path(sys.modules["crystalformer_rl"].__file__ or "").resolve()
    assert Path(numpy) == Path(np.__file__)  # shared, as long as pip need not install another
    assert Path(prefix).name == "ase-my_springs"


def test_an_environment_that_fails_leaves_the_old_one(elsewhere: Path) -> None:
    place = environment("ase:my_springs")
    before = place.record()
    with pytest.raises(InputError, match="pip failed"):
        make(place, "ase:my_springs:springs", ["/there/is/no/such/package"])
    assert place.record() == before
    assert not list(elsewhere.glob("*.new"))


def test_a_potential_that_is_nowhere_names_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    with pytest.raises(InputError, match="`crystalformer-rl potential install sevennet-0` makes it"):
        load("sevennet-0")
    assert environment_of("chgnet") is None
    assert fingerprint("sevennet-0")["package"] == "sevenn"
    listed = json.loads(CliRunner().invoke(cli, ["potential", "list", "--json"]).stdout)["potentials"]
    where = {row["name"]: row["where"] for row in listed}
    assert "potential install sevennet-l3i5" in where["sevennet-l3i5"]
    assert where["chgnet"] == "in this environment, chgnet"


def test_a_stored_bias_is_found_by_identity(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    one, other = PotentialIdentity("a", "1" * 64), PotentialIdentity("a", "2" * 64)
    bias = Bias("scale", {3: 0.01}, {3: 0.02}, 60, 0.005, 0.02, 0.3)
    path = store_bias(one, bias)
    assert stored_bias(one) == bias
    assert stored_bias(other) is None
    path.write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match="measure the bias again"):
        stored_bias(one)


class Shifted:
    """The reference's own stored energies, moved by 30 meV for each atom of oxygen."""

    def __init__(self, potential: Potential, identity: PotentialIdentity) -> None:
        self._potential, self.identity = potential, identity

    def evaluate(self, crystals, *, forces: bool = True):
        found = self._potential.evaluate(crystals, forces=False)
        oxygen = [float(np.mean(c.atomic_numbers == 8)) for c in crystals]
        return [f if isinstance(f, str) else Evaluation(f.energy + 0.03 * x) for f, x in zip(found, oxygen, strict=True)]

    def embed(self, crystals):
        raise NotImplementedError


def test_the_bias_of_a_potential_is_found_again() -> None:
    """CHGNet's own bias is small; 30 meV added for oxygen come back as its shift."""
    pytest.importorskip("chgnet", reason="the default potential is not installed")
    chgnet = load("chgnet")
    plain = measure_bias(chgnet, REFERENCE)
    assert plain.entries > 180
    assert plain.residual_median < 0.03
    moved = measure_bias(Shifted(chgnet, chgnet.identity), REFERENCE)
    assert moved.shifts[8] - plain.shifts[8] == pytest.approx(0.03, abs=0.008)
    with pytest.raises(NoBiasError, match="r2SCAN"):
        measure_bias(SimpleNamespace(identity=PotentialIdentity("x", "1", Functional.R2SCAN, Corrections.NONE)), REFERENCE)  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def sevennet() -> Potential:
    """SevenNet in its environment, which is made where it is not there; about a minute."""
    try:
        return load("sevennet-0")
    except InputError:
        done = CliRunner().invoke(cli, ["potential", "install", "sevennet-0"])
        if done.exit_code:
            pytest.skip(f"SevenNet cannot be installed here: {done.exception}")
        return load("sevennet-0")


def test_sevennet_keeps_the_laws(sevennet: Potential) -> None:
    assert measure_laws(sevennet, OFF_MINIMUM[:3]).broken() == {}
    assert (sevennet.identity.functional, sevennet.identity.corrections) == (Functional.PBE, Corrections.NONE)
    facts = fingerprint("sevennet-0")
    assert facts["package"].startswith("sevenn 0.13")
    assert len(facts["sha256"]) == 64


def test_sevennet_is_its_own_calculator(sevennet: Potential, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package's ASE calculator, in the same environment, one crystal after the other."""
    place = environment_of("sevennet-0")
    assert place is not None
    (tmp_path / "their_calculator.py").write_text(
        "from sevenn.calculator import SevenNetCalculator\n"
        "def zero():\n    return SevenNetCalculator('7net-0', device='cpu')\n",
        encoding="utf-8",
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "potentials"))
    (tmp_path / "potentials").mkdir()
    (tmp_path / "potentials" / "ase-their_calculator").symlink_to(place.folder, target_is_directory=True)
    theirs = load("ase:their_calculator:zero").evaluate(OFF_MINIMUM)
    for found, expected in zip(sevennet.evaluate(OFF_MINIMUM), theirs, strict=True):
        assert isinstance(found, Evaluation)
        assert isinstance(expected, Evaluation)
        assert found.energy == pytest.approx(expected.energy, abs=2e-6)
        np.testing.assert_allclose(found.forces, expected.forces, atol=5e-6)  # type: ignore[arg-type]
        np.testing.assert_allclose(found.stress, expected.stress, atol=1e-6)  # type: ignore[arg-type]


def test_sevennet_has_features_and_statuses(sevennet: Potential) -> None:
    features = sevennet.embed([OFF_MINIMUM[0], lonely_atom(), OFF_MINIMUM[1]])
    assert np.isfinite(features[[0, 2]]).all()
    assert np.isnan(features[1]).all()
    doubled = Crystal(
        np.tile(OFF_MINIMUM[0].atomic_numbers, 2),
        np.concatenate([OFF_MINIMUM[0].frac_coords * [0.5, 1, 1], OFF_MINIMUM[0].frac_coords * [0.5, 1, 1] + [0.5, 0, 0]]),
        OFF_MINIMUM[0].lattice * [[2], [1], [1]],
    )
    np.testing.assert_allclose(sevennet.embed([doubled])[0], features[0], atol=1e-4)
    californium = Crystal(np.array([98, 17]), np.array([[0, 0, 0], [0.5, 0.5, 0.5]]), np.eye(3) * 4)
    assert sevennet.evaluate([lonely_atom(), californium]) == ["isolated_atoms", "unsupported_element"]


def test_sevennet_stands_on_the_embedded_hull(sevennet: Potential) -> None:
    """Its energies with MP2020 corrections and its stored bias; textbook phases lie near the hull."""
    import crystalformer_rl as cf

    if stored_bias(sevennet.identity) is None:
        store_bias(sevennet.identity, measure_bias(sevennet, REFERENCE))
    crystals = [primitive(s) for s in (rock_salt(), rutile(), perovskite(), quartz())]
    found = cf.evaluate(crystals, potential="sevennet-0", models=None, progress=False)
    assert found["status"].tolist() == ["ok"] * 4
    assert found["e_above_hull"].between(-0.05, 0.08).all(), found[["formula", "e_above_hull"]]
    assert found["e_above_hull_std"].between(0.001, 0.1).all()


def test_sevennet_judges(sevennet: Potential) -> None:
    """It relaxes what CHGNet relaxed, on the same hull; of textbook phases both say that they are stable."""
    import crystalformer_rl as cf

    if stored_bias(sevennet.identity) is None:
        store_bias(sevennet.identity, measure_bias(sevennet, REFERENCE))
    crystals = [primitive(s) for s in (rock_salt(), perovskite())]
    found = cf.evaluate(crystals, judge="sevennet-0", models=None, progress=False)
    assert found["judge"].tolist() == ["SevenNet 7net-0"] * 2
    assert found["judge_e_above_hull"].between(-0.05, 0.08).all()
    np.testing.assert_allclose(found["judge_disagreement"], found["judge_e_above_hull"] - found["e_above_hull"])
    assert (found["p_stable_judged"] > 0.9).all()
    assert found.attrs["metrics"]["confirmed_count"] == 2
    alone = cf.evaluate(crystals, potential="sevennet-0", models=None, progress=False)
    np.testing.assert_allclose(alone["e_above_hull"], found["judge_e_above_hull"], atol=0.003)
    # nothing was learned of its errors, so its bias alone gives the probabilities
    assert alone["e_above_hull_expected"].isna().all()
    assert (alone["p_stable"] > 0.9).all()


def test_sevennet_rewards_on_the_embedded_reference(sevennet: Potential) -> None:
    """Crystals as sampled earn by the distance that `evaluate` finds of them: corrected, and moved by the stored bias."""
    import crystalformer_rl as cf

    if stored_bias(sevennet.identity) is None:
        store_bias(sevennet.identity, measure_bias(sevennet, REFERENCE))
    crystals = [rock_salt(5.5), rutile(), perovskite()]
    with open_scoring(RewardSettings(), "sevennet-0", str(REFERENCE), None, None) as (score, identity):
        found = score(crystals, ["ok"] * 3)
    assert identity == sevennet.identity
    expected = cf.evaluate([primitive(s) for s in crystals], potential="sevennet-0", models=None, progress=False)
    np.testing.assert_allclose(found.figures["e_above_hull"], expected["e_above_hull_initial"], atol=1e-4)
    done = CliRunner().invoke(cli, ["check-reference", "--reference", str(REFERENCE), "--potential", "sevennet-0"])
    assert done.exit_code == 0
    assert "is of another potential: its DFT energies compete" in done.output
