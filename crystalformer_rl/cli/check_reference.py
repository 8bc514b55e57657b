"""`crystalformer-rl check-reference`."""

from __future__ import annotations

import click

from crystalformer_rl.cli.console import say, write_json
from crystalformer_rl.cli.options import device_option, json_option, potential_option, reference_option


@click.command()
@reference_option
@potential_option()
@device_option
@click.option("--entries", default=8, show_default=True, type=click.IntRange(1), help="Entries to recompute.")
@click.option("--out", type=click.Path(), help="JSON file for the findings.")
@json_option
def command(reference: str, potential_name: str, device: str, entries: int, out: str | None, as_json: bool) -> None:
    """Compute some energies of a REFERENCE again, before a run compares with them.

    Ends with an error where the reference names another potential, or where an energy is more than 2 meV/atom off: then
    it was made with another potential or version.

    \b
    Example:
      crystalformer-rl check-reference --reference reference.parquet --potential chgnet
    """
    from crystalformer_rl.potential import load
    from crystalformer_rl.stages.check_reference import check_reference

    findings = check_reference(load(potential_name, device=device), reference, entries)
    if out:
        write_json(out, findings)
    deviation = 1000 * findings["largest_deviation_of_entries"]
    words = (
        f"{findings['entries']} entries of {reference} recomputed with {findings['potential']['name']} within "
        f"{deviation:.2f} meV/atom."
    )
    say({**findings, "out": out}, words, as_json)
