"""The page says what the tables say, needs no network, and does without what is missing."""

from __future__ import annotations

import base64
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner
from discovery_examples import write_results

from crystalformer_rl.cli import cli
from crystalformer_rl.crystal.elements import ATOMIC_NUMBERS, parse_formula
from crystalformer_rl.discovery.solid_solution import mixing
from crystalformer_rl.errors import InputError
from crystalformer_rl.formatting import signed, with_deviation
from crystalformer_rl.plotting.page_charts import histogram, shares
from crystalformer_rl.plotting.style import PAGE
from crystalformer_rl.report.evidence import evidence, line
from crystalformer_rl.tables.column import make_table
from crystalformer_rl.tables.discovery_columns import CANDIDATES, METRICS
from crystalformer_rl.tables.parquet import read_table, write_table


class Page(HTMLParser):
    """What a page holds: tags in order, ids, links, table rows as text; complains of tags that do not close."""

    VOID = frozenset({"meta", "link", "br", "path", "line", "circle", "rect"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.words = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data):
        if "script" in self.open or "style" in self.open:
            return
        self.words += data
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data

    def row(self, first: str) -> list[str]:
        """The first row that begins so, spaces made single."""
        rows = ([" ".join(cell.split()) for cell in row] for row in self.rows)
        return next(row for row in rows if row and row[0].startswith(first))


def report(folder: Path, out: Path, *more: str):
    return CliRunner().invoke(cli, ["report", str(folder), "--out", str(out), *more], catch_exceptions=False)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return write_results(tmp_path_factory.mktemp("run") / "results", n=60)


@pytest.fixture(scope="module")
def page(results):
    report(results, results / "report")
    return Page((results / "report" / "index.html").read_text())


def test_the_page_loads_nothing_from_elsewhere(results, page):
    text = (results / "report" / "index.html").read_text()
    for tag, attributes in page.tags:
        for name in ("src", "href", "srcset", "action", "data"):
            target = attributes.get(name)
            assert target is None or target.startswith(("#", "data:")), (tag, target)
    assert "http" not in re.sub(r"base64,[A-Za-z0-9+/=]*", "", text)
    assert "@import" not in text
    assert re.search(r"url\((?!#)", text) is None


def test_the_page_is_accessible(page):
    tags = [tag for tag, _ in page.tags]
    assert tags.count("h1") == 1
    charts = [attributes for tag, attributes in page.tags if tag == "svg" and "chart" in (attributes.get("class") or "")]
    assert len(charts) == 2 + 6 + 1
    assert all(a["role"] == "img" and len(a["aria-label"] or "") > 20 for a in charts)
    assert all(attributes.get("scope") in ("col", "row") for tag, attributes in page.tags if tag == "th")
    ids = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    assert {(a["href"] or "")[1:] for tag, a in page.tags if tag == "a" and (a["href"] or "").startswith("#")} <= ids
    assert ("html", {"lang": "en"}) in page.tags


def test_metrics_on_the_page_are_those_of_the_table(results, page):
    base, tuned = read_table(results / "metrics.parquet", METRICS).to_pylist()
    row = page.row("Stable as sampled")
    for cell, metrics in zip(row[1:3], (base, tuned), strict=True):
        assert cell.startswith(f"{metrics['stable_initial_count']} · {100 * metrics['stable_initial_fraction']:.1f} %")
        assert f"{100 * metrics['stable_initial_low']:.1f} to {100 * metrics['stable_initial_high']:.1f} %" in cell
    failures = json.loads(base["failures"])
    assert page.row("sample")[1:3] == ["no_crystal", str(failures["sample"]["no_crystal"])]


def test_candidates_on_the_page_are_the_best_of_the_table(results, page):
    table = read_table(results / "candidates.parquet", CANDIDATES).to_pylist()
    start = next(i for i, row in enumerate(page.rows) if row and row[0] == "Rank")
    shown = page.rows[start + 1 : start + 1 + min(50, len(table))]
    for row, candidate in zip(shown, table, strict=False):
        assert row[0] == str(candidate["rank"])
        assert row[1] == candidate["formula"]
        assert candidate["verdict"].replace("_", " ") in row[3]
        assert row[4] == signed(candidate["e_above_hull"])
    links = [a for tag, a in page.tags if tag == "a" and a.get("download")]
    assert len(links) == len(shown)
    assert base64.b64decode(links[0]["href"].split(",", 1)[1]).decode() == table[0]["cif"]


def test_the_page_says_how_it_was_made(page):
    assert page.row("evaluation/base/crystals.parquet")[1] == "evaluate"
    assert page.row("finetune/tuned/round_2/updates.parquet")[2] == "round = 2, seed = 0, tau = 0.1"
    assert "example (weights 00000000, corrections none)" in page.words
    assert "13 entries, 11 of them seen in pretraining" in page.words


def test_summary_in_words(results):
    output = report(results, results / "report").output
    assert output == (results / "report" / "summary.txt").read_text()
    base, tuned = read_table(results / "metrics.parquet", METRICS).to_pylist()
    assert f"base {base['sun_count']} of 60" in output
    ratio = tuned["stable_initial_fraction"] / base["stable_initial_fraction"]
    assert f"{ratio:.2f} times as many" in output
    stable = [row for row in read_table(results / "candidates.parquet").to_pylist() if row["stable"]]
    new = [row for row in stable if row["verdict"] == "new"]
    assert f"Distinct stable crystals: {len(stable)}, of which {len(new)} new" in output
    assert f"1. {line(new[0])}" in output
    assert f"10. {line(new[9])}" in output or len(new) < 10
    assert str(results / "report" / "index.html") in output.splitlines()[-4]
    summary = json.loads(report(results, results / "report", "--json").output)
    assert summary["policies"] == ["base", "tuned"]


def candidate(formula: str, **other) -> dict:
    """A candidate on the hull of which nothing bad is known."""
    plain = {
        "formula": formula, "space_group": 225, "space_group_01": 225, "e_above_hull": 0.01, "e_above_hull_std": 0.02,
        "hull_support": 12, "energy_from": '{"mp-1": "relaxed", "dft-X": "dft"}', "known_level": "substitution",
        "known_partner": "mp-7", "known_exchange": "Ba → Sr", "known_exchange_likelihood": 0.14, "known_exchange_matches": True, "charge_balanced": True, "low_dimensional": False, "p_stable": None,
        "p_stable_judged": None, "judge": None, "judge_e_above_hull": None, "judge_status": None,
        "converged": True, "found_by": ["base"], "found_count": 1,
        "atomic_numbers": [z for z, n in parse_formula(formula).items() for _ in range(n)],
    }  # fmt: skip
    return plain | other


def test_a_candidate_in_a_line():
    assert line(candidate("SrTiO3")) == (
        "SrTiO3 (Fm-3m): 0.010 ± 0.020 eV/atom above the hull. For: mp-7 has its structure, with Ba → Sr (probability 0.14); "
        "12 compositions of its elements are known."
    )
    confirmed = line(
        candidate("SrTiO3", judge="SevenNet 7net-0", judge_e_above_hull=0.02, p_stable=0.8, p_stable_judged=0.96)
    )
    assert "above the hull, stable by DFT with 96 % probability by both potentials. For" in confirmed
    assert "SevenNet 7net-0, relaxing it again, puts it 0.020 eV/atom above" in confirmed
    assert line(candidate("SrTiO3", e_above_hull=-0.0001)).startswith("SrTiO3 (Fm-3m): on the hull (± 0.020 eV/atom). For")


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"known_exchange_likelihood": 1e-5}, "the nearest compound of its structure, mp-7, is far from it (Ba → Sr)"),
        ({"known_exchange": "Ba → Sr, C → Ti, N → O"}, "is far from it (Ba → Sr, C → Ti, N → O)"),
        ({"known_exchange_matches": False}, "its Wyckoff positions are those of mp-7 (Ba → Sr), but not its coordinates"),
        ({"known_exchange": "La → Y"}, "its rare-earth analogue is known"),
        ({"known_level": "none", "known_partner": None}, "no compound on its Wyckoff positions or of its elements is known"),
        ({"known_level": "prototype"}, "only mp-7 on the same Wyckoff positions"),
        ({"hull_support": 1}, "1 composition of its elements is known"),
        ({"e_above_hull": -0.2}, "so far below, the hull may be incomplete here"),
        ({"energy_from": '{"dft-X": "dft"}'}, "the competing energies are DFT's"),
        (
            {"judge": "SevenNet 7net-0", "judge_e_above_hull": 0.2},
            "puts it 0.200 eV/atom above: one of the two potentials is at fault",
        ),
        ({"judge": "SevenNet 7net-0", "judge_status": "too_large"}, "SevenNet 7net-0 gives no energy (too_large)"),
        (
            {"e_above_hull": -0.2, "judge": "SevenNet 7net-0", "judge_e_above_hull": -0.15},
            "SevenNet 7net-0 puts it 0.150 eV/atom below, too: the hull lacks a phase here",
        ),
        ({"low_dimensional": True}, "a layer, chain or molecule with vacuum around it"),
        ({"charge_balanced": False}, "no oxidation states that are seen in the ICSD sum to zero"),
        ({"converged": False}, "not at rest"),
        ({"space_group_01": 221}, "at 0.1 Å its symmetry is Pm-3m"),
        ({"atomic_numbers": [66, 68, 31, 29]}, "Dy and Er readily replace each other, so it may be a solid solution"),
    ],
)
def test_what_speaks_against_a_candidate(other, words):
    assert evidence(candidate("SrTiO3")).speaks_against == []
    (found,) = evidence(candidate("SrTiO3", **other)).speaks_against
    assert words in found


def test_solid_solutions_are_of_elements_that_replace_each_other():
    def of(*symbols: str) -> list[str]:
        return mixing(frozenset(ATOMIC_NUMBERS[s] for s in symbols))

    mixed = (("Zr", "Hf"), ("Pd", "Pt"), ("Ag", "Au"), ("As", "Sb"), ("Se", "Te"), ("Fe", "Co"), ("Ni", "Cu"), ("Dy", "Er"))
    assert all(set(of(*pair, "O")) == set(pair) for pair in mixed)
    for apart in (
        ("Pr", "Sb", "Ru"),
        ("Ca", "Sn", "Pt"),
        ("Sr", "Ti", "O"),
        ("Zn", "S"),
        ("Cs", "Nb", "Cu", "S"),
        ("Li", "Cs", "F"),
    ):
        assert of(*apart) == []


def test_the_same_results_give_the_same_bytes(results, tmp_path):
    report(results, tmp_path / "a")
    report(results, tmp_path / "b")
    assert (tmp_path / "a" / "index.html").read_bytes() == (tmp_path / "b" / "index.html").read_bytes()


def test_an_evaluation_alone_is_enough(results, tmp_path):
    report(results / "evaluation" / "tuned", tmp_path)
    page = Page((tmp_path / "index.html").read_text())
    sections = {a.get("id") for tag, a in page.tags if tag == "section"}
    assert sections == {"findings", "stability", "properties", "candidates", "metrics", "failures", "caveats", "origin"}
    assert page.row("Share") == ["Share", "tuned"]
    assert "times as many" not in page.words


@pytest.mark.parametrize(
    ("gone", "section"),
    [(["finetune"], "finetuning"), (["candidates.parquet"], None), (["samples", "relaxed", "hull", "resources"], None)],
)
def test_what_is_missing_is_left_out(results, tmp_path, gone, section):
    folder = tmp_path / "results"
    shutil.copytree(results, folder)
    for name in gone:
        shutil.rmtree(folder / name) if (folder / name).is_dir() else (folder / name).unlink()
    report(folder, tmp_path / "out")
    sections = {a.get("id") for tag, a in Page((tmp_path / "out" / "index.html").read_text()).tags if tag == "section"}
    everything = {
        "findings",
        "stability",
        "finetuning",
        "properties",
        "candidates",
        "metrics",
        "failures",
        "caveats",
        "origin",
    }
    assert sections == everything - {section}


def test_metrics_without_crystals_or_properties(results, tmp_path):
    folder = tmp_path / "evaluation"
    folder.mkdir()
    shutil.copy(results / "evaluation" / "base" / "metrics.parquet", folder)
    report(folder, tmp_path / "out")
    sections = {a.get("id") for tag, a in Page((tmp_path / "out" / "index.html").read_text()).tags if tag == "section"}
    assert sections == {"findings", "metrics", "failures", "caveats", "origin"}


def test_updates_that_lack_columns_or_rows(results, tmp_path):
    folder = tmp_path / "results"
    shutil.copytree(results, folder)
    first = folder / "finetune" / "tuned" / "round_1" / "updates.parquet"
    write_table(first, read_table(first).select(["reward_mean", "kl"]), {})
    for k in (2, 3, 4):
        shutil.rmtree(folder / "finetune" / "tuned" / f"round_{k}")
    report(folder, tmp_path / "out")
    text = (tmp_path / "out" / "index.html").read_text()
    assert text.count('<svg class="chart"') == 2 + 2 + 1


def test_the_goal_stands_before_and_after_with_its_price(page):
    """Each term of the reward and what it was bought with, from the first update and the last."""
    assert page.row("reward: e_above_hull")[1:] == ["−0.690", "−0.500"]
    assert page.row("stable as scored")[1:] == ["31.0 %", "50.0 %"]
    assert page.row("effective number of Wyckoff templates")[1:] == ["139", "120"]
    assert page.row("oxides")[1:] == ["15.0 %", "15.0 %"]


def test_no_candidates_at_all(results, tmp_path):
    folder = tmp_path / "results"
    shutil.copytree(results, folder)
    write_table(folder / "candidates.parquet", make_table(CANDIDATES, {"rank": []}), {})
    report(folder, tmp_path / "out")
    assert 'id="candidates"' not in (tmp_path / "out" / "index.html").read_text()


def test_text_from_tables_is_escaped(results, tmp_path):
    folder = tmp_path / "results"
    shutil.copytree(results, folder)
    table = read_table(folder / "candidates.parquet", CANDIDATES)
    formulas = ['<img src="x">', *table.column("formula").to_pylist()[1:]]
    write_table(folder / "candidates.parquet", make_table(CANDIDATES, table.to_pydict() | {"formula": formulas}), {})
    report(folder, tmp_path / "out")
    assert "<img" not in (tmp_path / "out" / "index.html").read_text()


def test_a_folder_without_results_is_refused(tmp_path):
    with pytest.raises(InputError, match="holds no evaluation"):
        report(tmp_path, tmp_path / "out")
    with pytest.raises(InputError, match="is not a folder"):
        report(tmp_path / "nowhere", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_histogram_counts_beyond_the_edges_and_divides_by_all_sampled():
    assert shares([-5, 0.5, 1.0, 9], [0.0, 1.0, 2.0], 8) == [25.0, 25.0]
    assert shares([], [0.0, 1.0, 2.0], 0) == [0.0, 0.0]


def test_charts_take_the_colours_and_the_words_of_the_page():
    svg = histogram([("c1", [0.5, 1.5], 2)], [0.0, 1.0, 2.0], "x in eV", 1.0, "a <chart> of words")
    element = ElementTree.fromstring(svg)
    assert element.get("aria-label") == "a <chart> of words"
    assert "x in eV" in "".join(element.itertext())
    assert "var(--c1)" in svg
    assert not [colour for colour in PAGE.values() if colour in svg]


def test_what_is_not_known_is_a_dash():
    assert with_deviation(None, None) == signed(None) == "–"


def test_signed_numbers():
    assert [signed(x, 1) for x in (-0.04, 0.04, -1.25, 2.0)] == ["0.0", "0.0", "−1.2", "2.0"]
