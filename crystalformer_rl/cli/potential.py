"""`crystalformer-rl potential list`, `potential install`."""

from __future__ import annotations

from typing import Any

import click

from crystalformer_rl.cli.console import progress, say
from crystalformer_rl.cli.options import json_option, potential_corrections_option, said_corrections


@click.group()
def command() -> None:
    """The potentials that there are, and environments for those that need one.

    Packages of potentials often cannot share an environment: `sevenn` wants another e3nn than `mace-torch`. So a
    potential may live in a Python environment of its own. Once it is installed there, every command and configuration that
    names it finds it.
    """


@command.command("list")
@json_option
def list_command(as_json: bool) -> None:
    """The potentials by name, and where each is: in this environment, in one of its own, or not installed.

    \b
    Example:
      crystalformer-rl potential list
    """
    from crystalformer_rl.potential.potential_registry import whereabouts

    rows = whereabouts()
    width = max(len(row["name"]) for row in rows)
    say({"potentials": rows}, "\n".join(f"{row['name']:<{width}}  {row['where']}" for row in rows), as_json)


@command.command("install")
@click.argument("name")
@click.option(
    "--requirement",
    "requirements",
    multiple=True,
    help="What pip installs besides, such as 'orb-models>=0.5'; repeatable. Needed for ase:package.module:Class.",
)
@click.option("--again", is_flag=True, help="Make the environment anew where there is one.")
@click.option(
    "--reference", type=click.Path(), help="Reference with DFT energies, for the bias.  [default: the embedded one]"
)
@potential_corrections_option
@json_option
def install_command(
    name: str,
    requirements: tuple[str, ...],
    again: bool,
    reference: str | None,
    potential_corrections: str | None,
    as_json: bool,
) -> None:
    """Make an environment of its own for the potential NAME, by pip, and measure the potential's bias.

    NAME is as --potential takes it: sevennet-0, sevennet-l3i5, mace:FILE, ase:package.module:Class. The environment lies in
    `potentials/` of the Python that runs this, or below $CRYSTALFORMER_RL_ENVIRONMENTS. A potential whose packages are
    here already gets none, unless --requirement or --again asks for it.

    The bias is how far the potential's formation energies lie from those of the scale (MP PBE+U, MP2020), for each element: single
    points on 200 entries of the reference, with MP2020 corrections where the potential predicts uncorrected energies. By it DFT
    energies and the potential's stand on one hull, and `hull` and `evaluate` find it. A potential that learned another scale has none.

    \b
    Examples:
      crystalformer-rl potential install sevennet-0
      crystalformer-rl potential install ase:my_orb:calculator --requirement orb-models --potential-corrections none
    """
    from crystalformer_rl.potential.bias_measurement import ENTRIES
    from crystalformer_rl.resources.registry import embedded_folder
    from crystalformer_rl.stages.potential import install_potential

    said = said_corrections(potential_corrections)
    path = reference or str(embedded_folder() / "reference.parquet")
    with progress(ENTRIES, "bias", "entry") as bar:
        found = install_potential(
            name, requirements, reference=path, corrections=said, again=again, advance=bar.update,
            report=lambda text: click.echo(text, err=True),
        )  # fmt: skip
    bias = None if found.bias is None else found.bias.as_record()
    where = "this environment" if found.folder is None else str(found.folder)
    summary = {
        "potential": name,
        "identity": found.identity.as_record(),
        "folder": where,
        "bias": bias,
        "missing": found.missing,
    }
    say(summary, f"{found.identity} is ready as '{name}' in {where}; {_words(found.bias, found.missing)}", as_json)


def _words(bias: Any, missing: str) -> str:
    if bias is None:
        return f"it has no bias: {missing}"
    return (
        f"formation energies of {bias.entries} entries lie within {1000 * bias.residual_median:.0f} meV/atom of the scale "
        "(median, formulas left out, the bias of each element applied)"
    )
