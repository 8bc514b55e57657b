"""Options that several commands take. A name means one thing in all of them.

`--potential` names a potential, `--reference` a reference file, `--models` a file of property models, `--policy` a policy
file, `--seed` a seed, `--out` what is written; `--relaxed`, `--hull`, `--novelty` and `--properties` are tables of the
stages of those names; `--name` is the name of a policy in tables.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource
from pydantic import BaseModel

if TYPE_CHECKING:
    from crystalformer_rl.reference.identity import Corrections

_Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

SEED = click.IntRange(min=0, max=2**31 - 1)
"""Seeds that a configuration may hold too."""

json_option = click.option("--json", "as_json", is_flag=True, help="Print the summary as one line of JSON.")
out_option = click.option("--out", required=True, type=click.Path(), help="File to write.")
out_folder_option = click.option("--out", required=True, type=click.Path(), help="Folder to write to.")
seed_option = click.option("--seed", default=0, show_default=True, type=SEED, help="Of all random numbers.")
reference_option = click.option(
    "--reference", required=True, type=click.Path(), help="Reference (Parquet): known crystals and their energies."
)
references_option = click.option(
    "--reference",
    "references",
    required=True,
    multiple=True,
    type=click.Path(),
    help="REFERENCE file; repeatable: of further ones the phases join the hull. These may be tables of `relax` or JSON of "
    "computed entries, too.",
)
models_option = click.option(
    "--models", type=click.Path(), help="Property models, of `train-properties`.  [default: the embedded ones]"
)
policy_option = click.option(
    "--policy", "policy_path", required=True, type=click.Path(), help="Our .safetensors or a published .pkl."
)


def potential_option(default: str = "chgnet") -> _Decorator:
    """`--potential NAME`, handed on as `potential_name`."""
    return click.option(
        "--potential",
        "potential_name",
        default=default,
        show_default=True,
        help="chgnet, chgnet-r2scan, sevennet-0, sevennet-l3i5, mace:FILE, ase:package.module:Class, or one that an installed package registers.",
    )


device_option = click.option(
    "--device",
    type=click.Choice(["cpu", "gpu"]),
    default="cpu",
    show_default=True,
    envvar="CRYSTALFORMER_RL_DEVICE",
    show_envvar=True,
    help="Where to compute; gpu is refused where there is none.",
)
stability_option = click.option(
    "--stability",
    type=click.Path(),
    help="What was learned of a potential's errors; `none` leaves it out.  [default: the embedded file]",
)


def given_stability(value: str | None) -> str | None:
    """The file that --stability means; None for none."""
    from crystalformer_rl.errors import InputError
    from crystalformer_rl.resources.registry import embedded_folder

    if value == "none":
        return None
    path = Path(value) if value is not None else embedded_folder() / "stability.safetensors"
    if path.is_file():
        return str(path)
    if value is None:  # an installation without the repository's embedded files
        return None
    raise InputError(f"{value} does not exist; give a stability file, or `none`.")


potential_corrections_option = click.option(
    "--potential-corrections",
    type=click.Choice(["mp2020", "none"]),
    help="Corrections in the potential's energies, where its identity does not say.",
)


def said_corrections(value: str | None) -> Corrections | None:
    """What --potential-corrections says."""
    from crystalformer_rl.reference.identity import Corrections

    return None if value is None else Corrections.MP2020 if value == "mp2020" else Corrections.NONE


def chosen_flags(context: click.Context, names: Collection[str]) -> list[str]:
    """Flags of those parameters whose value somebody gave."""
    return [
        parameter.opts[0]
        for parameter in context.command.params
        if parameter.name in names and context.get_parameter_source(parameter.name) is not ParameterSource.DEFAULT
    ]


def setting_option(section: type[BaseModel], name: str) -> _Decorator:
    """`--name` of a section of the configuration: its default, bounds and words are declared there, once."""
    field = section.model_fields[name]
    bounds = section.model_json_schema()["properties"][name]
    flag = f"--{name.replace('_', '-')}"
    if bounds["type"] == "boolean":
        return click.option(flag, is_flag=True, default=field.default, help=field.description)
    if "enum" in bounds:
        return click.option(
            flag, type=click.Choice(bounds["enum"]), default=field.default, show_default=True, help=field.description
        )
    low, high = (bounds.get(key, bounds.get(f"exclusive{key.capitalize()}")) for key in ("minimum", "maximum"))
    if bounds["type"] == "integer":
        kind: click.ParamType = click.IntRange(low, high)
    else:
        kind = click.FloatRange(low, high, min_open="exclusiveMinimum" in bounds, max_open="exclusiveMaximum" in bounds)
    return click.option(flag, default=field.default, show_default=True, type=kind, help=field.description)
