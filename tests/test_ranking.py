"""In which order crystals are recommended, and which are left out."""

from __future__ import annotations

from typing import Any

import pytest

from crystalformer_rl.config.loading import parse_config
from crystalformer_rl.crystal.elements import parse_formula
from crystalformer_rl.discovery.ranking import Ranking
from crystalformer_rl.errors import InputError


def row(name: str, formula: str = "NaCl", **figures: Any) -> dict[str, Any]:
    numbers = [z for z, n in parse_formula(formula).items() for _ in range(n)]
    plain = {"e_above_hull": 0.0, "hull_support": 10, "converged": True, "known_level": "none", "stable": True}
    plain |= {"p_stable": None, "p_stable_judged": None}
    return {"id": name, "formula": formula, "atomic_numbers": numbers, "fom": None, "band_gap": None} | plain | figures


def order(ranking: Ranking, *rows: dict[str, Any], one_formula: bool = False) -> list[str]:
    return [r["id"] for r in sorted(rows, key=lambda r: (*ranking.key(r, one_formula), r["id"]))]


def test_depth_below_the_hull_earns_nothing() -> None:
    deep, shallow, above = (
        row("deep", e_above_hull=-0.3, hull_support=1),
        row("on", hull_support=20),
        row("up", e_above_hull=0.01),
    )
    assert order(Ranking(), deep, shallow, above) == ["on", "deep", "up"]
    # of one formula energies rank, and no hull is needed
    assert order(Ranking(), deep, shallow, above, one_formula=True) == ["deep", "on", "up"]


def test_the_probability_of_being_stable_ranks_by_default() -> None:
    """By both potentials where a second one judged; crystals without one stand after all that have it."""
    rows = [
        row("likely", p_stable=0.9, e_above_hull=0.05),
        row("unlikely", p_stable=0.2),
        row("refuted", p_stable=0.95, p_stable_judged=0.1),
        row("confirmed", p_stable=0.8, p_stable_judged=0.99),
        row("unknown", e_above_hull=-0.5),
    ]
    assert order(Ranking(), *rows) == ["confirmed", "likely", "unlikely", "refuted", "unknown"]
    assert order(Ranking(), *rows, one_formula=True)[0] == "unknown"
    assert "by falling probability of being stable" in Ranking().rule


def test_ties_go_by_support_convergence_and_novelty() -> None:
    rows = [row("known", known_level="formula"), row("moving", converged=False), row("new"), row("thin", hull_support=2)]
    assert order(Ranking(), *rows) == ["new", "known", "moving", "thin"]


def test_merit_ranks_stable_crystals_first() -> None:
    rows = [row("a", fom=3.0), row("b", fom=9.0), row("c", fom=99.0, stable=False, e_above_hull=0.3), row("d")]
    assert order(Ranking.of("fom"), *rows) == ["b", "a", "d", "c"]


def test_any_column_ranks_falling_or_rising() -> None:
    rows = [row("a", band_gap=1.0), row("b", band_gap=3.0), row("c", band_gap=2.0)]
    assert order(Ranking.of("band_gap"), *rows) == ["b", "c", "a"]
    assert order(Ranking.of("-band_gap"), *rows) == ["a", "c", "b"]


def test_what_is_left_out_stands_last_and_says_why() -> None:
    ranking = Ranking.of("e_above_hull", ["band_gap between 1.2 and 1.6"], ["noble_gases", "no_stable_isotope", "Pb"])
    argon, lead = row("argon", "CsPSeAr", band_gap=1.4), row("lead", "PbS", band_gap=1.4)
    uranium, wide = row("uranium", "UO2", band_gap=1.4), row("wide", band_gap=3.0)
    good, unknown = row("good", e_above_hull=0.2, band_gap=1.2), row("unknown")
    assert order(ranking, argon, lead, uranium, wide, good, unknown)[0] == "good"
    assert [ranking.left_out(r) for r in (argon, lead, uranium, wide, good, unknown)] == [
        "contains Ar", "contains Pb", "contains U", "not band_gap <= 1.6", None, "band_gap is not known",
    ]  # fmt: skip


def test_bismuth_is_stable_enough() -> None:
    assert Ranking.of("e_above_hull", exclude=["no_stable_isotope"]).left_out(row("b", "Bi2Te3")) is None


@pytest.mark.parametrize(
    ("rank", "says"),
    [
        ({"by": "beauty"}, "'beauty' ranks nothing; use one of"),
        ({"by": "formula"}, "'formula' ranks nothing"),
        ({"where": ["band_gap"]}, "is not a comparison"),
        ({"where": ["gap < 1"]}, "did you mean 'band_gap'|is not a figure"),
        ({"exclude": ["Xx"]}, "'Xx' is not an element symbol"),
    ],
)
def test_wrong_rankings_are_refused_with_the_configuration(rank: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        parse_config({"rank": rank})


def test_the_rule_in_words() -> None:
    words = Ranking.of("fom", ["band_gap > 1"], ["Pb"]).rule
    assert words == (
        "stable crystals first, by falling figure of merit; then the others by rising energy above the hull; first those with "
        "band_gap > 1.0; last those with Pb"
    )
