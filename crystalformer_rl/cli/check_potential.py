"""`crystalformer-rl check-potential`."""

from __future__ import annotations

import click

from crystalformer_rl.cli.console import say, write_json
from crystalformer_rl.cli.options import device_option, json_option, potential_option


@click.command()
@potential_option()
@device_option
@click.option("--out", type=click.Path(), help="JSON file for the findings.")
@json_option
def command(potential_name: str, device: str, out: str | None, as_json: bool) -> None:
    """Hold a potential to the laws of physics, before a run trusts it.

    On textbook crystals, moved a little: the energy of a supercell is that of its cells; forces and stress are the
    derivatives of the energy; neither rotation nor the order of atoms nor the batch changes anything.

    Ends with an error where a law is broken.

    \b
    Example:
      crystalformer-rl check-potential --potential chgnet
    """
    from crystalformer_rl.potential import load
    from crystalformer_rl.stages.check_potential import check_potential

    findings = check_potential(load(potential_name, device=device))
    if out:
        write_json(out, findings)
    words = f"{findings['potential']['name']} keeps the laws on {findings['crystals']} crystals."
    say({**findings, "out": out}, words, as_json)
