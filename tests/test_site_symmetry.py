"""What space groups and positions share: the orbit-stabilizer law, the International Tables, and that a policy learns it."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from policy_examples import SMALL, log_prob

from crystalformer_rl.crystal.site_symmetry import group_features, site_features, site_symmetry
from crystalformer_rl.crystal.wyckoff import wyckoff_table
from crystalformer_rl.policy.constraints import Behaviour
from crystalformer_rl.policy.sampler import sample
from crystalformer_rl.policy.transformer import Policy

UNIFORM = np.full(230, 1 / 230)


def sharing_policy() -> Policy:
    return Policy.init(jax.random.key(3), replace(SMALL, relatives=4))


def test_sites_times_operations_that_leave_one_are_all_operations():
    table = wyckoff_table()
    for g in range(1, 231):
        last = table.n_letters(g)
        for w in range(1, last + 1):
            assert len(site_symmetry(g, w)) * table.multiplicity(g, w) == table.multiplicity(g, last), (g, w)


@pytest.mark.parametrize(
    ("group", "letter", "order", "mirrors"),
    [(225, "a", 48, 9), (225, "c", 24, 6), (194, "c", 12, 4), (62, "c", 2, 1), (136, "f", 4, 2), (2, "a", 2, 0), (19, "a", 1, 0)],
)  # fmt: skip
def test_site_symmetries_are_those_of_the_international_tables(group, letter, order, mirrors):
    """m-3m, -43m, -6m2, .m., m.2m, -1 and 1."""
    found = site_symmetry(group, ord(letter) - ord("a") + 1)
    assert len(found) == order
    assert sum(round(np.linalg.det(r)) == -1 and round(np.trace(r)) == 1 for r in found) == mirrors


def test_relatives_have_the_same_features():
    """The origins of Pm-3m, Fm-3m and Im-3m; and 4a of Fm-3m unlike its 8c."""
    sites, groups = site_features(), group_features()
    assert np.array_equal(sites[221, 1], sites[225, 1])
    assert np.array_equal(sites[221, 1], sites[229, 1])
    assert not np.array_equal(sites[225, 1], sites[225, 3])
    assert np.abs(groups[221] - groups[225]).sum() < np.abs(groups[221] - groups[2]).sum()
    assert len(np.unique(groups[1:], axis=0)) > 120
    assert not sites[225, 27].any()


def test_a_policy_knows_letters_by_their_site_symmetry():
    """Letters of equal features get the same from what is shared; and elements from theirs."""
    policy = sharing_policy()
    output = jnp.linspace(-1.0, 1.0, policy.shape.output_size)
    own = output[: policy.shape.wyck_types]
    shared = [np.asarray(policy.letter_logits(output[None], jnp.array([g]))[0] - own) for g in (221, 225)]
    assert shared[0][1] == pytest.approx(shared[1][1])
    assert abs(shared[1][1] - shared[1][3]) > 1e-3
    elements = np.asarray(policy.element_logits(output) - output[: policy.shape.atom_types])
    assert abs(elements[39] - elements[40]) < abs(elements[39] - elements[8])


def test_a_sharing_policy_samples_what_its_likelihood_says():
    """The sampler's cached way and the whole sequence's give one log-probability."""
    policy = sharing_policy()
    drawn = sample(policy, 5, range(32), UNIFORM, Behaviour.make())
    found = log_prob(policy, jax.tree.map(jnp.asarray, drawn.tokens)).total
    np.testing.assert_allclose(drawn.log_prob, found, atol=5e-4)
