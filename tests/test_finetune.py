"""Fine-tuning: gradients against REINFORCE, rewards that rise, rounds that go on to the same bytes."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from policy_examples import small_policy

from crystalformer_rl.artifacts import sha256
from crystalformer_rl.config import FinetuneConfig
from crystalformer_rl.errors import InputError
from crystalformer_rl.finetune.advantages import Baseline, advantages, regularized_reward
from crystalformer_rl.finetune.loop import run_round
from crystalformer_rl.finetune.objectives import ppo
from crystalformer_rl.finetune.record import rollouts_table, updates_table
from crystalformer_rl.finetune.rollout import Scores, log_probs, split_by_length
from crystalformer_rl.finetune.state import first_state, load_state, save_state
from crystalformer_rl.policy.checkpoint import load_policy, save_policy
from crystalformer_rl.policy.constraints import Behaviour
from crystalformer_rl.policy.sampler import sample

WEIGHTS = [float(g in (225, 221, 2)) for g in range(1, 231)]
SETTINGS = FinetuneConfig(updates=2, batch=64, learning_rate=0.01, tau=0.01, inner_epochs=3, trainable="all")


def oxygen(sites, statuses) -> Scores:
    """Rewards the fraction of sites that hold one of the lighter elements; no potential needed."""
    reward = np.array([-1.0 if s is None else float(np.mean(s.elements < 40)) for s in sites])
    failed = np.where([s is None for s in sites], np.nan, 0.0)
    return Scores(reward, failed, failed, failed, np.zeros(len(sites), bool), list(statuses), len(sites))


def test_ppo_at_ratio_one_is_the_policy_gradient():
    theta, advantage = jnp.array([0.3, -1.2, 0.5]), jnp.array([1.0, -2.0, 0.5])
    gradient = jax.grad(lambda t: ppo(t, theta, advantage, 0.2).value.sum())(theta)
    np.testing.assert_allclose(gradient, -advantage)


@pytest.mark.parametrize(
    ("shift", "advantage", "held_back"), [(0.5, 1, True), (-0.5, 1, False), (0.5, -1, False), (-0.5, -1, True)]
)
def test_the_clip_holds_back_only_what_went_too_far(shift, advantage, held_back):
    old, advantage = jnp.zeros(1), jnp.full(1, float(advantage))
    loss = ppo(old + shift, old, advantage, 0.2)
    gradient = jax.grad(lambda x: ppo(x, old, advantage, 0.2).value.sum())(old + shift)
    assert bool(loss.clipped[0]) == held_back
    assert (float(gradient[0]) == 0) == held_back


def test_kl_term_has_its_optimum_at_the_published_policy():
    """On four crystals, r − τ ln(p/p_base) is the same for each when p = p_base exp(r/τ)/Z."""
    base, reward, tau = np.array([0.4, 0.3, 0.2, 0.1]), np.array([0.1, -0.3, 0.5, 0.0]), 0.2
    best = base * np.exp(reward / tau)
    best /= best.sum()
    value = regularized_reward(reward, np.log(best), np.log(base), tau)
    np.testing.assert_allclose(value, value[0])
    assert not np.allclose(regularized_reward(reward, np.log(base), np.log(base), tau), value)


def test_baseline_takes_out_the_space_group_and_never_the_crystal_itself():
    random = np.random.default_rng(0)
    groups = random.choice([2, 62, 225], 3000)
    credit = random.normal(size=3000)
    values = 0.1 * groups + credit
    advantage, baseline = advantages(Baseline.empty(), values, groups, 0.9)
    assert np.std(advantage - credit) < 0.1 < 5 < np.std(values)
    again = values.copy()
    again[0] += 1
    moved, _ = advantages(Baseline.empty(), again, groups, 0.9)
    assert moved[0] - advantage[0] == pytest.approx(1)
    assert baseline.mean == pytest.approx(values.mean())
    _, later = advantages(baseline, values, groups, 0.9)
    assert later.seen.sum() == pytest.approx(1.9 * 3000)


def test_log_probs_in_parts_are_those_of_the_samples():
    drawn = sample(small_policy(), 1, range(64), WEIGHTS, Behaviour.make())
    parts = split_by_length(drawn.tokens)
    assert sorted(np.concatenate([p.rows for p in parts])) == list(range(64))
    np.testing.assert_allclose(log_probs(small_policy(), parts, 64), drawn.log_prob, atol=2e-3)


def test_reward_rises_and_divergence_with_it():
    settings = SETTINGS.model_copy(update={"updates": 8})
    _, updates = run_round(first_state(small_policy(), 0.01), small_policy(), settings, oxygen, WEIGHTS, 0)
    rewards = [u.scores.reward.mean() for u in updates]
    divergence = [np.mean(u.rollout.samples.behaviour_log_prob - u.base_log_prob) for u in updates]
    assert np.mean(rewards[-2:]) > np.mean(rewards[:2]) + 0.1
    assert abs(divergence[0]) < 1e-3 < divergence[-1]


def test_a_round_goes_on_where_the_last_ended(tmp_path):
    """Two rounds through files are two rounds in one process, to the last bit."""
    base = small_policy()
    between, _ = run_round(first_state(base, 0.01), base, SETTINGS, oxygen, WEIGHTS, 0)
    whole, updates = run_round(between, base, SETTINGS, oxygen, WEIGHTS, 0)

    save_policy(tmp_path / "policy.safetensors", between.policy, {})
    digest = sha256(tmp_path / "policy.safetensors")
    save_state(tmp_path / "state.safetensors", between, 1, "base", digest)
    policy, _ = load_policy(tmp_path / "policy.safetensors")
    restored = load_state(tmp_path / "state.safetensors", policy, 0.01, 2, "base", digest)
    resumed, again = run_round(restored, base, SETTINGS, oxygen, WEIGHTS, 0)

    assert eqx.tree_equal(resumed.policy, whole.policy)
    assert eqx.tree_equal(resumed.optimizer, whole.optimizer)
    assert eqx.tree_equal(resumed.baseline, whole.baseline)
    assert resumed[3:] == whole[3:]
    assert rollouts_table(again, 2, 0).equals(rollouts_table(updates, 2, 0))
    assert updates_table(again, 2).column("update").to_pylist() == [3, 4]
    ids = rollouts_table(updates, 2, 0).column("id").to_pylist()
    assert ids[0] == "f0-128"
    assert len(set(ids)) == 128

    for wrong, says in (
        ((2, "other", digest), "another base policy"),
        ((2, "base", "other"), "not of one round"),
        ((3, "base", digest), "after round 1"),
    ):
        with pytest.raises(InputError, match=says):
            load_state(tmp_path / "state.safetensors", policy, 0.01, *wrong)
    with pytest.raises(InputError, match="no state of fine-tuning"):
        load_state(tmp_path / "policy.safetensors", policy, 0.01, 2, "base", digest)


def test_failures_stay_and_earn_their_penalty():
    def fails(sites, statuses):
        scores = oxygen(sites, statuses)
        status = ["potential_failed" if i % 3 == 0 else s for i, s in enumerate(statuses)]
        nothing = np.where([s != "ok" for s in status], np.nan, 0.1)
        return scores._replace(status=status, energy=nothing, e_above_hull=nothing, formation_energy=nothing)

    _, updates = run_round(first_state(small_policy(), 0.01), small_policy(), SETTINGS, fails, WEIGHTS, 0)
    table = rollouts_table(updates, 1, 0)
    assert table.num_rows == 128
    rows = table.to_pylist()
    assert all((row["energy"] is None) == (row["status"] != "ok") for row in rows)
    assert all(np.isfinite(row["reward"]) for row in rows)
    assert updates_table(updates, 1).column("failed_fraction")[0].as_py() >= 1 / 3


def test_only_the_chosen_weights_move():
    """With `last_norm`, the last norm and the output's biases move, and nothing else does."""
    from crystalformer_rl.policy.checkpoint import named_arrays

    settings = SETTINGS.model_copy(update={"updates": 1, "trainable": "last_norm"})
    base = small_policy()
    end, _ = run_round(first_state(base, 0.01), base, settings, oxygen, WEIGHTS, 0)
    before, after = named_arrays(base), named_arrays(end.policy)
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed == {"final_norm.scale", "final_norm.offset", "head.b"}
