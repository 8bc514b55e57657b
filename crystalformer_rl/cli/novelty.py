"""`crystalformer-rl novelty`."""

from __future__ import annotations

from collections import Counter
from typing import Any

import click

from crystalformer_rl.cli.console import count_words, progress, say, summarize
from crystalformer_rl.cli.crystals_argument import read_told
from crystalformer_rl.cli.options import json_option, out_option, reference_option


@click.command()
@click.argument("crystals", nargs=-1, required=True, type=click.Path())
@reference_option
@out_option
@json_option
def command(crystals: tuple[str, ...], reference: str, out: str, as_json: bool) -> None:
    """Sort crystals into new and retrieved, and find repeats among them.

    CRYSTALS: tables of crystals (of `relax` as a rule, so that structures are compared at rest),
    or files, folders and archives of crystals (docs/inputs.md); several make one table, in the order given.

    A crystal is retrieved where pymatgen's StructureMatcher (its defaults) matches it with a structure
    that the policy was pretrained on, and novel otherwise; novel and rediscovered where it matches a
    held-out structure of the reference, which the policy never saw. Of the crystals
    of one structure, the one with the smallest id is unique.

    known_level says what the REFERENCE knows at most: the structure; the ordering of similar elements in it;
    the formula; by substitution of elements another compound, which it names with the exchange and its
    likelihood; the prototype, the same Wyckoff positions shared otherwise; other compounds in the chemical
    system; or none of these.

    \b
    Example:
      crystalformer-rl novelty relaxed.parquet --reference reference.parquet --out novelty.parquet
    """
    from crystalformer_rl.stages.novelty import novelty
    from crystalformer_rl.tables.parquet import write_table
    from crystalformer_rl.tables.provenance import provenance, record_of

    table = read_told(crystals)
    with progress(table.num_rows, "novelty") as bar:
        result = novelty(table, reference, advance=bar.update)
    unreadable = record_of(result).get("unreadable_entries")
    write_table(out, result, provenance("novelty", {}, [*crystals, reference], unreadable_entries=unreadable))
    statuses = result.column("status").to_pylist()
    summary = summarize(statuses, out, **_figures(result), unreadable_entries=len(unreadable or []))
    say(summary, _words(summary, statuses), as_json)


def _figures(table: Any) -> dict[str, Any]:
    def true(name: str) -> int:
        return sum(x is True for x in table.column(name).to_pylist())

    levels = Counter(x for x in table.column("known_level").to_pylist() if x is not None)
    counts = {name: true(name) for name in ("novel", "rediscovered", "unique")}
    return {**counts, "known_levels": dict(sorted(levels.items()))}


def _words(summary: dict[str, Any], statuses: list[str]) -> str:
    words = (
        f"{summary['n']} crystals ({count_words(statuses)}): {summary['novel']} not in the pretraining set, "
        f"{summary['rediscovered']} of them in the held-out set; {summary['unique']} unique → {summary['out']}"
    )
    if summary["unreadable_entries"]:
        words += (
            f"\nwarning: {summary['unreadable_entries']} reference entries could not be compared (see the file's provenance)"
        )
    return words
