"""Rewards: the laws of their algebra, what conditions and failures do, and what is refused."""

from __future__ import annotations

import importlib.metadata
import re
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from crystalformer_rl.config.loading import parse_config
from crystalformer_rl.config.schema import schema
from crystalformer_rl.crystal.masses import MASSES
from crystalformer_rl.errors import InputError
from crystalformer_rl.rewards import terms
from crystalformer_rl.rewards.algebra import Reward, Rewards
from crystalformer_rl.rewards.batch_conditions import holds as where_holds
from crystalformer_rl.rewards.batch_conditions import needs, parse
from crystalformer_rl.rewards.reward_settings import LARGEST, RewardSettings, TermSettings
from crystalformer_rl.rewards.scored_batch import GROUP_OF, GROUPS, Batch, known_figures
from crystalformer_rl.rewards.terms import BUILT_IN, CERTAIN, UNCERTAIN, make_term
from crystalformer_rl.tables.figure_columns import FIGURES
from crystalformer_rl.tables.status import STATUSES

ROCK_SALT = np.array([11, 17])


def batch(n: int, *, statuses: list[str] | None = None, numbers: Any = None, **figures: Any) -> Batch:
    """`n` crystals of rock salt, or of `numbers`, with the given figures."""
    arrays = {name: np.asarray(values, float) for name, values in figures.items()}
    atoms = [ROCK_SALT] * n if numbers is None else numbers
    return Batch(atoms, statuses or ["ok"] * n, arrays)


def rewards(given: Batch, *of: TermSettings, failure: float = -1.0) -> Rewards:
    return Reward.of(RewardSettings(terms=list(of), failure=failure)).score(given)


def earned(given: Batch, *of: TermSettings) -> list[float]:
    return rewards(given, *of).reward.tolist()


# --- the laws -------------------------------------------------------------------

numbers = st.floats(allow_nan=False, allow_infinity=False)
anything = st.floats()
priced = st.floats(-LARGEST, LARGEST)
moderate = st.floats(-50, 50)
clips = st.none() | st.lists(numbers, min_size=2, max_size=2).map(sorted)


def transformed(name: st.SearchStrategy[str] | str, weight: st.SearchStrategy[float] = priced) -> Any:
    """Terms with any transforms."""
    return st.builds(
        TermSettings,
        term=name if isinstance(name, st.SearchStrategy) else st.just(name),
        weight=weight,
        target=st.none() | numbers,
        log=st.booleans(),
        threshold=st.none() | numbers,
        clip=clips,
        only_if=st.lists(
            st.sampled_from(["e_above_hull < 0.1", "band_gap > 0.5", "force <= 1", "n_elements >= 2"]), max_size=2
        ),
        otherwise=priced,
    )


@settings(deadline=None)
@given(
    st.lists(transformed(st.sampled_from(CERTAIN + UNCERTAIN)), min_size=1, max_size=3),
    priced,
    st.lists(st.tuples(*[anything] * 6), max_size=6),
)
def test_rewards_are_finite_and_failures_earn_their_price(of: list[TermSettings], failure: float, rows: list[Any]) -> None:
    columns = list(zip(*rows, strict=True)) or [()] * 6
    names = ("e_above_hull", "formation_energy", "force", "novelty", "band_gap", "fom")
    given = batch(
        len(rows),
        **dict(zip(names, columns, strict=True)),
        **dict(zip(("band_gap_std", "fom_std"), columns[2:4], strict=True)),
    )
    found = rewards(given, *of, failure=failure)
    assert np.isfinite(found.reward).all()
    assert (found.reward[found.failed] == failure).all()
    assert [status != "ok" for status in found.statuses] == found.failed.tolist()
    assert set(found.statuses) <= set(STATUSES)
    for share in found.terms.values():
        assert np.array_equal(np.isnan(share), found.failed)
        assert (np.abs(share[~found.failed]) <= LARGEST).all()


@settings(deadline=None)
@given(
    transformed("e_above_hull", st.floats(-100, 100)).filter(lambda term: term.target is None and not term.only_if),
    st.lists(moderate, min_size=2, max_size=8),
)
def test_rewards_are_monotone_in_the_figure(term: TermSettings, values: list[float]) -> None:
    found = rewards(batch(len(values), e_above_hull=sorted(values)), term).reward
    assert (np.sign(term.weight) * np.diff(found) >= 0).all()


@settings(deadline=None)
@given(st.lists(moderate | st.just(float("nan")), max_size=30))
@example([-0.1, 0.0, -0.0, 1.0, 0.1, -0.11, 1.1])
def test_a_clipped_distance_is_a_stability_reward(distances: list[float]) -> None:
    distance = TermSettings(term="e_above_hull", weight=-1.0, clip=[0.0, 1.0])
    found = Reward.of(RewardSettings(terms=[distance])).score(batch(len(distances), e_above_hull=distances))
    e = np.array(distances, float)
    assert np.array_equal(found.reward, np.where(np.isnan(e), -1.0, np.clip(0.0 - e, -1.0, 0.0)))
    assert not np.signbit(found.reward[e == 0]).any()
    assert list(found.terms) == ["reward_e_above_hull"]
    assert found.failed.tolist() == np.isnan(e).tolist()


@settings(deadline=None)
@given(
    st.lists(
        transformed(st.sampled_from(["e_above_hull", "formation_energy", "force", "fom"]), st.floats(-10, 10)),
        min_size=1,
        max_size=3,
    ),
    st.floats(0.0, 40),
    moderate,
    st.floats(0, 50),
)
def test_below_the_hull_earns_what_the_hull_earns(of: list[TermSettings], below: float, energy: float, other: float) -> None:
    def crystal(distance: float) -> Batch:
        formation = energy + distance
        more = {name: [other] for name in ("force", "band_gap", "fom")}
        return batch(1, e_above_hull=[distance], formation_energy=[formation], **more)

    wild, on_the_hull = crystal(-below), crystal(0.0)
    # the formation energy is lifted to rounding, and a threshold or a logarithm can make much of rounding
    rounded = np.array_equal(wild.on_the_hull().figure("formation_energy"), on_the_hull.figure("formation_energy"))
    if rounded or all(term.term != "formation_energy" for term in of):
        assert rewards(wild, *of).reward[0] == rewards(on_the_hull, *of).reward[0]


@settings(deadline=None)
@given(transformed("fom"), st.floats(0, 10), moderate, st.floats(0, 100))
def test_confidence_never_raises_a_reward(term: TermSettings, k: float, mean: float, std: float) -> None:
    given = batch(1, fom=[mean], fom_std=[std], e_above_hull=[0.0], band_gap=[1.0], force=[0.0])
    careful = term.model_copy(update={"confidence": k})
    assert rewards(given, careful).reward[0] <= rewards(given, term).reward[0]


# --- transforms -----------------------------------------------------------------


def test_transforms_come_in_their_order() -> None:
    given = batch(3, band_gap=[1.0, 1.3, 3.0], band_gap_std=[0.2, 0.1, 0.5])
    target = TermSettings(term="band_gap", weight=-1.0, target=1.3)
    assert earned(given, target) == pytest.approx([-0.3, 0.0, -1.7])
    careful = target.model_copy(update={"confidence": 2.0})
    assert earned(given, careful) == pytest.approx([-0.7, -0.2, -2.7])
    assert earned(given, careful.model_copy(update={"clip": [0.0, 1.0]})) == pytest.approx([-0.7, -0.2, -1.0])
    assert earned(given, careful.model_copy(update={"log": True})) == pytest.approx(-np.log([0.7, 0.2, 2.7]))
    assert earned(given, careful.model_copy(update={"threshold": 0.7})) == pytest.approx([-1, 0, -1])
    far = TermSettings(term="band_gap", weight=1.0, target=1.3, confidence=2.0)
    assert earned(given, far) == pytest.approx([0.0, 0.0, 0.7])  # no distance is negative
    assert earned(given, TermSettings(term="band_gap", confidence=1.0)) == pytest.approx([0.8, 1.2, 2.5])
    assert earned(given, TermSettings(term="band_gap", confidence=1.0, log=True)) == pytest.approx(np.log([0.8, 1.2, 2.5]))
    metal = batch(1, band_gap=[0.0], band_gap_std=[0.1])
    assert earned(metal, TermSettings(term="band_gap", log=True)) == pytest.approx([np.log(1e-3)])


@pytest.mark.parametrize("weight", [1.0, -1.0])
@pytest.mark.parametrize("std", [-0.1, np.nan, np.inf])
def test_a_deviation_that_is_none_is_missing(weight: float, std: float) -> None:
    given = batch(2, fom=[5.0, 5.0], fom_std=[std, 0.0])
    careful = rewards(given, TermSettings(term="fom", weight=weight, confidence=1.0))
    assert careful.statuses == ["no_figure", "ok"]
    assert careful.reward.tolist() == [-1.0, 5.0 * weight]
    assert earned(given, TermSettings(term="fom", weight=weight)) == [5.0 * weight] * 2


def test_shares_are_bounded() -> None:
    given = batch(3, fom=[1e39, -1e300, 2.0])
    assert earned(given, TermSettings(term="fom", weight=10.0)) == [LARGEST, -LARGEST, 20.0]
    dear = TermSettings(term="fom", weight=-1e6, only_if=["n_elements == 3"], otherwise=1e6)
    assert earned(given, dear) == [-LARGEST] * 3
    for setting in ("weight", "otherwise"):
        with pytest.raises(ValidationError, match="less than or equal to 1000000"):
            TermSettings(term="fom", **{setting: 1e39})
    with pytest.raises(ValidationError, match="greater than or equal to -1000000"):
        RewardSettings(failure=-2e6)


def test_terms_are_added_up_and_repeated_names_numbered() -> None:
    given = batch(2, e_above_hull=[0.05, 0.3], force=[1.0, 2.0])
    found = rewards(
        given,
        TermSettings(term="e_above_hull", weight=-1.0),
        TermSettings(term="force", weight=-0.1),
        TermSettings(term="e_above_hull", weight=2.0, threshold=0.1),
        TermSettings(term="test_rewards:atoms", weight=0.5),
    )
    assert list(found.terms) == ["reward_e_above_hull", "reward_force", "reward_e_above_hull_2", "reward_atoms"]
    assert found.terms["reward_e_above_hull_2"].tolist() == [0.0, 2.0]
    assert found.reward == pytest.approx([-0.05 - 0.1 + 1.0, -0.3 - 0.2 + 2.0 + 1.0])


# --- conditions and failures ----------------------------------------------------

MERIT = TermSettings(term="fom", weight=0.1, only_if=["e_above_hull < 0.1"], otherwise=-1.0)


def test_a_term_behind_a_condition_needs_its_figure_only_where_that_holds() -> None:
    found = rewards(batch(3, e_above_hull=[0.05, 0.3, 0.05], fom=[20.0, np.nan, np.nan]), MERIT)
    assert found.reward == pytest.approx([2.0, -0.1, -1.0])
    assert found.statuses == ["ok", "ok", "no_figure"]
    assert found.failed.tolist() == [False, False, True]


def test_a_missing_figure_keeps_the_status_that_says_why() -> None:
    given = batch(
        4, e_above_hull=[0.05, 0.05, 0.3, 0.0], fom=[20.0, np.nan, np.nan, np.nan], statuses=["ok"] * 3 + ["too_large"]
    )
    reasons = {"properties": ["ok", "unsupported_element", "unsupported_element", "ok"]}
    found = rewards(Batch(given.atomic_numbers, given.statuses, given.figures, reasons=reasons), MERIT, failure=-3.0)
    assert found.statuses == ["ok", "unsupported_element", "ok", "too_large"]
    assert found.reward == pytest.approx([2.0, -3.0, -0.1, -3.0])


def test_conditions_on_unknown_figures_fail_unless_another_decides() -> None:
    term = TermSettings(term="force", weight=-1.0, only_if=["e_above_hull < 0.1", "band_gap > 0.5"])
    found = rewards(batch(3, e_above_hull=[0.3, 0.0, 0.0], band_gap=[np.nan, np.nan, 2.0], force=[1.0] * 3), term)
    assert found.statuses == ["ok", "no_figure", "ok"]
    assert found.reward == pytest.approx([0.0, -1.0, -1.0])


def test_conditions_on_energies_see_the_hull() -> None:
    paid = TermSettings(term="fom", weight=0.1, only_if=["e_above_hull < 0.1"])
    spared = TermSettings(term="force", weight=-1.0, only_if=["e_above_hull < 0.1"])
    given = batch(2, e_above_hull=[0.0, -0.5], fom=[30.0, 30.0], force=[0.2, 0.2])
    assert earned(given, paid) == pytest.approx([3.0, 3.0])
    assert earned(given, spared) == pytest.approx([-0.2, -0.2])
    assert earned(given, paid.model_copy(update={"only_if": ["n_elements == 2"]})) == pytest.approx([3.0, 3.0])
    deep = TermSettings(term="n_elements", only_if=["e_above_hull < -0.2"])
    assert earned(given, deep) == [0.0, 0.0]


def test_failures_of_stages_stay() -> None:
    found = Reward.of(RewardSettings(failure=-2.0)).score(
        batch(
            4,
            statuses=["collapsed", "ok", "ok", "no_crystal"],
            numbers=[ROCK_SALT, ROCK_SALT, None, None],
            e_above_hull=[-5.0, 0.1, 0.0, np.nan],
            novelty=[1.0, 1.0, 1.0, np.nan],
            new_formula=[1.0, 1.0, 1.0, np.nan],
        )
    )
    assert found.reward.tolist() == [-2.0, -1.0, -2.0, -2.0]
    assert found.statuses == ["collapsed", "ok", "empty_crystal", "no_crystal"]
    empty = Reward.of(RewardSettings()).score(batch(0, e_above_hull=[], novelty=[], new_formula=[]))
    assert empty.reward.shape == (0,)


def test_only_crystals_whose_reward_depends_on_it_want_a_group() -> None:
    reward = Reward.of(RewardSettings(terms=[TermSettings(term="e_above_hull", weight=-1.0), MERIT]))
    assert reward.needs == {"energy", "properties"}
    assert reward.needs_everywhere("energy")
    assert not reward.needs_everywhere("properties")
    given = batch(4, e_above_hull=[0.05, 0.3, -0.5, np.nan], statuses=["ok"] * 3 + ["too_large"])
    assert reward.wanted("properties", given).tolist() == [True, False, True, False]
    both = Reward.of(RewardSettings(terms=[TermSettings(term="n_elements", only_if=["force < 1", "e_above_hull < 0.1"])]))
    assert both.needs == {"energy", "force"}
    assert both.wanted("force", given).tolist() == [True, False, True, False]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("e_above_hull", "is not a comparison"),
        ("0.1 > e_above_hull", "is not a comparison"),
        ("e_above_hul < 0.1", "did you mean 'e_above_hull'"),
        ("colour < 0.1", "use one of energy"),
        ("force < small", "'small' is not a finite number"),
        ("force < inf", "not a finite number"),
        ("force between 1 and", "is not a comparison"),
        ("force between low and 2", "'low' is not a finite number"),
    ],
)
def test_impossible_conditions_are_refused(text: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        parse([text])


@pytest.mark.parametrize(
    ("texts", "possible"),
    [
        (["force < 0.1", "force > 0.2"], False),
        (["force < 0.1", "force >= 0.1"], False),
        (["force >= 1", "force <= 1", "force != 1"], False),
        (["force == 1", "n_atoms > 2", "force == 2"], False),
        (["force >= 0.1", "force <= 0.1"], True),
        (["force > 0.1", "force < 0.2", "force < 1e308"], True),
        (["force > 0.2", "force != 0.3", "force != 0.3"], True),
        (["force < 0.1", "n_atoms > 0.2"], True),
        (["force < -1e308"], True),
    ],
)
def test_conditions_that_never_hold_together_are_refused(texts: list[str], possible: bool) -> None:
    if possible:
        assert [str(condition) for condition in parse(texts)] == [
            f"{figure} {sign} {float(number)}" for figure, sign, number in map(str.split, texts)
        ]
        return
    with pytest.raises(InputError, match=r"^reward\.terms\.1: conditions 'force .*' and 'force .*' never hold together"):
        Reward.of(RewardSettings(terms=[TermSettings(term="fom"), TermSettings(term="fom", only_if=texts)]))


def test_between_has_both_bounds() -> None:
    assert [str(condition) for condition in parse(["band_gap between 1.2 and 1.6"])] == [
        "band_gap >= 1.2",
        "band_gap <= 1.6",
    ]
    term = TermSettings(term="n_elements", only_if=["band_gap between 1.2 and 1.6"])
    assert earned(batch(4, band_gap=[1.1, 1.2, 1.6, 1.7]), term) == [0.0, 2.0, 2.0, 0.0]
    with pytest.raises(InputError, match="never hold together"):
        parse(["band_gap between 1.6 and 1.2"])


def test_one_condition_needs_no_list() -> None:
    validator = jsonschema.Draft202012Validator(schema())
    for written, meant in (("force < 1", ["force < 1"]), (None, []), (["force < 1"], ["force < 1"])):
        values = {"reward": {"terms": [{"term": "fom", "only_if": written}]}}
        validator.validate(values)
        assert parse_config(values).reward.terms[0].only_if == meant
    for wrong in (3, [3], "", [""]):
        values = {"reward": {"terms": [{"term": "fom", "only_if": wrong}]}}
        assert not validator.is_valid(values)
        with pytest.raises(InputError, match=r"'reward\.terms\.0\.only_if(\.0)?' is .*; give .*some text"):
            parse_config(values)


@pytest.mark.parametrize(("sign", "holds"), [("<", [1, 0, 0]), ("<=", [1, 1, 0]), (">", [0, 0, 1]), (">=", [0, 1, 1]), ("==", [0, 1, 0]), ("!=", [1, 0, 1])])  # fmt: skip
def test_all_comparisons(sign: str, holds: list[int]) -> None:
    (condition,) = parse([f" force{sign}-1e-1 "])
    found, known = where_holds(condition, batch(3, force=[-0.2, -0.1, 0.0]))
    assert found.tolist() == [bool(h) for h in holds]
    assert known.all()


def test_every_figure_has_a_group() -> None:
    assert {column.name for column in FIGURES} <= set(GROUP_OF)
    assert set(GROUP_OF.values()) == set(GROUPS)
    for name in known_figures():
        assert needs(parse([f"{name} > 0"])[0]) <= set(GROUPS)
    assert set(BUILT_IN) == {"element_fraction", "element_table", *CERTAIN, *UNCERTAIN}


# --- terms ----------------------------------------------------------------------

PEROVSKITE, QUARTZ, LEAD = np.array([38, 22, 8, 8, 8]), np.array([14] * 3 + [8] * 6), np.array([82, 8])


def values_of(term: str, atoms: list[Any], **options: Any) -> list[float]:
    return earned(batch(len(atoms), numbers=atoms), TermSettings(term=term, options=options))


def test_terms_of_the_composition() -> None:
    atoms = [PEROVSKITE, QUARTZ, LEAD]
    assert values_of("element_fraction", atoms, elements=["O"]) == pytest.approx([0.6, 2 / 3, 0.5])
    assert values_of("element_fraction", atoms, elements=["Pb", "Cd", "Hg"]) == pytest.approx([0, 0, 0.5])
    assert values_of("n_elements", atoms) == [3, 2, 2]
    assert make_term("element_fraction", {"elements": ["Pb"]}).needs == frozenset()


def test_terms_of_a_table(tmp_path: Path) -> None:
    table = tmp_path / "prices.csv"
    table.write_text("element,value,source,,\nSi,2.0,x\nO, 0.1 ,,,, ,\n", encoding="utf-8-sig")
    atoms = [QUARTZ, LEAD]
    options = {"table": str(table), "missing": 10}
    assert values_of("element_table", atoms, **options) == pytest.approx([2.2 / 3, 5.05])
    assert values_of("element_table", atoms, per="formula", **options) == pytest.approx([2.2, 10.1])
    silicon, oxygen = MASSES[13], MASSES[7]
    by_mass = (2.0 * silicon + 0.1 * 2 * oxygen) / (silicon + 2 * oxygen)
    assert values_of("element_table", [QUARTZ], per="mass", **options) == pytest.approx([by_mass])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "cannot be read"),
        ("symbol,value\nSi,1\n", "no column 'element'"),
        ("element,price\nSi,1\n", "no column 'value'"),
        ("element,value\nSi,1\nXx,2\n", "line 3: 'Xx' is not an element symbol"),
        ("element,value\nSi,1\nO,cheap\n", "line 3: 'cheap' is not a finite number"),
        ("element,value\nSi,1\nSi,2\n", "line 3: Si is already in line 2"),
        ("element,value\nSi,1\n", "no value for H, He, Li, Be, B, C, N, O and others"),
        ("element,value\nO,1\nSi,2,5\n", "line 3 has more cells than .* decimals with a point"),
        ("element,value,source\nPt,30,000,x\n", "line 2 has more cells"),
        ("element,value\nPt,1_000\n", "'1_000' is not a finite number"),
        ("element,value,value\nPt,1,2\n", "has 2 columns 'value'"),
        ("value,element,element\n1,Pt,Si\n", "has 2 columns 'element'"),
    ],
)
def test_tables_that_cannot_be_used_are_refused(text: str | None, says: str, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    if text is not None:
        table.write_text(text)
    with pytest.raises(InputError, match=says):
        make_term("element_table", {"table": str(table)})


@pytest.mark.parametrize(
    ("term", "options", "says"),
    [
        ("e_above_hul", {}, "did you mean 'e_above_hull'"),
        ("colour", {}, "use one of"),
        ("e_above_hull", {"elements": ["O"]}, "takes none"),
        ("element_fraction", {}, "needs the option 'elements'"),
        ("element_fraction", {"elements": [False]}, "in quotes"),
        ("element_fraction", {"elements": ["Xx"]}, "'Xx' is not an element symbol"),
        ("element_fraction", {"element": ["O"]}, "did you mean 'elements'"),
        ("element_table", {}, "needs the option 'table'"),
        ("element_table", {"table": "x.csv", "per": "kg"}, "not one of atom, mass, formula"),
        *(
            ("element_table", {"table": "x.csv", "missing": value}, "'missing': .* is not a finite number")
            for value in ("none", True, float("nan"), float("-inf"), 10**400)
        ),
        ("element_table", {"table": "\0x"}, r"needs the option 'table', .* not '\\x00x'"),
        ("element_table", {"table": "\ud800"}, "cannot be read"),
        ("price", {}, "use element_table"),
        ("my_cost", {}, "use element_table"),
        ("scarcity", {}, "use element_table"),
        ("nowhere_at_all:term", {}, "cannot import nowhere_at_all"),
        ("test_rewards:nothing", {}, "has no 'nothing'"),
        ("test_rewards:ROCK_SALT", {}, "no function"),
        ("test_rewards:no_term", {}, "which is not a term"),
        (":x", {}, "cannot import"),
        (".x:c", {}, "cannot import .x"),
    ],
)
def test_wrong_terms_are_refused(term: str, options: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=rf"^reward\.terms\.1: .*{says}") as found:
        Reward.of(RewardSettings(terms=[TermSettings(term="fom"), TermSettings(term=term, options=options)]))
    assert "\n" not in str(found.value)


def test_files_are_the_options_that_name_one(tmp_path: Path) -> None:
    first, second = tmp_path / "b.csv", tmp_path / "a.csv"
    for path in (first, second):
        path.touch()
    options: list[dict[str, Any]] = [
        {"table": str(first), "per": "mass", "missing": 1.0},
        {"table": "periodic", "other": str(second), "folder": str(tmp_path)},
        {"table": str(first), "long": "x" * 5000, "nothing": "\0", "list": [str(second)]},
    ]
    found = RewardSettings(terms=[TermSettings(term="x", options=each) for each in options]).files
    assert found == [str(first), str(second)]


class Atoms:
    """A user's term: the number of atoms."""

    needs: frozenset[str] = frozenset()

    def __call__(self, batch: Batch) -> tuple[np.ndarray, np.ndarray | None]:
        assert len(batch)
        assert all(status == "ok" for status in batch.statuses)
        return np.array([len(z) for z in batch.atomic_numbers if z is not None], float), None


class Deep(Atoms):
    """A user's term that would like to be paid for depth below the hull."""

    needs = frozenset({"energy"})

    def __call__(self, batch: Batch) -> tuple[np.ndarray, np.ndarray | None]:
        return -batch.figure("e_above_hull"), np.full(len(batch), 0.01)


class Wrong(Atoms):
    """A user's term that gives one number for all."""

    def __call__(self, batch: Batch) -> tuple[np.ndarray, np.ndarray | None]:
        return np.zeros(1), None


class Greedy(Atoms):
    """A user's term that wants what nobody computes."""

    needs = frozenset({"phonons"})


def atoms(options: Any) -> Atoms:
    terms.check_options("atoms", options, ())
    return Atoms()


def no_term(options: Any) -> int:
    return 3


def test_users_terms_come_by_path_or_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    point = importlib.metadata.EntryPoint("my_atoms", "test_rewards:atoms", terms.ENTRY_POINTS)
    broken = importlib.metadata.EntryPoint("my_broken", "test_rewards:nothing", terms.ENTRY_POINTS)
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [point, broken])
    given = batch(2, numbers=[QUARTZ, None], statuses=["ok", "no_crystal"])
    for name in ("my_atoms", "test_rewards:atoms"):
        assert earned(given, TermSettings(term=name)) == [9.0, -1.0]
    failed = batch(1, numbers=[None], statuses=["no_crystal"])
    assert earned(failed, TermSettings(term="my_atoms")) == [-1.0]  # nobody is asked about no crystal
    with pytest.raises(InputError, match="did you mean 'my_atoms'"):
        make_term("my_atom", {})
    with pytest.raises(InputError, match="cannot be loaded"):
        make_term("my_broken", {})


def test_users_terms_are_held_to_the_same_laws(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, make in (("deep", Deep), ("wrong", Wrong), ("greedy", Greedy)):
        monkeypatch.setitem(BUILT_IN, name, lambda options, make=make: make())
    given = batch(2, e_above_hull=[0.0, -3.0])
    assert earned(given, TermSettings(term="deep")) == pytest.approx([0.0, 0.0])
    assert earned(given, TermSettings(term="deep", confidence=2.0)) == pytest.approx([-0.02, -0.02])
    with pytest.raises(InputError, match="one number a crystal"):
        rewards(given, TermSettings(term="wrong"))
    with pytest.raises(InputError, match="needs 'phonons'"):
        rewards(given, TermSettings(term="greedy"))
    with pytest.raises(InputError, match="without a standard deviation"):
        rewards(given, TermSettings(term="test_rewards:atoms", confidence=1.0))
    with pytest.raises(InputError, match="without a standard deviation"):
        Reward.of(RewardSettings(terms=[TermSettings(term="e_above_hull", confidence=1.0)]))


def test_the_examples_of_the_documentation_work(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"```(\w+)\n(.*?)```", (root / "docs" / "rewards.md").read_text(), re.DOTALL)
    (package,) = [tomllib.loads(text) for kind, text in blocks if kind == "toml"]
    (table,) = [text for kind, text in blocks if kind == "csv"]
    code = next(text for kind, text in blocks if kind == "python")
    (tmp_path / "prices.csv").write_text(table)
    (tmp_path / "refraction.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    offered = package["project"]["entry-points"][terms.ENTRY_POINTS]
    points = [importlib.metadata.EntryPoint(name, value, terms.ENTRY_POINTS) for name, value in offered.items()]
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: points)

    configured = [RewardSettings(**yaml.safe_load(text)["reward"]) for kind, text in blocks if kind == "yaml"]
    assert configured[0] == RewardSettings()
    more = {
        "eps_electronic": [4.0],
        "eps_electronic_std": [0.4],
        "fom": [8.0],
        "fom_std": [3.0],
        "novelty": [1.0],
        "new_formula": [1.0],
    }
    given = batch(
        1,
        numbers=[QUARTZ],
        e_above_hull=[0.05],
        applicability=[1.0],
        force=[2.0],
        band_gap=[2.0],
        band_gap_std=[0.2],
        **more,
    )
    silicon, oxygen = MASSES[13], MASSES[7]
    price = (2.0 * silicon + 0.1 * 2 * oxygen) / (silicon + 2 * oxygen)
    expected = [0.0, 0.1, -0.45, -0.05 * np.log(price), 0.0, 0.0, 0.19]
    found = [Reward.of(settings).score(given).reward[0] for settings in configured]
    assert found == pytest.approx([1.5, *(value - 0.05 for value in expected[1:])])


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match="2 statuses"):
        batch(2, e_above_hull=[0.1, 0.2], force=[0.1])
