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

    Ends with an error where an energy is more than 2 meV/atom off: then the reference was made with another version. Of a potential
    that the reference is not of, its DFT energies compete; the error is then that scales differ, or that the potential's bias was
    not measured (`potential install`).

    \b
    Example:
      crystalformer-rl check-reference --reference reference.parquet --potential chgnet
    """
    from crystalformer_rl.potential import load
    from crystalformer_rl.stages.check_reference import check_reference

    findings = check_reference(load(potential_name, device=device), reference, entries, potential_name)
    if out:
        write_json(out, findings)
    name = findings["potential"]["name"]
    if "bias" in findings:
        words = f"{reference} is of another potential: its DFT energies compete, moved by the bias of {name}."
    else:
        deviation = 1000 * findings["largest_deviation_of_entries"]
        words = f"{findings['entries']} entries of {reference} recomputed with {name} within {deviation:.2f} meV/atom."
    say({**findings, "out": out}, words, as_json)
