"""`crystalformer-rl fetch`."""

from __future__ import annotations

import sys
from typing import Any

import click
from tqdm import tqdm

from crystalformer_rl.cli.console import say
from crystalformer_rl.cli.options import json_option, out_option


def _print_registry(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if not value or context.resilient_parsing:
        return
    from crystalformer_rl.resources.registry import load_registry

    for resource in load_registry().values():
        size = f"{resource.size / 1e6:.1f} MB" if resource.size else "size not published"
        click.echo(f"{resource.name}\n    {resource.description}\n    {resource.kind}, {size}; licence: {resource.licence}")
        click.echo(f"    cite: {resource.citation}")
    context.exit()


@click.command()
@click.argument("name_or_url", metavar="NAME|URL")
@out_option
@click.option("--sha256", "sha256_hex", metavar="HEX", help="Digest that the download must have.")
@click.option("--member", metavar="PATH", help="File to take out of a zip archive, instead of the registry's choice.")
@click.option(
    "--lock",
    type=click.Path(),
    default="resources.lock.json",
    show_default=True,
    help="Where the digest of a first download is recorded if none is published.",
)
@click.option("--list", is_flag=True, is_eager=True, expose_value=False, callback=_print_registry, help="Show the registry.")
@json_option
def command(name_or_url: str, out: str, sha256_hex: str | None, member: str | None, lock: str, as_json: bool) -> None:
    """Bring a resource to a file.

    NAME is an entry of the registry (`--list` shows them with licence and citation), URL an https, http or
    file address. A download that was cut goes on where it stopped when the command is run again; the file
    appears under its name only when it is whole and its digest right. Where nobody published a digest, the
    first download's is recorded in the lock file, and a later download that differs is refused.

    Zip archives: the registry names the file to take out; with --out ending in .zip the archive itself is kept.

    \b
    Examples:
      crystalformer-rl fetch embedded-policy --out policy.safetensors
      crystalformer-rl fetch mp20-train --out mp20-train.csv
      crystalformer-rl fetch https://example.org/crystals.parquet --out crystals.parquet --sha256 4355a4…
    """
    from crystalformer_rl.resources.fetching import fetch
    from crystalformer_rl.resources.registry import find

    resource = find(name_or_url)
    with tqdm(desc=resource.name, unit="B", unit_scale=True, disable=not sys.stderr.isatty(), dynamic_ncols=True) as bar:
        fetched = fetch(
            resource,
            out,
            sha256_hex=sha256_hex,
            member=member,
            lock=lock,
            advance=lambda done, total: _show(bar, done, total),
        )
    summary: dict[str, Any] = {
        "name": resource.name,
        "url": resource.url,
        "out": str(fetched.path),
        "size": fetched.size,
        "sha256": fetched.sha256,
        "verified_by": fetched.verified,
        "fresh": fetched.fresh,
        "licence": resource.licence,
    }
    words = f"{fetched.path}: {fetched.size:,} bytes, verified by {fetched.verified}"
    words += "" if fetched.fresh else ", was there already"
    if resource.licence:
        words += f"\nlicence: {resource.licence}; cite: {resource.citation}"
    say(summary, words, as_json)


def _show(bar: tqdm, done: int, total: int | None) -> None:
    bar.total = total
    bar.update(done - bar.n)
