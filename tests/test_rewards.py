"""The stability reward: bounded, monotone, and honest about failures."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crystalformer_rl.artifacts import STATUSES
from crystalformer_rl.errors import InputError
from crystalformer_rl.hull import SUSPECT_BELOW, Entry, Hull
from crystalformer_rl.rewards import SCORES, StabilityReward, StabilitySettings, reward_terms

distances = st.lists(st.floats(-50, 50) | st.just(float("nan")), max_size=30)


def test_reward_is_minus_the_distance_within_bounds() -> None:
    rewards = reward_terms(np.array([0.0, 0.3, -0.05, -0.4, 7.0]), ["ok"] * 5)
    assert rewards.reward == pytest.approx([0.0, -0.3, 0.05, SUSPECT_BELOW, -1.0])
    assert rewards.clipped.tolist() == [False, False, False, True, True]
    assert rewards.terms["stability"] == pytest.approx([0.0, -0.3, 0.05, 0.4, -7.0])
    assert not np.signbit(rewards.reward[0])


def test_failures_earn_the_penalty_and_keep_their_status() -> None:
    statuses = ["ok", "collapsed", "ok", "no_crystal"]
    rewards = reward_terms(np.array([np.nan, -5.0, 0.1, np.nan]), statuses)
    assert rewards.reward == pytest.approx([-1.0, -1.0, -0.1, -1.0])
    assert rewards.failed.tolist() == [True, True, False, True]
    assert np.isnan(rewards.terms["stability"][[0, 1, 3]]).all()
    assert rewards.statuses == statuses
    assert reward_terms(np.array([np.nan]), ["ok"], StabilitySettings(failure_reward=-5.0)).reward == pytest.approx([-5.0])


@settings(deadline=None)
@given(distances, st.floats(0, 1), st.floats(0.01, 10))
def test_rewards_are_bounded_finite_and_fall_with_distance(values: list[float], below: float, above: float) -> None:
    bounds = StabilitySettings(most_below=below, most_above=above)
    rewards = reward_terms(np.array(values), ["ok"] * len(values), bounds)
    assert np.all(np.isfinite(rewards.reward))
    assert np.all((rewards.reward >= -above) & (rewards.reward <= below))
    judged = rewards.reward[np.argsort(np.array(values))][: int(np.isfinite(values).sum())]  # NaN sorts last
    assert np.all(np.diff(judged) <= 0)
    assert np.all(rewards.reward[rewards.failed] == bounds.reward_of_failure)


@pytest.mark.parametrize("bounds", [{"most_below": -0.1}, {"most_above": 0.0}, {"most_above": float("inf")}])
def test_bounds_that_make_no_interval_are_refused(bounds: dict[str, float]) -> None:
    with pytest.raises(InputError, match="most_below"):
        StabilitySettings(**bounds)
    with pytest.raises(InputError, match="failure_reward"):
        StabilitySettings(failure_reward=float("nan"))


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match="2 statuses"):
        reward_terms(np.array([0.1]), ["ok", "ok"])


def test_scores_come_from_the_hull() -> None:
    hull = Hull([Entry("NaCl", {11: 1, 17: 1}, -1.0)], {"Na": -1.25, "Cl": -1.75})
    score = StabilityReward(hull, StabilitySettings(most_above=1.5)).score(
        [[11, 17], np.array([11, 17]), [11, 11, 17], None, [11, 17], [11, 92], [11, 17]],
        [-2.4, -2.8, -1.0, None, float("nan"), -3.0, -2.4],
        ["ok", "ok", "ok", "no_crystal", "ok", "ok", "collapsed"],
    )
    assert score.schema.names == [column.name for column in SCORES]
    assert score.schema.field("reward").metadata[b"unit"] == b"eV/atom"
    rows = score.to_pylist()
    assert [row["status"] for row in rows] == [
        "ok",
        "ok",
        "ok",
        "no_crystal",
        "potential_failed",
        "no_reference_energy",
        "collapsed",
    ]
    assert {row["status"] for row in rows} <= set(STATUSES)
    assert [row["formation_energy"] for row in rows[:2]] == pytest.approx([-0.9, -1.3])
    assert [row["e_above_hull"] for row in rows[:3]] == pytest.approx([0.1, -0.3, -1.0 + 4.25 / 3 + 2 / 3])
    assert [row["suspect"] for row in rows] == [False, True, False, None, None, None, None]
    assert [row["reward"] for row in rows] == pytest.approx([-0.1, 0.1, -(4.25 / 3 + 2 / 3 - 1.0), -1.5, -1.5, -1.5, -1.5])
    assert all(row["e_above_hull"] is None and row["formation_energy"] is None for row in rows[3:])


def test_energies_as_an_array_and_an_empty_batch() -> None:
    reward = StabilityReward(Hull([], {"Na": -1.25}))
    assert reward.score([[11]], np.array([-1.0]), ["ok"]).column("reward").to_pylist() == pytest.approx([-0.25])
    assert reward.score([], [], []).num_rows == 0
