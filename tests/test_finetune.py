"""Fine-tuning: objectives against their formulas, rewards that rise, rounds that go on to the same bytes."""

from __future__ import annotations

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from policy_examples import log_prob, small_policy, with_real_lattices

from crystalformer_rl.errors import InputError
from crystalformer_rl.finetune.advantages import Baseline, advantages, worth
from crystalformer_rl.finetune.archive import FAMILIES, Archive
from crystalformer_rl.finetune.balance import targets
from crystalformer_rl.finetune.critic import expected_worth
from crystalformer_rl.finetune.divergence import adapted_tau, divergence, needed
from crystalformer_rl.finetune.finetune_settings import FinetuneSettings
from crystalformer_rl.finetune.learner import Learner, Lesson
from crystalformer_rl.finetune.loop import run_round
from crystalformer_rl.finetune.memory import Best, best_of, remembered, repeats
from crystalformer_rl.finetune.objectives import (
    DPO,
    GRPO,
    PPO,
    RLOO,
    SFT,
    ObjectiveSettings,
    RolloutBatch,
    TrajectoryBalance,
)
from crystalformer_rl.finetune.record import rollouts_table, updates_table
from crystalformer_rl.finetune.rollout import Scores, log_probs, parts_of, roll_out
from crystalformer_rl.finetune.state import Lineage, first_state, load_state, save_state
from crystalformer_rl.hull.stability import STABLE_BELOW
from crystalformer_rl.policy.batch import TokenBatch
from crystalformer_rl.policy.checkpoint import load_policy, named_arrays, read_safetensors, save_policy, write_safetensors
from crystalformer_rl.policy.constraints import Behaviour, allowed_elements
from crystalformer_rl.policy.sampler import sample
from crystalformer_rl.tables.provenance import sha256

pytestmark = pytest.mark.usefixtures("two_stages")

WEIGHTS = [float(g in (225, 221, 2)) for g in range(1, 231)]
SETTINGS = FinetuneSettings(
    algorithm="ppo", updates=2, batch=64, learning_rate=0.01, tau=0.01, inner_epochs=3, minibatches=1, average=0.0,
    learns="everything", density_temperature=1.0,
)  # fmt: skip


def light(sites, statuses) -> Scores:
    """Rewards the fraction of sites that hold one of the lighter elements; no potential needed."""
    reward = np.array([-1.0 if s is None else float(np.mean(s.elements < 40)) for s in sites])
    height = np.array([np.nan if s is None else 0.3 * (1 - r) for s, r in zip(sites, reward, strict=True)])
    none = np.zeros(len(sites), bool)
    figures = {"energy": height, "formation_energy": height, "e_above_hull": height}
    return Scores(reward, {"reward_light": reward}, figures, none, list(statuses), len(sites))


def with_settings(**changes) -> FinetuneSettings:
    return SETTINGS.model_copy(update=changes)


def facts(n: int = 12, seed: int = 0) -> RolloutBatch:
    random = np.random.default_rng(seed)
    old, base, advantage, reward = random.normal(size=(4, n))
    groups, none = random.choice([2, 62], n), np.zeros(n, int)
    return RolloutBatch(*(jnp.asarray(a) for a in (old, base, advantage, reward, groups, reward > 0, none)))


KNOBS = ObjectiveSettings(0.2, 0.1)


# --- objectives ---------------------------------------------------------------


@pytest.mark.parametrize("objective", [PPO(), RLOO()])
def test_at_ratio_one_the_gradient_is_the_policy_gradient(objective):
    given = facts()
    gradient = jax.grad(lambda t: objective.loss(t, given, KNOBS).value)(given.old_log_prob)
    np.testing.assert_allclose(gradient, -given.advantage / 12, rtol=1e-6)


@pytest.mark.parametrize(
    ("shift", "advantage", "clip_fraction"), [(0.5, 1, True), (-0.5, 1, False), (0.5, -1, False), (-0.5, -1, True)]
)
def test_the_clip_holds_back_only_what_went_too_far(shift, advantage, clip_fraction):
    given = facts(1)._replace(advantage=jnp.full(1, float(advantage)))
    moved = given.old_log_prob + shift
    gradient = jax.grad(lambda t: PPO().loss(t, given, KNOBS).value)(moved)
    assert bool(PPO().loss(moved, given, KNOBS).clip_fraction) == clip_fraction
    assert (float(gradient[0]) == 0) == clip_fraction
    assert float(jax.grad(lambda t: RLOO().loss(t, given, KNOBS).value)(moved)[0]) != 0


def test_grpo_pulls_back_to_the_base_policy():
    """Without advantages its minimum is the base policy, where the loss is zero."""
    given = facts()._replace(advantage=jnp.zeros(12))
    slope = jax.grad(lambda t: GRPO().loss(t, given, KNOBS).value)
    np.testing.assert_allclose(slope(given.base_log_prob), 0, atol=1e-7)
    np.testing.assert_array_equal(np.sign(slope(given.base_log_prob + 0.1)), 1)
    for far in (19.0, 21.0, 200.0):
        pull = slope(given.base_log_prob - far)
        assert np.all(np.isfinite(pull))
        assert np.all(pull < 0), "however far the policy has left it"
    assert float(GRPO().loss(given.base_log_prob, given, KNOBS).value) == pytest.approx(0, abs=1e-7)


def test_dpo_is_the_mean_over_pairs_of_one_space_group():
    given, log_prob = facts(), jnp.asarray(np.random.default_rng(1).normal(size=12))
    h = np.asarray(log_prob - given.base_log_prob)
    losses = []
    for i in range(12):
        for j in range(12):
            if given.reward[i] > given.reward[j] and given.space_group[i] == given.space_group[j]:
                likely = 1 / (1 + np.exp(-(given.reward[i] - given.reward[j]) / KNOBS.tau))
                losses.append(likely * np.log1p(np.exp(h[j] - h[i])) + (1 - likely) * np.log1p(np.exp(h[i] - h[j])))
    assert float(DPO().loss(log_prob, given, KNOBS).value) == pytest.approx(np.mean(losses), rel=1e-5)
    alone = given._replace(space_group=jnp.arange(12))
    assert float(DPO().loss(log_prob, alone, KNOBS).value) == 0


@pytest.mark.parametrize("objective", [DPO(), TrajectoryBalance()])
def test_at_the_optimum_of_the_goal_nothing_pulls(objective):
    """Ln p − ln p_base = r/τ − ln Z, so τ means the same to all objectives."""
    given = facts()._replace(space_group=jnp.full(12, 62))
    given = given._replace(reward=0.1 * given.reward, advantage=given.reward)
    optimum = given.base_log_prob + given.reward / KNOBS.tau - 0.7
    slope = jax.grad(lambda t: objective.loss(t, given, KNOBS).value)
    np.testing.assert_allclose(slope(optimum), 0, atol=1e-6)
    off = slope(optimum.at[3].add(0.5))
    assert int(jnp.argmax(off)) == 3
    assert float(off[3]) > 1e-3


def test_imitation_counts_stable_crystals_only():
    given = facts()
    log_prob = given.old_log_prob
    assert float(SFT().loss(log_prob, given, KNOBS).value) == pytest.approx(-float(log_prob[given.stable].mean()), rel=1e-5)
    assert float(SFT().loss(log_prob, given._replace(stable=jnp.zeros(12, bool)), KNOBS).value) == 0


def test_imitation_weighs_a_kind_less_each_time_it_comes():
    given = facts(4)._replace(stable=jnp.ones(4, bool), repeats=jnp.arange(4))
    gradient = jax.grad(lambda t: SFT().loss(t, given, KNOBS).value)(given.old_log_prob)
    np.testing.assert_allclose(gradient / gradient[0], [1, 1 / 2, 1 / 3, 1 / 4], rtol=1e-6)


# --- worth, baselines, divergence ----------------------------------------------


def test_kl_term_has_its_optimum_at_the_published_policy():
    """On four crystals, r − τ ln(p/p_base) is the same for each when p = p_base exp(r/τ)/Z."""
    base, reward, tau = np.array([0.4, 0.3, 0.2, 0.1]), np.array([0.1, -0.3, 0.5, 0.0]), 0.2
    best = base * np.exp(reward / tau)
    best /= best.sum()
    none = np.zeros(4, int)
    value = worth(reward, np.log(best), np.log(base), none, tau=tau)
    np.testing.assert_allclose(value, value[0])
    assert not np.allclose(worth(reward, np.log(base), np.log(base), none, tau=tau), value)


def test_entropy_bonus_makes_the_flat_policy_best_and_repeats_cost_more_each_time():
    flat, none = np.log(np.full(4, 0.25)), np.zeros(4, int)
    bonus = worth(np.zeros(4), flat, flat, none, tau=0.0, entropy=0.5)
    np.testing.assert_allclose(bonus, 0.5 * np.log(4))
    cost = -worth(np.zeros(3), np.zeros(3), np.zeros(3), np.array([0, 1, 3]), tau=0.0, repeat_penalty=0.2)
    np.testing.assert_allclose(cost, 0.2 * np.log([1, 2, 4]))


@pytest.mark.parametrize("name", ["space_group", "moving_average", "leave_one_out", "batch_space_group"])
def test_no_crystal_enters_its_own_baseline(name):
    random = np.random.default_rng(0)
    groups, values = random.choice([2, 62, 225], 40), random.normal(size=40)
    _, before = advantages(name, Baseline.empty(), random.normal(size=40), groups, 0.9)
    advantage, baseline = advantages(name, before, values, groups, 0.9)
    again = values.copy()
    again[0] += 1
    changed, _ = advantages(name, before, again, groups, 0.9)
    assert changed[0] - advantage[0] == pytest.approx(1)
    assert np.all(changed[1:] <= advantage[1:])
    assert baseline.seen.sum() == pytest.approx(1 if name == "moving_average" else 1.9 * 40)


def test_baselines_are_the_means_that_they_are_called():
    values, groups = np.array([1.0, 2.0, 6.0]), np.array([2, 2, 62])
    alone, _ = advantages("leave_one_out", Baseline.empty(), values, groups, 0.9)
    np.testing.assert_allclose(alone, [1 - 4, 2 - 3.5, 6 - 1.5])
    first, before = advantages("moving_average", Baseline.empty(), np.array([8.0, 12.0]), np.array([2, 2]), 0.5)
    np.testing.assert_allclose(first, [8 - 12, 12 - 8])
    moving, after = advantages("moving_average", before, values, groups, 0.5)
    np.testing.assert_allclose(moving, [1 - (10 + 4) / 2, 2 - (10 + 3.5) / 2, 6 - (10 + 1.5) / 2])
    assert (before.mean, after.mean) == (10, 6.5)


def test_the_moving_average_goes_as_published():
    """The first batch's mean, then 0.95 of what was and 0.05 of the new mean."""
    baseline, found = Baseline.empty(), []
    for mean in (-1.0, -0.2, -0.2):
        _, baseline = advantages("moving_average", baseline, np.full(4, mean), np.full(4, 225), 0.95)
        found.append(baseline.mean)
    np.testing.assert_allclose(found, [-1, -0.96, -0.922])


def test_the_space_group_is_taken_out():
    random = np.random.default_rng(0)
    groups, credit = random.choice([2, 62, 225], 3000), random.normal(size=3000)
    for name in ("space_group", "batch_space_group"):
        advantage, _ = advantages(name, Baseline.empty(), 0.1 * groups + credit, groups, 0.9)
        assert np.std(advantage - credit) < 0.1


def test_both_estimators_find_the_divergence_of_two_gaussians():
    """KL(N(m, 1) ‖ N(0, 1)) = m²/2; the stated errors are those of many repetitions."""
    random, found = np.random.default_rng(0), []
    for _ in range(400):
        x = 0.4 + random.normal(size=200)
        found.append(divergence(-((x - 0.4) ** 2) / 2, -(x**2) / 2))
    plain, plain_error, positive, positive_error = np.array(found).T
    assert plain.mean() == pytest.approx(0.08, abs=4 * plain.std() / 20)
    assert positive.mean() == pytest.approx(0.08, abs=4 * positive.std() / 20)
    assert plain_error.mean() == pytest.approx(plain.std(), rel=0.15)
    assert positive_error.mean() == pytest.approx(positive.std(), rel=0.3)
    assert positive.std() < plain.std()


def test_tau_follows_its_target():
    assert adapted_tau(0.1, 5.0, None, 0.001) == 0.1
    assert adapted_tau(0.1, 2.0, 2.0, 0.001) == pytest.approx(0.1)
    assert adapted_tau(0.1, 9.0, 2.0, 0.001) == pytest.approx(0.12)
    assert adapted_tau(0.1, 0.0, 2.0, 0.001) == pytest.approx(0.1 / 1.2)
    assert adapted_tau(0.0011, 0.0, 2.0, 0.001) == 0.001


# --- memory -------------------------------------------------------------------


def test_repeats_are_counted_over_batches_and_forgotten_after_the_window():
    seen = remembered(np.zeros(0, np.int64), np.array([7, 8, 7, 0]), 100)
    assert repeats(seen, np.array([7, 9, 7, 9, 0, 0])).tolist() == [2, 0, 3, 1, 0, 0]
    seen = remembered(seen, np.arange(100, 199), 100)
    assert len(seen) == 100
    assert repeats(seen, np.array([7, 8])).tolist() == [0, 0], "all but the last of them is forgotten"
    assert remembered(np.zeros(0, np.int64), np.array([7, 8, 7]), 2).tolist() == [8, 7], (
        "a batch may be more than is remembered"
    )


def test_the_best_are_kept_each_kind_once():
    tokens = TokenBatch(np.arange(5), *(np.zeros((5, *shape)) for shape in ((21,), (21,), (21, 3), (6,))))
    best = best_of(
        Best.empty(21), tokens, np.array([0.1, 0.5, 0.3, 0.9, 0.4]), np.array([1, 2, 2, 3, 0]), np.ones(5, bool), 2
    )
    assert (best.value.tolist(), best.kinds.tolist(), best.tokens.g.tolist()) == ([0.9, 0.5], [3, 2], [3, 1])
    better = best_of(best, tokens, np.array([0.0, 0.0, 0.7, 2.0, 0.0]), np.array([1, 2, 2, 3, 4]), np.arange(5) != 3, 2)
    assert (better.value.tolist(), better.tokens.g.tolist()) == ([0.9, 0.7], [3, 2])


# --- the goal and how it is reached ---------------------------------------------


def archive_of(worth, groups, families, drift=0.0) -> Archive:
    n = len(worth)
    tokens = TokenBatch(
        np.asarray(groups, np.int32), *(np.zeros((n, *shape), np.int32) for shape in ((21,), (21,), (21, 3), (6,)))
    )
    some = np.full(n, drift, np.float32)
    none = np.zeros((n, 2), bool)
    return Archive(tokens, np.zeros((n, 3)), some, np.zeros((n, 8)), np.asarray(families), none, none[:, 0], worth)


def test_the_targets_keep_every_family_as_frequent_as_it_was():
    """At the optimum E_base[exp(target)] = 1 where crystals compete; within it targets differ as worth/τ does."""
    random = np.random.default_rng(0)
    groups, families, worth = random.choice([62, 225], 4000), random.choice(FAMILIES, 4000), random.normal(size=4000)
    worth = worth + (families == 2)
    found = archive_of(worth, groups, families)
    aim = targets(found, worth, 0.5, "chemistry", 4000)
    for cell in np.unique(found.cell):
        here = found.cell == cell
        np.testing.assert_allclose(np.diff(aim[here]), np.diff(worth[here]) / 0.5, atol=1e-9)
    # Where the policy has come all the way, the constant is ln Z.
    there = found._replace(drift=aim.astype(np.float32))
    again = targets(there._replace(drift=np.clip(aim, -2, 2).astype(np.float32)), worth, 0.5, "chemistry", 4000)
    assert np.corrcoef(aim, again)[0, 1] > 0.99
    one = targets(found, worth, 0.5, "space_group", 4000)
    better = [one[families == family].mean() for family in (1, 2)]
    assert better[1] - better[0] == pytest.approx(2.0, abs=0.15), "without families the better one is called for"


def test_a_family_that_lost_crystals_is_called_back():
    worth, groups = np.zeros(2000), np.full(2000, 225)
    families = np.where(np.arange(2000) % 4 == 0, 1, 0)
    families[-300:] = 0
    aim = targets(archive_of(worth, groups, families), worth, 0.5, "chemistry", 100)
    assert aim[0] > 1 > 0 > aim[1]


def test_the_critic_finds_what_the_state_says_and_takes_out_the_noise():
    random = np.random.default_rng(0)
    state = random.normal(size=(3000, 16)).astype(np.float16)
    known = random.random((3000, 2)) < 0.3
    truth = np.tanh(state[:, 0].astype(float)) - 0.8 * known[:, 1]
    worth = truth + random.normal(0, 0.5, 3000)
    worth[2000:] = np.nan
    found = expected_worth(state, known, worth)
    assert np.corrcoef(found[2000:], truth[2000:])[0, 1] > 0.9
    assert expected_worth(state[:5], known[:5], worth[:5]) is None


def test_the_least_divergence_is_that_of_two_coins():
    """One space group: t ln(t/s) + (1 − t) ln((1 − t)/(1 − s)); several can only need as much or less noise, never more than each alone."""
    seen, total = np.zeros(231), np.zeros(231)
    seen[225], total[225] = 1e6, 0.3e6
    exact = 0.6 * np.log(0.6 / 0.3) + 0.4 * np.log(0.4 / 0.7)
    assert needed(Baseline(total, seen), 0.6) == pytest.approx(exact, rel=1e-4)
    assert needed(Baseline(total, seen), 0.3) == pytest.approx(0, abs=1e-6)
    assert needed(Baseline.empty(), 0.6) == 0


# --- rounds -------------------------------------------------------------------


def test_log_probs_in_parts_are_those_of_the_samples():
    """Masks and temperature included: they are what the ratio is made of."""
    for behaviour in (Behaviour.make(), Behaviour.make(0.7, allowed=allowed_elements({8, 11, 17}))):
        drawn = sample(small_policy(), 1, range(64), WEIGHTS, behaviour)
        parts = parts_of(drawn.tokens, np.arange(64))
        assert sorted(set(np.concatenate([p.rows for p in parts]))) == list(range(64))
        np.testing.assert_allclose(
            log_probs(small_policy(), parts, 64, behaviour).sum(1), drawn.behaviour_log_prob, atol=2e-3
        )


def test_the_update_is_the_gradient_of_the_objective_on_the_whole_batch():
    """Parts of equal length, lanes that fill up and the slope in between give what one padded batch gives."""
    policy, behaviour = small_policy(n_max=7), Behaviour.make()
    rollout = roll_out(policy, 3, range(32), WEIGHTS, behaviour)
    given = facts(32)._replace(old_log_prob=rollout.samples.behaviour_log_prob)
    learner = Learner(with_settings(algorithm="dpo", learns="everything", density_temperature=1.0), behaviour)
    lesson = Lesson(rollout.samples.tokens, given, np.zeros(32), 32)
    gradient, value, _ = learner._gradient(policy, lesson, np.arange(32), 0.1)

    def whole(policy):
        return DPO().loss(log_prob(policy, rollout.samples.tokens, behaviour).total, given, KNOBS).value

    expected, reference = eqx.filter_jit(eqx.filter_value_and_grad(whole))(policy)
    assert value == pytest.approx(float(expected), rel=1e-4)
    scale = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(reference))
    for ours, theirs in zip(jax.tree.leaves(gradient), jax.tree.leaves(reference), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-4 * scale)


@pytest.mark.parametrize(
    "algorithm", ["ppo", "sft", *(pytest.param(name, marks=pytest.mark.slow) for name in ("grpo", "rloo", "dpo"))]
)
def test_reward_rises_and_divergence_with_it(algorithm):
    settings = with_settings(updates=8, algorithm=algorithm, minibatches=2)
    _, updates = run_round(first_state(small_policy(), settings), small_policy(), settings, light, WEIGHTS, 0)
    rewards = [u.scores.reward.mean() for u in updates]
    assert np.mean(rewards[-2:]) > np.mean(rewards[:2]) + (0.03 if algorithm == "sft" else 0.1)
    assert abs(updates[0].divergence.plain) < 1e-3 < updates[-1].divergence.plain


def test_balance_makes_better_choices():
    """By a critic of what was scored before, on crystals scored or not; lattices have cells, so that most are crystals."""
    base = with_real_lattices(small_policy())
    settings = FinetuneSettings(
        updates=8, batch=96, unscored=96, learning_rate=0.003, tau=0.05, keep="space_group", average=0.0, minibatches=4
    )
    _, updates = run_round(first_state(base, settings), base, settings, light, WEIGHTS, 0)
    rewards = [u.scores.reward.mean() for u in updates]
    assert np.mean(rewards[-2:]) > np.mean(rewards[:2]) + 0.05
    drift = (updates[-1].log_prob - updates[-1].base_log_prob).mean(0)
    assert drift[1] > 0.05


def test_a_placebo_learns_from_others_rewards():
    """Of the same space groups, and differently shuffled in each update; tables show the crystals' own. No forces are followed."""
    settings = with_settings(algorithm="none", placebo=True)
    assert not FinetuneSettings(placebo=True).leads
    _, updates = run_round(first_state(small_policy(), settings), small_policy(), settings, light, WEIGHTS, 0)
    learned, own = (np.concatenate(found) for found in zip(*((u.value, u.scores.reward) for u in updates), strict=True))
    for update in updates:
        groups = np.asarray(update.rollout.samples.tokens.g)
        for group in np.unique(groups):
            assert sorted(update.value[groups == group]) == sorted(update.scores.reward[groups == group])
    assert abs(np.corrcoef(learned, own)[0, 1]) < 0.4
    assert rollouts_table(updates, 1, 0).column("reward").to_pylist() == own.tolist()
    for wrong in ({"algorithm": "sft"}, {"replay": 5}):
        with pytest.raises(ValueError, match="imitation"):
            FinetuneSettings(placebo=True, **wrong)


def wider(sites, statuses) -> Scores:
    """A score that pays nothing, of crystals whose cells rest at lengths a tenth larger."""
    scores, factors = light(sites, statuses), np.array([1.1, 1.1, 1.1, 1, 1, 1])
    ahead = [None if s is None else dataclasses.replace(s, lattice_parameters=s.lattice_parameters * factors) for s in sites]
    return scores._replace(reward=np.zeros(len(sites)), ahead=ahead)


def test_lattices_follow_the_forces_and_choices_stay():
    base = with_real_lattices(small_policy())
    settings = FinetuneSettings(
        updates=6, batch=96, unscored=0, learning_rate=0.003, keep="space_group", average=0.0, minibatches=4
    )
    volumes, drifts = {}, {}
    for follows in (True, False):
        chosen = settings.model_copy(update={"follows_forces": follows})
        end, updates = run_round(first_state(base, chosen), base, chosen, wider, WEIGHTS, 0)
        first, last = (
            float(np.asarray(u.rollout.samples.tokens.l)[:, :3].prod(1).mean()) for u in (updates[0], updates[-1])
        )
        volumes[follows] = last / first
        drifts[follows] = abs((updates[-1].log_prob - updates[-1].base_log_prob)[:, :2].sum(1).mean())
        assert end.archive.led.any() == follows
    assert volumes[True] > 1.05
    assert 0.98 < volumes[False] < 1.02
    assert drifts[True] < 0.3


def test_without_an_algorithm_nothing_moves():
    settings = with_settings(algorithm="none")
    end, updates = run_round(first_state(small_policy(), settings), small_policy(), settings, light, WEIGHTS, 0)
    assert eqx.tree_equal(end.policy, small_policy())
    assert rollouts_table(updates, 1, 0).num_rows == 128
    assert len(end.seen) == 128


def test_a_run_remembers_as_many_kinds_as_it_is_told():
    settings = with_settings(algorithm="none", repeats_memory=80)
    end, updates = run_round(first_state(small_policy(), settings), small_policy(), settings, light, WEIGHTS, 0)
    kinds = np.concatenate([u.rollout.kinds for u in updates])
    assert end.seen.tolist() == kinds[-80:].tolist()
    assert updates[1].repeats.tolist() == repeats(kinds[:64], kinds[64:]).tolist()


@pytest.mark.parametrize("algorithm", ["ppo", "balance"])
def test_a_round_goes_on_where_the_last_ended(tmp_path, algorithm):
    """Two rounds through files are two rounds in one process, to the last bit: with everything that has a memory."""
    settings = with_settings(kl_target=0.5, repeats=0.1, replay=16, minibatches=2, temperature=0.9, algorithm=algorithm)
    settings = settings.model_copy(update={"average": 0.5, "unscored": 32})
    base = small_policy()
    between, _ = run_round(first_state(base, settings), base, settings, light, WEIGHTS, 0)
    whole, updates = run_round(between, base, settings, light, WEIGHTS, 0)

    save_policy(tmp_path / "policy.safetensors", between.result(settings), {})
    digest = sha256(tmp_path / "policy.safetensors")
    path = tmp_path / "state.safetensors"
    save_state(path, between, Lineage(1, "base", digest))
    policy, _ = load_policy(tmp_path / "policy.safetensors")
    restored = load_state(path, policy, settings, Lineage(2, "base", digest))
    resumed, again = run_round(restored, base, settings, light, WEIGHTS, 0)

    assert eqx.tree_equal(resumed.policy, whole.policy)
    assert eqx.tree_equal(resumed.average, whole.average)
    assert not eqx.tree_equal(resumed.policy, resumed.average)
    assert jax.tree.all(
        jax.tree.map(lambda a, b: np.array_equal(a, b, equal_nan=a.dtype.kind == "f"), resumed.archive, whole.archive)
    )
    assert len(whole.archive.worth) == (384 if algorithm == "balance" else 0)
    assert eqx.tree_equal(resumed.optimizer, whole.optimizer)
    assert resumed.tau == whole.tau
    assert (resumed.updates, resumed.crystals) == (whole.updates, whole.crystals) == (4, 256)
    for ours, theirs in ((resumed.baseline, whole.baseline), (resumed.seen, whole.seen), (resumed.best, whole.best)):
        assert jax.tree.all(jax.tree.map(np.array_equal, ours, theirs))
    assert len(whole.best.value) == 16
    assert rollouts_table(again, 2, 0).equals(rollouts_table(updates, 2, 0))
    assert updates_table(again, 2, STABLE_BELOW).column("update").to_pylist() == [3, 4]
    ids = rollouts_table(updates, 2, 0).column("id").to_pylist()
    assert ids[0] == "f0-128"
    assert len(set(ids)) == 128

    elsewhere = load_state(path, policy, settings, Lineage(2, "base", digest, "another reward"))
    assert len(elsewhere.archive.worth) == 0, "what crystals were worth to another goal is forgotten"

    for wrong, says in (
        (Lineage(2, "other", digest), "another base policy"),
        (Lineage(2, "base", "other"), "not of one round"),
        (Lineage(3, "base", digest), "after round 1"),
    ):
        with pytest.raises(InputError, match=says):
            load_state(path, policy, settings, wrong)
    with pytest.raises(InputError, match="not a state of fine-tuning"):
        load_state(tmp_path / "policy.safetensors", policy, settings, Lineage(2, "base", digest))
    arrays, metadata = read_safetensors(path)
    for name, kept, facts in (("array", {k: v for k, v in arrays.items() if k != "seen"}, metadata), ("fact", arrays, {})):
        write_safetensors(tmp_path / name, kept, {"format": metadata["format"], **facts})
        with pytest.raises(InputError, match=rf"{name} is not whole; let the round before be made again"):
            load_state(tmp_path / name, policy, settings, Lineage(2, "base", digest))


def test_the_divergence_counts_from_the_base_policy_whatever_was_resumed():
    base, other = small_policy(), small_policy(1)
    _, updates = run_round(first_state(other, SETTINGS), base, with_settings(updates=1), light, WEIGHTS, 0)
    samples = updates[0].rollout.samples
    expected = log_probs(base.at_density_temperature(1.0), parts_of(samples.tokens, np.arange(64)), 64, Behaviour.make())
    np.testing.assert_allclose(updates[0].base_log_prob, expected)
    assert updates[0].divergence.plain > 1


def test_steps_fall_to_half_in_a_half_life():
    """The same crystals move the weights a quarter as far after two half-lives, wherever rounds were divided."""
    settings = with_settings(updates=1, inner_epochs=1, learning_rate_half_life=3.0)
    base, start = small_policy(), first_state(small_policy(), settings)
    ends = [run_round(start._replace(updates=n), base, settings, light, WEIGHTS, 0)[0].policy for n in (0, 6)]
    moves = [np.concatenate([(named_arrays(end)[k] - v).ravel() for k, v in named_arrays(base).items()]) for end in ends]
    assert np.abs(moves[0]).max() == pytest.approx(0.01, rel=1e-2), "Adam's first step is as long as the rate"
    np.testing.assert_allclose(moves[1], moves[0] / 4, atol=1e-6)


def test_a_gradient_that_is_not_finite_never_reaches_the_policy():
    def absurd(sites, statuses):
        return light(sites, statuses)._replace(reward=np.where(np.arange(len(sites)) % 2, 1e39, -1e39))

    with pytest.raises(InputError, match="update 1: the gradient is not finite"):
        run_round(first_state(small_policy(), SETTINGS), small_policy(), SETTINGS, absurd, WEIGHTS, 0)


def test_failures_stay_and_earn_their_penalty():
    def fails(sites, statuses):
        scores = light(sites, statuses)
        status = ["potential_failed" if i % 3 == 0 else s for i, s in enumerate(statuses)]
        nothing = np.where([s != "ok" for s in status], np.nan, 0.1)
        return scores._replace(
            status=status, figures=dict.fromkeys(scores.figures, nothing), terms={"reward_light": nothing}
        )

    _, updates = run_round(first_state(small_policy(), SETTINGS), small_policy(), SETTINGS, fails, WEIGHTS, 0)
    table = rollouts_table(updates, 1, 0)
    assert table.num_rows == 128
    rows = table.to_pylist()
    assert all((row["energy"] is None) == (row["reward_light"] is None) == (row["status"] != "ok") for row in rows)
    assert all(np.isfinite(row["reward"]) for row in rows)
    assert updates_table(updates, 1, STABLE_BELOW).column("failed_fraction")[0].as_py() >= 1 / 3


def test_only_the_chosen_weights_move():
    """With `last_norm`, the last norm and the output's biases move, and nothing else does."""
    settings = with_settings(updates=1, trainable="last_norm")
    base = small_policy()
    end, _ = run_round(first_state(base, settings), base, settings, light, WEIGHTS, 0)
    before, after = named_arrays(base), named_arrays(end.policy)
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed == {"final_norm.scale", "final_norm.offset", "head.b"}
