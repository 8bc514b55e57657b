"""Retrieved or discovered: recall, precision and enrichment by hand, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from crystalformer_rl.crystal.prototype import kind
from crystalformer_rl.errors import InputError
from crystalformer_rl.intervals import over_seeds_and_items, ratio_over_seeds_and_items
from crystalformer_rl.retrieval.best_known import targets
from crystalformer_rl.retrieval.counts import found_targets, retrieval_rows
from crystalformer_rl.retrieval.scored_pool import Pool
from crystalformer_rl.scoring.known_kinds import KnownKinds

SALT = (225, [1, 2])
"""Rock salt: 4a and 4b, which another origin exchanges."""


def row(name: str, elements: tuple[int, int] | None, reward: float, above: float = 0.0, number: int = 1) -> dict[str, Any]:
    """A crystal of ROLLOUTS in rock salt; None: no crystal."""
    group, letters = SALT if elements else (None, None)
    return {
        "id": name,
        "space_group": group,
        "wyckoff": letters,
        "elements": list(elements) if elements else None,
        "round": number,
        "e_above_hull": above if elements else None,
        "reward": reward,
        "status": "ok" if elements else "no_crystal",
    }


def pool(policy: str, rows: Sequence[dict[str, Any]], known: KnownKinds) -> Pool:
    arm, _, seed = policy.partition("-")
    rounds = sorted({one["round"] for one in rows})
    updates = [{"round": n, "evaluations": sum(one["round"] == n and one["status"] == "ok" for one in rows)} for n in rounds]
    return Pool.of(policy, arm, int(seed), rows, updates, known, 0.1)


@pytest.fixture
def known() -> KnownKinds:
    """NaCl as rock salt, and CsCl in its own structure: its formula is known, as rock salt it is not."""
    return KnownKinds([(225, [1, 2], [11, 17]), (221, [1, 2], [55, 17])])


NACL, CLNA, CSCL, KBR = (11, 17), (17, 11), (55, 17), (19, 35)


def test_a_round_retrieves_what_its_best_kinds_are(known: KnownKinds) -> None:
    rows = [
        row("a", NACL, 0.5), row("b", CLNA, 0.9), row("c", None, -1.0),  # b is a with the other origin: one kind
        row("d", KBR, 0.7, 0.3, 2), row("e", CSCL, 0.8, 0.05, 2), row("f", NACL, 2.0, 0.0, 2),
    ]  # fmt: skip
    wanted = [kind(225, [1, 2], list(z)) for z in (NACL, (3, 9))]
    found = retrieval_rows([pool("x-0", rows, known)], wanted, [2])
    first, first_all, second, second_all = found
    assert (first["round"], first["k"], first["n"], first["scored"], first["evaluations"]) == (1, 2, 1, 3, 2)
    assert (first_all["k"], first_all["found"], first_all["recall"], first_all["precision"]) == (None, 1, 0.5, 1.0)
    assert first["evaluations_per_target"] == 2
    # The best two of both rounds are f (NaCl, again) and e (CsCl as rock salt).
    assert (second["n"], second["scored"], second["evaluations"], second["found"]) == (2, 6, 5, 1)
    assert second["precision"] == 0.5
    assert (second["known_structure_fraction"], second["known_formula_fraction"], second["new_formula_fraction"]) == (
        0.5,
        0.5,
        0.0,
    )
    assert (second_all["n"], second_all["stable_fraction"]) == (3, pytest.approx(2 / 3))
    assert second_all["new_formula_fraction"] == pytest.approx(1 / 3)
    assert "enrichment" not in second


def test_enrichment_counts_from_the_base_policy_after_as_many_rounds(known: KnownKinds) -> None:
    wanted = [kind(225, [1, 2], list(NACL))]
    base = [pool(f"base-{seed}", [row("a", NACL, 0.1), row("b", KBR, 0.9)], known) for seed in (0, 1)]
    tuned = pool("tuned-0", [row("a", NACL, 0.9), row("b", KBR, 0.1), row("c", CSCL, 0.2, number=2)], known)
    rows = {(r["policy"], r["round"], r["k"]): r for r in retrieval_rows([*base, tuned], wanted, [1, 2], "base")}
    assert rows["base-0", 1, 2]["enrichment"] == 1.0
    assert "enrichment" not in rows["base-0", 1, 1]  # the base policy's best one is no target
    assert rows["tuned-0", 1, 2]["enrichment"] == 1.0
    assert rows["tuned-0", 2, None]["enrichment"] == pytest.approx((1 / 3) / (1 / 2))


def test_screening_finds_every_target_and_nothing_to_retrieve_is_said(known: KnownKinds) -> None:
    numbers = np.random.default_rng(3).permutation(np.arange(3, 60))
    scored = [row(f"r{z}", (int(z), 17 if z != 17 else 9), float(z) / 7) for z in numbers]
    wanted = targets(scored, 0.05)
    assert len(wanted) == 3  # of 57
    screened = pool("screening-0", scored, known)
    rows = retrieval_rows([screened], wanted, [3], None)
    assert [r["recall"] for r in rows] == [1.0, 1.0]
    assert rows[0]["precision"] == 1.0
    assert retrieval_rows([screened], None, [3])[0].keys().isdisjoint({"recall", "found"})
    assert found_targets([screened], wanted).all()
    assert found_targets([screened], wanted, 1).sum() == 1


def test_a_reward_of_few_values_has_no_best_share() -> None:
    scored = [row(f"r{z}", (z, 17), float(z > 30)) for z in range(3, 60) if z != 17]
    with pytest.raises(InputError, match="cannot be told from the next, since many earn 1; retrieval needs a reward"):
        targets(scored, 0.05, "truth")
    with pytest.raises(InputError, match="nothing was scored"):
        targets([row("a", None, -1.0)], 0.5)


def test_the_bootstrap_is_as_wide_as_theory_says() -> None:
    rng = np.random.default_rng(0)
    found = rng.random((1, 400)) < 0.3
    estimate = over_seeds_and_items(found)
    half = 1.96 * np.sqrt(found.mean() * (1 - found.mean()) / 400)
    assert estimate.value == found.mean()
    assert estimate.low == pytest.approx(found.mean() - half, abs=0.012)
    assert estimate.high == pytest.approx(found.mean() + half, abs=0.012)
    same = ratio_over_seeds_and_items(found, found)
    assert same is not None
    assert (same.value, same.low, same.high) == (1.0, 1.0, 1.0)  # items are drawn alike for both
    assert ratio_over_seeds_and_items(found, np.zeros((1, 400), bool)) is None
    apart = np.concatenate([rng.random((2, 400)) < share for share in (0.1, 0.5)])
    assert (over_seeds_and_items(apart).high or 0) - (over_seeds_and_items(apart).low or 0) > 0.2  # seeds that differ
