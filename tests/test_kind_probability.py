"""The probability of a kind of crystal against how often the policy makes it."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from policy_examples import rock_salt, small_policy

from crystalformer_rl.crystal.prototype import kind
from crystalformer_rl.policy.constraints import Behaviour
from crystalformer_rl.policy.kind_probability import kind_probability
from crystalformer_rl.policy.sampler import sample

PLACES = 4
POLICY = small_policy(sharpness=60.0, n_max=PLACES)  # few kinds have most of its probability
WEIGHTS = [3.0 * (g == 225) + 1.0 * (g == 166) for g in range(1, 231)]
DRAWN = 4096


@pytest.fixture(scope="module")
def counts() -> Counter:
    """How often a policy of three sites at most made each kind."""
    drawn = sample(POLICY, 7, range(DRAWN), WEIGHTS, Behaviour.make(places=PLACES))
    g, w, a = (np.asarray(leaf) for leaf in (drawn.tokens.g, drawn.tokens.w, drawn.tokens.a))
    rows = [(int(g[i]), w[i][w[i] > 0], a[i][w[i] > 0]) for i in range(DRAWN)]
    return Counter(kind(*row) for row in rows if len(row[1]))


@pytest.mark.parametrize("group", [166, 225])
def test_a_kinds_probability_is_how_often_it_is_made(counts: Counter, group: int) -> None:
    """166 has free coordinates, over which the probability is a mean; both write a kind with different letters."""
    common = [(k, n) for k, n in counts.most_common() if k[0] == group and len(k[1]) > 1][:3]
    assert common
    assert common[0][1] >= 10
    for asked, n in common:
        found = kind_probability(POLICY, asked, WEIGHTS)
        by_chance = np.sqrt(n) / DRAWN
        assert found.value == pytest.approx(n / DRAWN, abs=4 * np.hypot(by_chance, found.standard_error))


def test_what_cannot_be_written_has_probability_zero(counts: Counter) -> None:
    salt = kind(225, rock_salt().wyckoff, rock_salt().elements)
    never = [float(g == 1) for g in range(1, 231)]
    assert kind_probability(POLICY, salt, never).value == 0
    assert kind_probability(small_policy(n_max=2), salt, WEIGHTS).value == 0
