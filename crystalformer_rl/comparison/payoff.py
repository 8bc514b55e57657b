"""What an arm finds for its evaluations, and when that is more than filtering the base policy's crystals finds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from crystalformer_rl.comparison.curves import Rollouts, base_level
from crystalformer_rl.comparison.policy_run import Run


def found_while_scoring(run: Run) -> int:
    """Different kinds of stable and new crystals, as scored, among all that a run scored: what is left to whoever keeps the best."""
    return int(Rollouts(run.rollouts, run.metrics["stability_threshold"]).found().sum())


def break_even(spent: int, found: int, rate: float, base_rate: float) -> float | None:
    """Crystals wanted from which on fine-tuning takes fewer evaluations than scoring the base policy's crystals and keeping the good ones.

    W crystals take W/base_rate evaluations of the base policy's; fine-tuning takes `spent`, gives `found`, and then (W − found)/rate. Rates
    are good crystals an evaluation, all different: for numbers so large that kinds repeat it does not hold. 0 where fine-tuning
    found more on its way already; None where its rate is not the higher one.
    """
    if not rate > base_rate > 0:
        return None
    return max(0.0, (spent - found / rate) / (1 / base_rate - 1 / rate))


def payoffs(runs: Sequence[Run]) -> list[tuple[int | None, float | None]]:
    """(found while scoring, break-even) of each policy, the base policy first.

    Rates are stable, unique and new crystals of those drawn, by the same measures for all: of a run in its last tenth of updates, of the
    policy that never moved at the run's own density temperature, which costs nothing and is no merit of fine-tuning.
    """
    base_rate = base_level(runs)["sun_fraction"].value
    result: list[tuple[int | None, float | None]] = []
    for run in runs:
        if not run.updates:
            result.append((None, None))
            continue
        found = found_while_scoring(run)
        result.append((found, break_even(run.evaluations, found, _last_rate(run), base_rate) if run.moves else None))
    return result


def _last_rate(run: Run) -> float:
    rollouts = Rollouts(run.rollouts, run.metrics["stability_threshold"])
    last = [update["update"] for update in run.updates[-max(1, round(len(run.updates) / 10)) :]]
    return float(
        np.mean(
            [
                rollouts.sun(np.flatnonzero(rollouts.update == number)).sum() / (rollouts.update == number).sum()
                for number in last
            ]
        )
    )
