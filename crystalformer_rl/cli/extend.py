"""`crystalformer-rl extend`."""

from __future__ import annotations

import click

from crystalformer_rl.cli.console import say
from crystalformer_rl.cli.options import json_option, out_option


@click.command()
@click.argument("reference", type=click.Path())
@click.argument("recovered", type=click.Path())
@out_option
@json_option
def command(reference: str, recovered: str, out: str, as_json: bool) -> None:
    """Add the structures of RECOVERED that count in pretraining to a REFERENCE, for a policy that is trained on them.

    They take the place of those that the REFERENCE had. A sample that matches one is then not called new. They are probable structures, not known ones: they stand on no hull, measure no
    bias, and a crystal that matches one is known by its formula.

    \b
    Example:
      crystalformer-rl extend reference.parquet recovered.parquet --out extended.parquet
    """
    from crystalformer_rl.reference.file import write_reference
    from crystalformer_rl.stages.extend import extend
    from crystalformer_rl.tables.provenance import provenance, read_provenance
    from crystalformer_rl.tables.role import Role

    table = extend(reference, recovered)
    kept = {key: read_provenance(reference)[key] for key in ("potential", "elemental_energies", "energies", "bias")
            if key in read_provenance(reference)}  # fmt: skip
    write_reference(out, table, provenance("extend", {}, [reference, recovered], **kept))
    added = table.column("role").to_pylist().count(Role.RECOVERED)
    say(
        {"out": out, "entries": table.num_rows, "recovered": added},
        f"{out}: {table.num_rows} entries, {added} of them recovered structures.",
        as_json,
    )
