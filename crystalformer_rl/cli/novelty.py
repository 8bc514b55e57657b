"""`crystalformer-rl novelty`."""

from __future__ import annotations

from collections import Counter
from typing import Any

import click

from crystalformer_rl.cli.console import count_words, progress, say, status_counts
from crystalformer_rl.cli.options import json_option, out_option


@click.command()
@click.argument("crystals", nargs=-1, required=True, type=click.Path())
@click.option("--reference", required=True, type=click.Path(), help="Reference (Parquet) whose structures are known.")
@out_option
@json_option
def command(crystals: tuple[str, ...], reference: str, out: str, as_json: bool) -> None:
    """Sort crystals into new and retrieved, and find repeats among them.

    CRYSTALS: tables of crystals (of `relax` as a rule, so that structures are compared at rest), CIF
    files, or folders of them; several make one table, in the order given.

    A crystal is retrieved where pymatgen's StructureMatcher (its defaults) matches it with a structure
    that the policy was pretrained on, and novel otherwise; novel and rediscovered where it matches a
    held-out structure of the reference, which the policy never saw. It is unique where no earlier row
    matches.

    known_level says what the REFERENCE knows at most: the structure, the formula in other structures,
    the prototype with other elements, other compounds in the chemical system, or none of these.

    \b
    Example:
      crystalformer-rl novelty relaxed.parquet --reference reference.parquet --out novelty.parquet
    """
    from crystalformer_rl.crystal.readers import read_crystals
    from crystalformer_rl.discovery.known_structures import Known
    from crystalformer_rl.discovery.novelty_table import novelty
    from crystalformer_rl.tables.parquet import write_table
    from crystalformer_rl.tables.provenance import provenance

    table = read_crystals(crystals)
    known = Known.from_reference(reference)
    with progress(table.num_rows, "novelty") as bar:
        result = novelty(table, known, bar.update)
    made_by = provenance("novelty", {}, [*crystals, reference], unreadable_entries=known.unreadable or None)
    write_table(out, result, made_by)
    summary = _summary(result) | {"unreadable_entries": len(known.unreadable), "out": out}
    say(summary, _words(summary, result.column("status").to_pylist()), as_json)


def _summary(table: Any) -> dict[str, Any]:
    def true(name: str) -> int:
        return sum(x is True for x in table.column(name).to_pylist())

    levels = Counter(x for x in table.column("known_level").to_pylist() if x is not None)
    return {
        "crystals": table.num_rows,
        "status": status_counts(table.column("status").to_pylist()),
        "novel": true("novel"),
        "rediscovered": true("rediscovered"),
        "unique": true("unique"),
        "known_levels": dict(sorted(levels.items())),
    }


def _words(summary: dict[str, Any], statuses: list[str]) -> str:
    words = (
        f"{summary['crystals']} crystals ({count_words(statuses)}): {summary['novel']} not in the pretraining set, "
        f"{summary['rediscovered']} of them in the held-out set; {summary['unique']} unique → {summary['out']}"
    )
    if summary["unreadable_entries"]:
        words += (
            f"\nwarning: {summary['unreadable_entries']} reference entries could not be compared (see the file's provenance)"
        )
    return words
