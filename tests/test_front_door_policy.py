"""Policies in a session: sampling, likelihoods and fine-tuning by name, beside a worker that has the potential."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk

import crystalformer_rl as cf
from crystalformer_rl.errors import InputError
from crystalformer_rl.front_door.workers import worker

pytestmark = pytest.mark.usefixtures("two_stages")


@pytest.fixture(scope="module")
def policy() -> cf.Policy:
    return cf.load_policy("embedded")


def test_samples_have_the_formula_and_depend_on_seed_and_number_alone(policy: cf.Policy) -> None:
    crystals = policy.sample(6, seed=1, formula="Li3YCl6", progress=False)
    assert set(crystals["formula"]) == {"Li3YCl6"}
    later = policy.sample(3, seed=1, offset=3, formula="Li3YCl6", progress=False)
    assert later["id"].tolist() == crystals["id"].tolist()[3:]
    np.testing.assert_array_equal(later["log_prob"], crystals["log_prob"][3:])
    with pytest.raises(InputError, match="'Xx' is not an element symbol"):
        policy.sample(1, elements=["Xx"])
    found = policy.log_prob(crystals)
    np.testing.assert_allclose(found["log_prob"], crystals["log_prob"], atol=2e-3)
    assert policy.log_prob([bulk("Si")])["status"].tolist() == ["ok"]


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"n": 0}, "'n' is 0"),
        ({"n": 2.5}, "'n' is 2.5"),
        ({"seed": -1}, "'seed' is -1"),
        ({"offset": -3}, "'offset' is -3"),
        ({"temperature": 0}, "'temperature' is 0"),
        ({"top_p": 2.0}, "'top_p' is 2.0"),
        ({"site_elements": {"!": ["Na"]}}, "'!' is not a Wyckoff letter"),
    ],
)
def test_requests_out_of_bounds_are_one_sentence(policy: cf.Policy, asked: dict[str, object], says: str) -> None:
    with pytest.raises(InputError, match=says):
        policy.sample(**{"n": 1, "progress": False, **asked})  # type: ignore[arg-type]


@pytest.mark.slow
def test_likelihoods_of_tokens_alone_are_those_of_the_samples(policy: cf.Policy) -> None:
    samples = policy.sample(4, seed=2, elements="Na, Cl", progress=False)
    names = ["id", "space_group", "wyckoff", "elements", "site_frac_coords", "lattice_parameters"]
    tokens = samples[names].rename(columns={"site_frac_coords": "frac_coords"})
    np.testing.assert_array_equal(policy.log_prob(tokens)["log_prob"], policy.log_prob(samples)["log_prob"])
    assert {z for numbers in samples["atomic_numbers"] for z in numbers} <= {11, 17}


def test_a_policy_comes_back_from_its_file(policy: cf.Policy, tmp_path: Path) -> None:
    policy.save(tmp_path / "policy.safetensors")
    again = cf.load_policy(tmp_path / "policy.safetensors")
    assert again.card == policy.card
    first, second = (p.sample(2, seed=3, progress=False)["log_prob"] for p in (policy, again))
    np.testing.assert_array_equal(first, second)
    with pytest.raises(InputError, match="neither a resource nor an existing path"):
        cf.load_policy("nothing")


def test_a_short_fine_tuning_moves_the_policy(policy: cf.Policy) -> None:
    # The session's worker scores, and goes on afterwards.
    before = worker("chgnet")
    assert before.identity.name
    assert before._process is not None
    pid = before._process.pid
    tuned = cf.finetune(policy, updates=1, rounds=2, batch=8, unscored=8, progress=False)
    assert worker("chgnet")._process.pid == pid  # type: ignore[union-attr]
    assert tuned.updates["update"].tolist() == [1, 2]
    assert len(tuned.crystals) == 16
    assert tuned.crystals["reward"].notna().all()
    assert tuned.policy.card["updates"] == 2
    moved = np.abs(np.asarray(tuned.policy.network.head.b) - np.asarray(policy.network.head.b)).max()
    assert moved > 0
    with pytest.raises(InputError, match="'algorithm' is wrong: 'pppo' is not an objective; did you mean 'ppo'"):
        cf.finetune(policy, algorithm="pppo")
