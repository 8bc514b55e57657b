"""`crystalformer-rl check-potential`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from crystalformer_rl.cli.console import say
from crystalformer_rl.cli.options import json_option

if TYPE_CHECKING:
    from crystalformer_rl.crystal.structure import Crystal
    from crystalformer_rl.potential.protocol import Potential


@click.command()
@click.option("--potential", "potential_name", default="chgnet", show_default=True,
              help="chgnet, chgnet-r2scan, mace:FILE or ase:package.module:Class.")  # fmt: skip
@click.option("--reference", required=True, type=click.Path(), help="The reference that its energies will be compared with.")
@click.option("--entries", default=8, show_default=True, type=click.IntRange(1), help="Entries to recompute.")
@click.option("--out", type=click.Path(), help="JSON file for the findings.")
@json_option
def command(potential_name: str, reference: str, entries: int, out: str | None, as_json: bool) -> None:
    """Hold a potential to the laws of physics and to the REFERENCE, before a run trusts both.

    Laws: the energy of a supercell is that of its cells; forces and stress are the derivatives of the energy; neither
    rotation nor the order of atoms nor the batch changes anything. Then some entries of the reference are
    recomputed; more than 2 meV/atom off means that it was made with another potential or version.

    Ends with an error where a law is broken or the reference is not this potential's.

    \b
    Example:
      crystalformer-rl check-potential --potential chgnet --reference reference.parquet
    """
    import json
    from dataclasses import asdict
    from pathlib import Path

    from crystalformer_rl.errors import InputError
    from crystalformer_rl.potential import load
    from crystalformer_rl.potential.contract import check_potential
    from crystalformer_rl.stages.reference import entries_to_recompute, self_test
    from crystalformer_rl.tables.parquet import atomic_path

    potential = load(potential_name)
    deviation = self_test(reference, potential, entries)
    recomputed = entries_to_recompute(reference, entries)
    entries = len(recomputed)  # a small reference may have fewer
    try:
        deviations = check_potential(potential, _off_minimum(potential, recomputed))
    except ValueError as error:  # a changed crystal that the potential refuses, such as a supercell that is too large
        raise InputError(f"{reference}: {error}; give a reference of other crystals, or another potential.") from error
    if broken := deviations.broken():
        found = ", ".join(f"{law} by {value:.2g}" for law, value in broken.items())
        raise InputError(
            f"the potential '{potential_name}' breaks laws that every potential must keep ({found}; eV/atom, eV/Å or eV/Å³); "
            f"relaxation and hull would be wrong with it: use another, or mend it."
        )
    findings = {
        "potential": potential.identity,
        "largest_deviation_of_entries": deviation,
        "entries": entries,
        "laws": asdict(deviations),
    }
    if out:
        with atomic_path(Path(out)) as temporary:
            temporary.write_text(json.dumps(findings, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    say(
        findings,
        f"{potential.identity['name']} keeps the laws; {entries} entries of {reference} recomputed within "
        f"{1000 * deviation:.2f} meV/atom.",
        as_json,
    )


def _off_minimum(potential: Potential, crystals: list[Crystal]) -> list[Crystal]:
    """The crystals moved a little, so that forces and stress are not zero; those that can be evaluated, small ones first."""
    from crystalformer_rl.errors import InputError
    from crystalformer_rl.potential.free import rattled

    moved = [rattled(crystal) for crystal in sorted(crystals, key=len)]
    sound = [c for c, o in zip(moved, potential.evaluate(moved), strict=True) if not isinstance(o, str)]
    if not sound:
        raise InputError("the potential can evaluate none of the reference's crystals; choose another potential.")
    return sound[:4]
