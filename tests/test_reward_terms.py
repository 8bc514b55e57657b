"""Users' reward terms: whatever goes wrong in them is said in one sentence, and none of them reaches another's figures."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from potential_examples import rock_salt
from test_rewards import ROCK_SALT, Atoms, batch, earned, rewards

from crystalformer_rl.cli.finetune import command
from crystalformer_rl.errors import InputError
from crystalformer_rl.reference.identity import PotentialIdentity
from crystalformer_rl.rewards import terms
from crystalformer_rl.rewards.algebra import Reward
from crystalformer_rl.rewards.reward_settings import RewardSettings, TermSettings
from crystalformer_rl.rewards.scored_batch import Batch
from crystalformer_rl.rewards.terms import make_term
from crystalformer_rl.tables.provenance import provenance, sha256

MODULES = {
    "misspelt": "def term(options:\n",
    "nameless": "term = nothing\n",
    "raising": "raise RuntimeError('a library\\nis missing.')\n",
    "leaving": "import sys\nsys.exit()\n",
}


class Said(Atoms):
    """A user's term that says what it is told to, of what it needs."""

    def __init__(self, answer: Callable[[Batch], Any], needs: Any = frozenset()) -> None:
        self.answer, self.needs = answer, needs

    def __call__(self, batch: Batch) -> Any:
        return self.answer(batch)


class Needless(Atoms):
    """A user's term that cannot say what it needs."""

    @property
    def needs(self) -> frozenset[str]:  # type: ignore[override]
        raise RuntimeError("not yet")


def without_options() -> Atoms:
    return Atoms()


def raising(options: Any) -> Atoms:
    raise KeyError("most")


def refusing(options: Any) -> Atoms:
    raise InputError("reward term 'refusing' refuses; name another.")


def needless(options: Any) -> Atoms:
    return Needless()


def of_mixed_needs(options: Any) -> Atoms:
    return Said(len, frozenset({3, "phonons"}))


def lenient(options: Any) -> Atoms:
    return Atoms()


def greedy_for_options(options: Any) -> Atoms:
    options.pop("most")
    return Atoms()


@pytest.mark.parametrize(
    ("term", "says"),
    [
        ("misspelt:term", r"cannot import misspelt \(SyntaxError: .*misspelt.py, line 1.*\); install or mend it"),
        ("nameless:term", r"cannot import nameless \(NameError: name 'nothing' is not defined\)"),
        ("raising:term", r"cannot import raising \(RuntimeError: a library is missing\)"),
        ("leaving:term", r"cannot import leaving \(SystemExit\)"),
        ("json:loads", r"'json:loads' cannot be made of its options \(TypeError: .*dict\)"),
        ("test_reward_terms:without_options", "'test_reward_terms:without_options' cannot be made of its options"),
        ("test_reward_terms:raising", r"cannot be made of its options \(KeyError: 'most'\)"),
        ("test_reward_terms:refusing", "reward term 'refusing' refuses; name another"),
        ("test_reward_terms:needless", r"cannot be made of its options \(RuntimeError: not yet\)"),
        ("test_reward_terms:of_mixed_needs", "needs 3, which nothing computes"),
        ("test_reward_terms:MODULES", "leads to a dict, no function that makes a term"),
    ],
)
def test_what_fails_in_making_a_term_is_one_sentence(
    term: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, code in MODULES.items():
        (tmp_path / f"{name}.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError, match=rf"^reward\.terms\.0: .*{says}") as found:
        Reward.of(RewardSettings(terms=[TermSettings(term=term)]))
    assert "\n" not in str(found.value)


def _raise(error: Exception) -> Any:
    raise error


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (
            lambda b: _raise(ZeroDivisionError("by\nnothing.")),
            r"failed at 2 crystals \(ZeroDivisionError: by nothing\); mend it",
        ),
        (lambda b: np.zeros(2), "returned a ndarray, but it must return two things"),
        (lambda b: None, "returned a NoneType"),
        (lambda b: (np.zeros(2),) * 3, "returned a tuple"),
        (lambda b: (["1", "2"], None), "gave values that are not numbers"),
        (lambda b: (np.zeros(2, complex), None), "gave values that are not numbers"),
        (lambda b: ([1, [2]], None), "gave values that are not numbers"),
        (lambda b: ([1, 10**400], None), "gave values that are not numbers"),
        (lambda b: (None, None), r"gave values of shape \(\) for 2 crystals"),
        (lambda b: (np.zeros(2), ["a", "b"]), "gave standard deviations that are not numbers"),
        (lambda b: (np.zeros(2), np.zeros(3)), r"gave standard deviations of shape \(3,\) for 2 crystals"),
    ],
)
def test_what_fails_in_a_term_is_one_sentence(
    answer: Callable[[Batch], Any], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(terms.BUILT_IN, "mine", lambda options: Said(answer))
    with pytest.raises(InputError, match=f"^reward term 'mine' {says}") as found:
        rewards(batch(2), TermSettings(term="mine"))
    assert "\n" not in str(found.value)


def test_answers_may_be_lists_with_none_for_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(terms.BUILT_IN, "mine", lambda options: Said(lambda b: [[True, None, 3], [0, 0, 1]]))
    assert earned(batch(3), TermSettings(term="mine", confidence=1.0)) == [1.0, -1.0, 2.0]


def _write(values: Any) -> Any:
    values[:] = 0
    return np.zeros(1), None


@pytest.mark.parametrize(
    "write",
    [
        lambda b: _write(b.figure("e_above_hull")),
        lambda b: _write(b.figures["fom"]),
        lambda b: _write(b.atomic_numbers[0]),
        lambda b: _write(b.sites[0].elements),
        lambda b: _write(b.sites[0].lattice_parameters),
    ],
)
def test_no_term_writes_to_what_others_see(write: Callable[[Batch], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(terms.BUILT_IN, "writing", lambda options: Said(write))
    given = batch(1, e_above_hull=[0.05], fom=[3.0])
    given = Batch([ROCK_SALT.copy()], given.statuses, given.figures, [rock_salt()])
    with pytest.raises(InputError, match=r"^reward term 'writing' failed .*read-only\); let it change copies only"):
        rewards(given, TermSettings(term="writing"), TermSettings(term="e_above_hull"))
    assert given.figures["fom"].tolist() == [3.0]  # and what was given can still be written to
    given.figures["fom"][0] = 4.0


def test_containers_are_each_terms_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def replacing(batch: Batch) -> Any:
        batch.figures["fom"] = np.full(1, 9.0)  # type: ignore[index]
        batch.statuses[0] = "no_crystal"  # type: ignore[index]
        return batch.figure("fom"), None

    monkeypatch.setitem(terms.BUILT_IN, "replacing", lambda options: Said(replacing))
    found = rewards(batch(1, fom=[3.0]), TermSettings(term="replacing"), TermSettings(term="fom"))
    assert [share.tolist() for share in found.terms.values()] == [[9.0], [3.0]]
    options = {"most": 1}
    make_term("test_reward_terms:greedy_for_options", options)
    assert options == {"most": 1}


def test_packages_that_offer_what_cannot_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def offer(*points: tuple[str, str]) -> None:
        found = [importlib.metadata.EntryPoint(*point, terms.ENTRY_POINTS) for point in points]
        monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: found)

    mine, path = ("mine", "test_rewards:atoms"), "test_reward_terms:"
    offer(mine, mine, ("e_above_hull", path + "raising"), ("other", path + "MODULES"), ("broken", "raising.nowhere:x"))
    assert earned(batch(1), TermSettings(term="mine")) == [2.0]  # twice the same is one
    assert earned(batch(1, e_above_hull=[0.5]), TermSettings(term="e_above_hull")) == [0.5]  # ours wins
    with pytest.raises(InputError, match="'other' leads to a dict, no function"):
        make_term("other", {})
    with pytest.raises(InputError, match=r"'broken' \(raising.nowhere:x\) cannot be loaded \(ModuleNotFoundError"):
        make_term("broken", {})
    with pytest.raises(InputError, match="did you mean 'mine'"):
        make_term("mime", {})

    offer(mine, ("mine", path + "raising"), ("others", "test_rewards:atoms"))
    assert make_term("others", {}).needs == frozenset()
    with pytest.raises(
        InputError, match=r"several packages, one \(test_rewards:atoms\) and one \(test_reward_terms:raising\)"
    ):
        make_term("mine", {})


def test_a_round_digests_only_files_and_before_it_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Begun(Exception):
        pass

    def begin(*given: Any, **more: Any) -> Any:
        raise Begun

    recorded: list[dict[str, Any]] = []

    def record(*given: Any, **more: Any) -> dict[str, Any]:
        recorded.append(provenance(*given, **more))
        return recorded[-1]

    base, table = str(tmp_path / "base.safetensors"), tmp_path / "prices.csv"
    Path(base).touch()
    table.write_text("element,value\nO,1\n")
    reward = {
        "terms": [
            {"term": "element_table", "options": {"table": str(table), "missing": 1.0}},
            {"term": "test_reward_terms:lenient", "options": {"table": "periodic"}},
        ]
    }
    (tmp_path / "settings.json").write_text(json.dumps({"reward": reward}))
    shape = SimpleNamespace(n_max=21)
    network = SimpleNamespace(shape=shape, at_density_temperature=lambda temperature: SimpleNamespace(shape=shape))
    policy = network, {"space_group_counts": [1] * 230}
    monkeypatch.setattr("crystalformer_rl.policy.checkpoint.load_policy", lambda path: policy)
    monkeypatch.setattr("crystalformer_rl.stages.finetune.first_state", lambda *given: None)
    monkeypatch.setattr(
        "crystalformer_rl.scoring.scorer.open_scoring",
        lambda *given, **more: nullcontext((SimpleNamespace(knows=None), PotentialIdentity("none", ""))),
    )
    monkeypatch.setattr("crystalformer_rl.stages.finetune.run_round", begin)
    monkeypatch.setattr("crystalformer_rl.tables.provenance.provenance", record)
    files = ["--policy", base, "--base-policy", base, "--reference", base, "--config", str(tmp_path / "settings.json")]
    result = CliRunner().invoke(command, [*files, "--out", str(tmp_path / "round")])
    assert isinstance(result.exception, Begun), result.output
    assert recorded[0]["inputs"] == {Path(path).name: sha256(path) for path in (base, table)}
    assert recorded[0]["potential"] == PotentialIdentity("none", "").as_record()
