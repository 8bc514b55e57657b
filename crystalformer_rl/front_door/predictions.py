"""The structures of a formula in a session."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from crystalformer_rl.config.messages import validate
from crystalformer_rl.front_door.dataframes import dataframe
from crystalformer_rl.front_door.places import located
from crystalformer_rl.front_door.policies import Policy, load_policy
from crystalformer_rl.front_door.workers import worker
from crystalformer_rl.policy.space_group_weights import space_group_weights
from crystalformer_rl.prediction.predict_settings import PredictSettings
from crystalformer_rl.report.predicted_lines import verdict_on
from crystalformer_rl.stages import predict as predict_stage

if TYPE_CHECKING:
    import pandas as pd


def predict(
    formula: str,
    *,
    policy: Policy | str | Path = "embedded",
    reference: str | Path = "embedded",
    potential: str = "chgnet",
    seed: int = 0,
    progress: bool = True,
    **settings: Any,
) -> pd.DataFrame:
    """The structures of a formula, lowest energy first, from the policy and from known prototypes with their elements exchanged.

    policy: one that was loaded, or what `load_policy` takes; reference: `embedded`, a name in the registry, or a path. settings: n, by (policy,
    substitution or both), draws, prototypes, max_atoms, tried, relaxed, first_evaluations, max_evaluations. The DataFrame has a row a candidate: those at
    rest with their rank, energies in eV/atom, prototype and what is known of them, then the others with the status that says why not; its
    `attrs["verdict"]` says in words what the best is worth. Raises InputError for what is no formula, an element without an energy, and
    a formula unit of more atoms than max_atoms.
    """
    chosen: PredictSettings = validate(PredictSettings, settings, "predict")
    known = located(reference, "reference")
    network, trained = None, [1.0] * 230
    if chosen.by != "substitution":
        own = policy if isinstance(policy, Policy) else load_policy(policy)
        trained = space_group_weights(own.card, own.source, table=None if "space_group_counts" in own.card else known)
        network = own.network
    means = predict_stage.Means.of(known, worker(potential), network, trained, chosen.max_atoms)
    with _Bars(progress) as bars:
        found = predict_stage.predict(formula, means, chosen, seed=seed, tell=bars)
    words = verdict_on(found.formula, found.table.to_pylist(), found.known, found.found_known())
    return dataframe(found.table, verdict=words)


class _Bars:
    """A progress bar for each step, called with the step, how many candidates it concerns, and what was just finished."""

    def __init__(self, shown: bool) -> None:
        self._shown = shown
        self._bars: dict[str, tqdm] = {}

    def __enter__(self) -> _Bars:
        return self

    def __call__(self, what: str, total: int, finished: int) -> None:
        if what not in self._bars:
            self._bars[what] = tqdm(total=total, desc=what, unit="crystal", disable=not self._shown, leave=False)
        self._bars[what].update(finished)

    def __exit__(self, *error: object) -> None:
        for bar in self._bars.values():
            bar.close()
