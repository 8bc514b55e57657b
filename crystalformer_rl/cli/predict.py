"""`crystalformer-rl predict`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import click

from crystalformer_rl.cli.console import StageProgress, count_words, say, summarize
from crystalformer_rl.cli.options import SEED, device_option, json_option, out_option, potential_option, setting_option
from crystalformer_rl.crystal.elements import parse_formula
from crystalformer_rl.prediction.predict_settings import PredictSettings

if TYPE_CHECKING:
    from crystalformer_rl.stages.predict import Predicted

_FIELDS = (
    "n",
    "by",
    "draws",
    "prototypes",
    "max_atoms",
    "tried",
    "relaxed",
    "first_evaluations",
    "max_evaluations",
)


def _settings(command: Callable[..., None]) -> Callable[..., None]:
    for name in reversed(_FIELDS):
        command = setting_option(PredictSettings, name)(command)
    return command


@click.command("predict")
@click.argument("formula")
@click.option(
    "--policy", "policy_path", type=click.Path(), help="Our .safetensors or a published .pkl.  [default: the embedded one]"
)
@click.option(
    "--reference", type=click.Path(), help="Known crystals and their energies (Parquet).  [default: the embedded one]"
)
@potential_option()
@_settings
@click.option("--seed", default=0, show_default=True, type=SEED, help="Candidate i depends on the seed and i alone.")
@device_option
@out_option
@json_option
def command(
    formula: str,
    policy_path: str | None,
    reference: str | None,
    potential_name: str,
    seed: int,
    device: str,
    out: str,
    as_json: bool,
    **chosen: Any,
) -> None:
    """Predict the structures of FORMULA, lowest energy first.

    Candidates come from the policy, in space groups that suit the formula, and from known compounds of its stoichiometry
    whose elements are exchanged for its own. Those that are one structure are merged; the potential's energy of each as it was
    made decides which are relaxed a few steps, and after these which are relaxed to rest, with their space group kept.

    The table has a row a candidate: those at rest with their rank, prototype, energy above the hull and what is known of them, and the
    others with the status that says why not. Known structures of the formula itself are not among the candidates, so that what is found was
    found; the column known_level and the last lines say which it is.

    \b
    Example:
      crystalformer-rl predict Li3YCl6 --n 200 --out Li3YCl6.parquet
    """
    from crystalformer_rl.policy.accelerator import check_device
    from crystalformer_rl.policy.checkpoint import load_policy
    from crystalformer_rl.policy.space_group_weights import space_group_weights
    from crystalformer_rl.potential.client import PotentialWorker
    from crystalformer_rl.report.predicted_lines import predicted_lines, verdict_on
    from crystalformer_rl.resources.registry import embedded_folder
    from crystalformer_rl.stages.predict import Means, predict
    from crystalformer_rl.tables.parquet import write_table
    from crystalformer_rl.tables.provenance import provenance, record_of

    parse_formula(formula)  # before anything is loaded
    settings = PredictSettings(**chosen)
    embedded = embedded_folder()
    reference = reference or str(embedded / "reference.parquet")
    policy_path = policy_path or str(embedded / "policy.safetensors")
    check_device(device)
    network, trained = None, [1.0] * 230
    if settings.by != "substitution":
        network, card = load_policy(policy_path)
        trained = space_group_weights(card, policy_path, table=None if "space_group_counts" in card else reference)
    with ExitStack() as stack:
        worker = stack.enter_context(PotentialWorker(potential_name, device=device))
        bars = stack.enter_context(StageProgress())
        means = Means.of(reference, worker, network, trained, settings.max_atoms)
        found = predict(formula, means, settings, seed=seed, tell=bars.of)
    parameters = {"formula": found.formula, "seed": seed, "potential": potential_name, **settings.model_dump()}
    inputs = [reference, *([policy_path] if network is not None else [])]
    write_table(
        out, found.table, provenance("predict", parameters, inputs, potential=record_of(found.table).get("potential"))
    )
    rows = found.table.to_pylist()
    statuses = [row["status"] for row in rows]
    lines = [
        *predicted_lines(rows),
        "",
        *verdict_on(found.formula, rows, found.known, found.found_known()),
        f"{len(rows)} candidates ({count_words(statuses)}). {out}",
    ]
    say(_summary(found, rows, statuses, out), "\n".join(lines), as_json)


def _summary(found: Predicted, rows: list[dict[str, Any]], statuses: list[str], out: str) -> dict[str, Any]:
    best = rows[0] if rows and rows[0]["rank"] == 1 else None
    names = ("id", "space_group", "prototype", "e_above_hull", "made_by", "match_id")
    known = found.known
    return summarize(
        statuses,
        out,
        formula=found.formula,
        best=None if best is None else {name: best[name] for name in names},
        structures=sum(row["rank"] is not None for row in rows),
        known=None
        if known is None
        else {"id": known.id, "e_above_hull": known.e_above_hull, "structure": known.structure, "rank": found.found_known()},
        draws=sum(row["draws"] or 0 for row in rows),
        evaluations=sum(row["evaluations"] or 0 for row in rows),
    )
