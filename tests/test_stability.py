"""Probabilities of being stable: the distribution, its fit, the errors behind it, and what they say of textbook crystals."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner
from potential_examples import perovskite, rock_salt
from scipy.stats import norm
from scipy.stats import t as student

from crystalformer_rl.cli import cli
from crystalformer_rl.crystal.structure import Crystal
from crystalformer_rl.crystal.tokens import primitive
from crystalformer_rl.errors import InputError
from crystalformer_rl.hull.chances import freedom
from crystalformer_rl.hull.probability import Calibration, Calibrations, at_or_below, normal_probability
from crystalformer_rl.hull.probability_fit import brier_skill, f1, fit, reliability
from crystalformer_rl.hull.stability import judged_word
from crystalformer_rl.potential import load
from crystalformer_rl.properties import energy_errors
from crystalformer_rl.properties.energy_errors import EnergyErrors
from crystalformer_rl.resources.registry import embedded_folder
from crystalformer_rl.resources.stability_file import FORMAT
from crystalformer_rl.rewards.reward_settings import RewardSettings, TermSettings
from crystalformer_rl.scoring.scorer import open_scoring
from crystalformer_rl.tables.provenance import record_of

STABILITY = embedded_folder() / "stability.safetensors"
REFERENCE = embedded_folder() / "reference.parquet"


def figures(n: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "height": rng.normal(0.08, 0.12, n),
        "error": rng.normal(0.0, 0.05, n),
        "applicability": rng.uniform(0.0, 2.0, n),
        "std": rng.uniform(0.01, 0.1, n),
        "support": rng.integers(0, 60, n).astype(float),
        "positional": rng.integers(0, 9, n).astype(float),
        "strains": rng.integers(1, 7, n).astype(float),
        "atoms": rng.integers(1, 20, n).astype(float),
        "elements": rng.integers(1, 5, n).astype(float),
        "known": np.zeros(n),
        "offset": np.zeros(n),
    }


def test_the_distribution_is_students() -> None:
    x = np.linspace(-30, 30, 501)
    np.testing.assert_allclose(at_or_below(0.0, -0.05 * x, np.full(501, np.log(0.05)), 0.0), student.cdf(x, 4), atol=1e-12)
    # a skew stretches one side and squeezes the other, and moves nothing at the centre
    skewed = at_or_below(0.0, np.array([0.1, 0.0, -0.1]), np.full(3, np.log(0.05)), 0.6)
    np.testing.assert_allclose(skewed, student.cdf([-2 * np.exp(0.3), 0.0, 2 * np.exp(-0.3)], 4), atol=1e-12)


def test_more_room_is_never_less_probable() -> None:
    calibrations = Calibrations.read(STABILITY)
    given = figures(500) | {"disagreement": np.random.default_rng(1).normal(0, 0.05, 500)}
    given["known"][::3] = 1.0
    for judged in (False, True):
        chances = np.stack([calibrations.at_rest(given, t, judged=judged) for t in (-0.1, 0.0, 0.05, 0.1, 0.3)])
        assert np.all((chances >= 0) & (chances <= 1))
        assert np.all(np.diff(chances, axis=0) >= 0)


def test_a_fit_finds_the_law_that_made_its_labels() -> None:
    """Labels drawn from a known distribution: fitted probabilities are its own, on crystals that the fit did not see."""
    law = Calibration({"constant": 0.01, "error": 0.3}, {"constant": -3.2, "bias": 0.5}, 0.0)
    seen, unseen = figures(6000), figures(4000, seed=1)
    widths = np.exp(-3.2) * (seen["std"] / 0.04) ** 0.5
    labels = seen["height"] + 0.01 + 0.3 * seen["error"] + widths * student.rvs(4, size=6000, random_state=2)
    found = fit(seen, labels, ("constant", "error", "above"), ("constant", "bias", "elements"))
    for threshold in (0.0, 0.1):
        difference = found.probability(unseen, threshold) - law.probability(unseen, threshold)
        assert np.abs(difference).mean() < 0.015
        assert np.abs(difference).max() < 0.1


def test_scores_by_hand() -> None:
    probability, truth = np.array([0.9, 0.8, 0.3, 0.05]), np.array([True, False, True, False])
    assert brier_skill(probability, truth) == pytest.approx(1 - ((0.01 + 0.64 + 0.49 + 0.0025) / 4) / 0.25)
    assert f1(probability >= 0.5, truth) == pytest.approx(0.5)
    tenths = reliability(probability, truth)
    assert [n for n, _, _ in tenths] == [1, 0, 0, 1, 0, 0, 0, 0, 1, 1]
    assert tenths[3][1:] == (0.3, 1.0)


def test_without_what_was_learned_the_bias_decides() -> None:
    height, std = np.array([0.05, 0.2, np.nan, 0.0]), np.array([0.02, 0.05, 0.1, np.nan])
    found = normal_probability(height, std, 0.1)
    np.testing.assert_allclose(found[:2], norm.cdf([2.5, -2.0]))
    assert np.isnan(found[2:]).all()


def test_what_symmetry_leaves_free() -> None:
    """Rock salt has one degree of freedom; a triclinic crystal of two atoms six strains and six coordinates."""
    found = freedom([[11, 17], [11, 17], None], [225, 1, None], [[1, 2], [1, 1], None])
    np.testing.assert_array_equal(found["positional"][:2], [0, 6])
    np.testing.assert_array_equal(found["strains"][:2], [1, 6])
    assert np.isnan(found["positional"][2])


def learned(n: int = 300) -> tuple[EnergyErrors, list[np.ndarray], np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    numbers = [rng.choice([8, 12, 22, 38], 4) for _ in range(n)]
    rows = rng.normal(size=(n, 12))
    errors = 0.05 * rows[:, 0] + np.array([0.1 * np.mean(z == 8) for z in numbers])
    header = {"format": FORMAT, "potential": {"weights_sha256": "a"}, "judge": {"weights_sha256": "b"}, "calibrations": {}}
    return energy_errors.fit(numbers, rows, errors, np.arange(n), header), numbers, rows, errors


def test_errors_are_learned_of_composition_and_surroundings(tmp_path: Path) -> None:
    model, numbers, rows, errors = learned()
    found, applicability = model.predict(numbers, rows)
    assert np.abs(found - errors).mean() < 0.3 * np.abs(errors - np.median(errors)).mean()
    np.testing.assert_allclose(applicability, 0.0, atol=1e-5)
    # neither the order of the atoms nor the size of the cell says anything
    turned, _ = model.predict([np.tile(z[::-1], 2) for z in numbers], rows)
    np.testing.assert_allclose(turned, found, atol=1e-12)
    far, distance = model.predict(numbers[:1], rows[:1] + 50.0)
    assert distance[0] > 1.0
    assert far[0] == pytest.approx(model.offset, abs=0.01)
    unknown, _ = model.predict(numbers[:1], np.full((1, 12), np.nan))
    assert np.isnan(unknown).all()
    model.save(tmp_path / "kept.safetensors")
    again, _ = EnergyErrors.load(tmp_path / "kept.safetensors").predict(numbers, rows)
    np.testing.assert_allclose(again, found, atol=1e-6)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "does not exist"),
        (b"no such thing", "is not a readable safetensors file"),
        ("models", "holds nothing of stability"),
    ],
)
def test_another_file_is_refused_in_a_sentence(content: bytes | str | None, words: str, tmp_path: Path) -> None:
    path = tmp_path / "given.safetensors"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content:
        path = embedded_folder() / "properties.safetensors"
    with pytest.raises(InputError, match=words):
        Calibrations.read(path)
    with pytest.raises(InputError, match=words):
        EnergyErrors.load(path)


def test_textbook_crystals_are_stable_and_others_are_not(chgnet: object) -> None:
    """Salts and oxides are; magnesium oxide in the structure of caesium chloride is not."""
    import crystalformer_rl as cf

    known = [primitive(rock_salt()), primitive(perovskite())]
    squeezed = Crystal(np.array([12, 8]), np.array([[0.0, 0, 0], [0.5, 0.5, 0.5]]), np.eye(3) * 2.65)
    found = cf.evaluate([*known, squeezed], models=None, progress=False)
    assert found["status"].tolist() == ["ok"] * 3
    assert (found["p_stable"][:2] > 0.9).all(), found["p_stable"]
    assert found["p_stable"][2] < 0.06
    assert (found["p_on_hull"] <= found["p_stable"]).all()
    assert found["p_stable_initial"].between(0, 1).all()
    np.testing.assert_allclose(found.attrs["metrics"]["p_stable_mean"], found["p_stable"].mean())
    without = cf.evaluate(known, models=None, stability=None, progress=False)
    assert without["e_above_hull_expected"].isna().all()
    expected = normal_probability(without["e_above_hull"].to_numpy(), without["e_above_hull_std"].to_numpy(), 0.1)
    np.testing.assert_allclose(without["p_stable"], expected)


def test_a_reward_may_ask_for_the_probability(chgnet: object) -> None:
    from crystalformer_rl.potential.relaxation import sites_of

    reward = RewardSettings(terms=[TermSettings(term="p_stable")])
    with open_scoring(reward, "chgnet", str(REFERENCE), None, None, stability=str(STABILITY)) as (score, _):
        good, bad = (
            rock_salt(),
            sites_of(Crystal(np.array([12, 8]), np.array([[0.0, 0, 0], [0.5] * 3]), np.eye(3) * 2.3)),
        )
        found = score([good, bad], ["ok", "ok"])
    assert found.reward[0] > 0.7
    assert found.reward[1] < 0.5
    assert found.figures["p_stable"][0] == pytest.approx(found.reward[0])
    with (
        pytest.raises(InputError, match="nothing was learned of the errors"),
        open_scoring(reward, "chgnet", str(REFERENCE), None, None),
    ):
        pass


@pytest.mark.parametrize(
    ("first", "second", "word"),
    [
        (0.02, 0.05, "confirmed"),
        (-0.02, 0.09, "confirmed"),
        (0.09, 0.11, "confirmed"),
        (-0.055, -0.044, "confirmed"),
        (0.02, 0.2, "disagreement"),
        (-0.2, 0.0, "disagreement"),
        (0.0, -0.3, "disagreement"),
        (-0.2, -0.1, "incomplete_hull"),
        (0.3, 0.4, "confirmed"),
    ],
)
def test_what_a_second_opinion_comes_to(first: float, second: float, word: str) -> None:
    assert judged_word(first, second, 0.1) == word


def test_a_gpu_that_is_not_there_is_refused_in_a_sentence(tmp_path: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    runner = CliRunner()
    policy, out = str(embedded_folder() / "policy.safetensors"), str(tmp_path / "out")
    for arguments in (
        ["check-potential", "--device", "gpu"],
        ["sample", "--device", "gpu", "--policy", policy, "--n", "1", "--out", out],
        [
            "finetune",
            "--device",
            "gpu",
            "--policy",
            policy,
            "--base-policy",
            policy,
            "--reference",
            str(REFERENCE),
            "--out",
            out,
        ],
    ):
        done = runner.invoke(cli, arguments)
        assert isinstance(done.exception, InputError), arguments
        assert str(done.exception).startswith("the device is gpu, but ")
    done = runner.invoke(cli, ["check-potential"], env={"CRYSTALFORMER_RL_DEVICE": "gpu"})
    assert isinstance(done.exception, InputError)
    with pytest.raises(InputError, match="takes no device"):
        load("ase:ase.calculators.emt:EMT", device="gpu")


def test_a_table_says_how_its_probabilities_came_about(tmp_path: Path, chgnet: object) -> None:
    from crystalformer_rl.crystal.structure import crystal_columns
    from crystalformer_rl.stages.hull import hull
    from crystalformer_rl.stages.relax import relax
    from crystalformer_rl.tables.column import make_table
    from crystalformer_rl.tables.crystal_columns import CRYSTALS

    table = make_table(CRYSTALS, crystal_columns([primitive(rock_salt())]) | {"id": ["a"]})
    relaxed = relax(table, load("chgnet"), stability=STABILITY)
    assert relaxed.column("energy_error")[0].as_py() == pytest.approx(0.0, abs=0.1)
    for stability, origin in ((STABILITY, "learned"), (None, "normal")):
        found = hull(relaxed, REFERENCE, stability=stability)
        assert record_of(found)["probabilities"] == origin
        assert found.schema.field("p_stable").type == pa.float64()
    assert json.loads(json.dumps(record_of(found)))["stable_below"] == 0.1
