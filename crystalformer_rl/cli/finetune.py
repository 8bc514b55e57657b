"""`crystalformer-rl finetune`."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from crystalformer_rl.cli.console import progress, say
from crystalformer_rl.cli.options import (
    device_option,
    given_stability,
    json_option,
    models_option,
    out_folder_option,
    potential_option,
    reference_option,
    seed_option,
    stability_option,
)
from crystalformer_rl.errors import InputError

_BEAT = 5.0
"""Seconds between two words on how far the scoring is."""


@click.command("finetune")
@click.option(
    "--policy", "policy_path", required=True, type=click.Path(), help="Policy to go on from: the base, or the last round's."
)
@click.option("--state", type=click.Path(), help="State of the round before; not in round 1.")
@click.option("--base-policy", required=True, type=click.Path(), help="Pretrained policy that the KL term counts from.")
@reference_option
@potential_option()
@click.option(
    "--round", "round_number", default=1, show_default=True, type=click.IntRange(min=1), help="Number of this round."
)
@seed_option
@models_option
@stability_option
@device_option
@click.option(
    "--config",
    type=click.Path(),
    help="Configuration of a run; its sections `finetune`, `constraints`, `reward` and `evaluate` are used.",
)
@click.option(
    "--workers", default=1, show_default=True, type=click.IntRange(1, 256), help="Workers that score side by side."
)
@out_folder_option
@json_option
def command(
    policy_path: str,
    state: str | None,
    base_policy: str,
    reference: str,
    potential_name: str,
    round_number: int,
    seed: int,
    models: str | None,
    stability: str | None,
    device: str,
    config: str | None,
    workers: int,
    out: str,
    as_json: bool,
) -> None:
    """One round of fine-tuning: sample, score as sampled (unrelaxed), update, several times over.

    Without --config crystals earn by being stable, and more if they are new. Writes
    policy.safetensors, state.safetensors (what the next round goes on from), rollouts.parquet (every crystal sampled, with
    its figures and each term of its reward) and updates.parquet (one row an update: reward, stable fraction, KL, entropy …) into OUT.
    A round that was killed and is run again gives the same files.

    \b
    Example, the first two rounds:
      crystalformer-rl finetune --policy base.safetensors --base-policy base.safetensors \\
          --reference reference.parquet --out round_1
      crystalformer-rl finetune --policy round_1/policy.safetensors --state round_1/state.safetensors \\
          --base-policy base.safetensors --reference reference.parquet --round 2 --out round_2
    """
    from crystalformer_rl.config.loading import load_config
    from crystalformer_rl.config.run import RunSettings
    from crystalformer_rl.finetune.state import Lineage, load_state, save_state
    from crystalformer_rl.policy.accelerator import check_device
    from crystalformer_rl.policy.checkpoint import load_policy, save_policy
    from crystalformer_rl.policy.space_group_weights import space_group_weights
    from crystalformer_rl.resources.registry import embedded_folder
    from crystalformer_rl.rewards.algebra import Reward
    from crystalformer_rl.rewards.scored_batch import PROPERTIES, STABILITY
    from crystalformer_rl.scoring.scorer import open_scoring
    from crystalformer_rl.stages.finetune import finetune
    from crystalformer_rl.tables.parquet import write_table
    from crystalformer_rl.tables.provenance import provenance, sha256

    check_device(device)
    run = load_config(config) if config else RunSettings()
    settings = run.finetune
    if (state is None) != (round_number == 1):
        raise InputError(
            "Round 1 starts without --state, every later round needs the state of the round before; set both to match."
        )
    base, card = load_policy(base_policy)
    policy, _ = load_policy(policy_path)
    if policy.at_density_temperature(1.0).shape != base.at_density_temperature(1.0).shape:
        raise InputError(
            f"{policy_path} and {base_policy} have different shapes; the policy must stem from the base policy."
        )
    goal = [
        run.reward.model_dump(mode="json"),
        run.constraints.model_dump(mode="json"),
        settings.temperature,
        settings.learns,
    ]
    goal += [potential_name, sha256(reference)]
    digest = hashlib.sha256(json.dumps(goal, sort_keys=True).encode()).hexdigest()
    lineage = Lineage(round_number, sha256(base_policy), sha256(policy_path), digest)
    start = None if state is None else load_state(state, policy, settings, lineage)
    predicts = PROPERTIES in Reward.of(run.reward).needs
    models = (models or str(embedded_folder() / "properties.safetensors")) if predicts else None
    learned = given_stability(stability) if STABILITY in Reward.of(run.reward).needs else None
    source = None if "space_group_counts" in card else reference
    weights = space_group_weights(card, base_policy, run.constraints.space_groups, source)
    inputs = [path for path in (policy_path, base_policy, reference, state, models, learned, *run.reward.files) if path]
    parameters = {
        "round": round_number,
        "seed": seed,
        **settings.model_dump(mode="json", exclude={"rounds"}),
        "reward": run.reward.model_dump(mode="json"),
        "constraints": run.constraints.model_dump(mode="json"),
        "stable_below": run.evaluate.stable_below,
    }
    folder = Path(out)
    _check_writable(folder)
    with (
        open_scoring(
            run.reward,
            potential_name,
            reference,
            models,
            None,
            device,
            stability=learned,
            stable_below=run.evaluate.stable_below,
            workers=workers,
            ahead=settings.leads,
        ) as (score, identity),  # fmt: skip
        progress(settings.updates, f"round {round_number}", "update") as bar,
    ):
        # Before the round, of the inputs that it reads and not of what becomes of them meanwhile.
        made_by = provenance("finetune", parameters, inputs, potential=identity.as_record())
        begin = time.monotonic()

        def updated(row: dict[str, Any]) -> None:
            bar.update(1)
            bar.set_postfix_str(_figures(row), refresh=False)
            done = row["update"] - (0 if start is None else start.updates)
            left = (time.monotonic() - begin) / done * (settings.updates - done)
            bar.write(f"{_words(row)} {left / 60:.0f} min left in this round.", file=sys.stderr)

        score.advance = _heartbeat(bar, settings.batch)
        end, tuned_policy, rollouts, updates, last = finetune(
            base, settings, score, weights, state=start, policy=policy, seed=seed, round_number=round_number,
            constraints=run.constraints, knows=score.knows, stable_below=run.evaluate.stable_below, report=updated,
        )  # fmt: skip

    write_table(folder / "rollouts.parquet", rollouts, made_by)
    write_table(folder / "updates.parquet", updates, made_by)
    tuned = {**card, "space_group_counts": [int(w) for w in weights], "finetuned_by": made_by, "updates": end.updates}
    save_policy(folder / "policy.safetensors", tuned_policy, tuned)
    made = lineage._replace(policy_sha256=sha256(folder / "policy.safetensors"))
    save_state(folder / "state.safetensors", end, made)
    words = f"Round {round_number} done after {end.updates} updates: {_words(last)} Files: {out}"
    say({**last, "out": out}, words, as_json)


def _check_writable(folder: Path) -> None:
    """A round is long work; whether its files have a place is known before."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out {folder} cannot be a folder ({error.strerror}); give another.") from error
    if not os.access(folder, os.W_OK):
        raise InputError(f"--out {folder} cannot be written to; give another folder, or change its permissions.")


def _heartbeat(bar: Any, size: int) -> Callable[[int], None]:
    """Tells every few seconds how far the scoring of a batch is."""
    done, last = 0, time.monotonic()

    def advance(n: int) -> None:
        nonlocal done, last
        done = done % size + n
        if time.monotonic() - last > _BEAT:
            last = time.monotonic()
            bar.write(f"update {bar.n + 1}: {done} of {size} crystals scored", file=sys.stderr)

    return advance


def _figures(row: dict[str, Any]) -> str:
    """The live figures beside the progress bar, whose own are the time gone and the time left."""
    return (
        f"reward {row['reward_mean']:.3f}, stable {row['stable_fraction']:.0%}, KL {row['kl']:.2f}, "
        f"entropy {row['entropy']:.1f}, unique {row['unique_fraction']:.0%}, {row['evaluations']} evaluations"
    )


def _words(row: dict[str, Any]) -> str:
    return (
        f"update {row['update']}: reward {row['reward_mean']:.3f} ± {row['reward_std']:.3f}, stable {row['stable_fraction']:.0%}, "
        f"KL {row['kl']:.2f} ± {row['kl_standard_error']:.2f} nats ({row['kl_needed']:.2f} needed), "
        f"{row['effective_templates']:.0f} templates, {row['effective_elements']:.0f} elements, unique {row['unique_fraction']:.0%}, known {row['known_fraction']:.0%}, failed {row['failed_fraction']:.0%}, "
        f"{row['evaluations']} evaluations."
    )
