"""A self-contained HTML page from a folder of results, and the outcome in words."""

from __future__ import annotations

from typing import NamedTuple

from crystalformer_rl.report.page import render
from crystalformer_rl.report.results import Results
from crystalformer_rl.report.words import findings


class Report(NamedTuple):
    """page: the HTML, which needs no network; findings: the outcome in sentences, the most important first."""

    page: str
    findings: list[str]


def report(results: Results) -> Report:
    """The report of what `report.results.read_results` read; the same results give the same text."""
    return Report(render(results), findings(results))
