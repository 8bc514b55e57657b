"""The comparison in words and tables, as a Markdown document."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from crystalformer_rl.comparison.arms import Arm
from crystalformer_rl.comparison.policy_run import BASE, Row, Run
from crystalformer_rl.comparison.top import halide_counts
from crystalformer_rl.formatting import percent, percent_interval, signed, with_deviation, with_interval
from crystalformer_rl.tables.chemistry_columns import CHEMISTRY_WORDS


def document(runs: Sequence[Run], arms: Mapping[str, Arm], table: pa.Table, top: pa.Table | None) -> str:
    """The whole document; the picture, comparison.svg, lies beside it."""
    parts = [
        "# Ways to fine-tune, side by side",
        _opening(runs, arms),
        "## What was run",
        *_what_was_run(runs, arms),
        "## Stable and new crystals",
        *_shares(arms),
        "![Stable fraction, S.U.N. and reward against evaluations of the potential, one curve an arm](comparison.svg)",
        _about_the_picture(runs, arms),
        *_coverage(arms),
        *_payoff(arms),
        *_judged(runs, arms),
        *_merit(arms),
        *_seeds(table),
        *_top(top),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _opening(runs: Sequence[Run], arms: Mapping[str, Arm]) -> str:
    base, threshold = arms[BASE], runs[0].metrics["stability_threshold"]
    return (
        f"{_effort(len(arms) - 1, len(runs[-1].rollouts))}. Of each, and of the base policy, {_sizes(runs)} crystals "
        f"were relaxed and evaluated. Stable means at most {threshold:g} eV/atom above the hull of the reference. "
        f"Base policy: {percent_interval(base.shares['stable_initial'])} stable as sampled, "
        f"{percent_interval(base.shares['stable'])} after relaxation, S.U.N. {percent_interval(base.shares['sun'])}."
    )


def _effort(arms: int, scored: int) -> str:
    """Evaluations of the potential are a few less, and not the same in all arms: some crystals fail before."""
    if arms == 1:
        return f"One arm samples and scores {scored:,} crystals a seed; it starts from the base policy"
    return (
        f"{arms} arms sample and score the same number of crystals, {scored:,} a seed, and make different use of them; all "
        "start from the base policy"
    )


def _sizes(runs: Sequence[Run]) -> str:
    sizes = sorted({len(run.crystals) for run in runs})
    return f"{sizes[0]:,}" if len(sizes) == 1 else f"{sizes[0]:,} to {sizes[-1]:,}"


def _what_was_run(runs: Sequence[Run], arms: Mapping[str, Arm]) -> Iterator[str]:
    # Seeds of an arm have the same settings.
    settings = {run.arm: run for run in runs if run.policy != BASE}
    differing = differing_settings({arm: run.settings.get("finetune", {}) for arm, run in settings.items()})
    rows = []
    for name, run in settings.items():
        own = ", ".join(f"{key} {_value(value)}" for key, value in differing[name].items()) or "–"
        what = "best of all samples of the base policy" if run.selects else own
        seeds = ", ".join(map(str, arms[name].seeds))
        rows.append(
            [name, what, seeds, f"{len(run.updates)}", f"{arms[name].evaluations:,}", f"`{run.settings_sha256[:12]}`"]
        )
    yield _table(
        ["arm", "settings that differ", "seeds", "updates", "evaluations a seed", "digest of settings"], rows, "llrrrl"
    )
    shared = _shared_settings(list(settings.values()))
    if shared:
        yield f"The same in all arms: {shared}."
    reward = next((run.settings["reward"] for run in settings.values() if run.settings.get("reward")), None)
    if reward:
        yield f"Reward: `{json.dumps(_without_defaults(reward), ensure_ascii=False, sort_keys=True)}`."
    potential = next((run.potential.name for run in settings.values() if run.potential), "")
    if potential:
        yield f"Energies of rewards and of relaxation: {potential}."


_SHARED = (
    "batch",
    "updates",
    "learning_rate",
    "learning_rate_half_life",
    "steps",
    "trainable",
    "tau",
    "repeats",
    "repeats_memory",
    "inner_epochs",
    "minibatches",
    "baseline",
    "space_groups",
)


def _shared_settings(runs: Sequence[Run]) -> str:
    found = [run.settings.get("finetune", {}) for run in runs if not run.selects]
    names = [key for key in _SHARED if found and all(key in own and own[key] == found[0].get(key) for own in found)]
    return ", ".join(f"{key.replace('_', ' ')} {_value(found[0][key])}" for key in names if found[0][key] not in ([], None))


def differing_settings(settings: Mapping[str, Row]) -> dict[str, Row]:
    """Of each arm the settings whose values are not the same in all arms."""
    keys = sorted({key for own in settings.values() for key in own} - {"seed", "round", "reward"})
    differing = [key for key in keys if len({json.dumps(own.get(key), sort_keys=True) for own in settings.values()}) > 1]
    return {arm: {key: own[key] for key in differing if key in own} for arm, own in settings.items()}


def _without_defaults(reward: Row) -> Row:
    """Terms without what they leave empty."""
    terms = [
        {key: value for key, value in term.items() if value not in (None, [], {}, 0.0, False)}
        for term in reward.get("terms", [])
    ]
    return reward | {"terms": terms}


def _shares(arms: Mapping[str, Arm]) -> Iterator[str]:
    names = (
        ("stable_initial", "stable as sampled"), ("stable", "stable relaxed"), ("sun", "S.U.N."),
        ("sun_new_formula", "S.U.N. of a new formula"),
    )  # fmt: skip
    head = ["arm", *(word for _, words in names for word in (words, "× base"))]
    head += ["odds, stable as sampled", "unique", "novel", "KL, nat", "reward at the end"]
    rows = []
    for arm in arms.values():
        row = [arm.name]
        for name, _ in names:
            row += [percent_interval(arm.shares[name]), _ratio(arm, name)]
        row += ["1" if arm.name == BASE else f"{_odds(arm) / _odds(arms[BASE]):.2f}"]
        row += [percent(arm.shares["unique"].value), percent(arm.shares["novel"].value)]
        rows.append([*row, with_interval(arm.kl, 2), with_interval(arm.reward, 3)])
    yield _table(head, rows, "lrrrrrrrrrrrrr")
    yield (
        "In brackets 95 % intervals: over seeds (Student's t, or Wilson's of all crystals where that is wider) where an arm has "
        "several, else Wilson's. Ratios have the interval "
        "of Donner and Zou made of both. Fractions are of all crystals sampled; S.U.N. is stable after relaxation, unique and "
        "novel. A kind that an arm makes again and again counts as unique once, so compare stable with S.U.N."
    )


def _odds(arm: Arm) -> float:
    """Stable crystals as sampled for one that is not."""
    share = arm.shares["stable_initial"].value
    return share / (1 - share) if share < 1 else float("inf")


def _coverage(arms: Mapping[str, Arm]) -> Iterator[str]:
    yield "## What it was bought with"
    numbers = {
        "effective_templates": "Wyckoff templates",
        "effective_formulas": "anonymous formulas",
        "effective_elements": "elements",
    }
    shares = {f"{name}_fraction": words for name, words in CHEMISTRY_WORDS.items()}
    base, rows = arms[BASE].coverage, []
    for arm in arms.values():
        row = [arm.name]
        for name in numbers:
            row.append(_against(arm.coverage, base, name, 0))
        rows.append([*row, *(percent(arm.coverage[name]) for name in shares)])
    yield _table(["arm", *numbers.values(), *shares.values()], rows, "lrrrrrrrr")
    yield (
        "Effective numbers, the exponential of the entropy of how often each occurs, with their percentage of the base policy's; they grow with the "
        "number of crystals, which is that of the tables above. Anions are N, O, F, S, Cl, Se, Br and I. Means over seeds."
    )


def _payoff(arms: Mapping[str, Arm]) -> Iterator[str]:
    if not any(arm.sun_found for arm in arms.values()):
        return
    yield "## What was found on the way"
    rows = []
    for arm in arms.values():
        if arm.sun_found is not None:
            rows.append(
                [arm.name, f"{arm.evaluations:,}", with_interval(arm.sun_found, 0), ", ".join(map(_wanted, arm.break_even))]
            )
    yield _table(["arm", "evaluations a seed", "S.U.N. found", "pays from"], rows, "lrrr")
    yield (
        "Found: different kinds of stable and new crystals, as scored, among all that were scored, which is what whoever scores and keeps the best is left "
        "with; arms that never move show what the base policy gives. Pays from: how many such crystals one must want, for each seed, for fine-tuning and sampling the fine-tuned "
        "policy to take fewer evaluations than filtering crystals of the base policy at the same density temperature, at the rates of stable, unique and new crystals as scored; – where "
        "it never does. Where kinds begin to repeat, fewer are found by both."
    )


def _wanted(crystals: float | None) -> str:
    return "–" if crystals is None else f"{crystals:,.0f}"


def _about_the_picture(runs: Sequence[Run], arms: Mapping[str, Arm]) -> str:
    words = (
        f"Curves are of the crystals as scored in fine-tuning, that is {_as_scored(runs)}. S.U.N. there counts stable crystals of a kind "
        "(composition, space group, Wyckoff letters) that is new in its update and that the pretraining set does not have. Bands are "
        "95 % t intervals over seeds. The grey line is the unmoved base policy by the same measures, with its interval."
    )
    selecting = sorted({run.arm for run in runs if run.selects})
    if selecting:
        words += (
            f" The curve of {' and '.join(selecting)} is of the crystals that would be selected from all so far, each kind "
            "once, by reward; while fewer kinds were sampled than are asked for, of all."
        )
    return words


def _as_scored(runs: Sequence[Run]) -> str:
    """How far crystals were relaxed before their reward; all runs of a comparison have the same."""
    rewards = [run.settings.get("reward") or {} for run in runs if run.updates]
    allowed = max((reward.get("relax", {}).get("max_evaluations", 1) for reward in rewards), default=1)
    return "as sampled" if allowed == 1 else f"each relaxed with at most {allowed} evaluations of the potential"


def _judged(runs: Sequence[Run], arms: Mapping[str, Arm]) -> Iterator[str]:
    if "judged_stable" not in arms[BASE].shares:
        return
    yield "## What a second potential sees"
    judge = next((run.judge.name for run in runs if run.judge), "")
    yield (
        f"The judge{f', {judge},' if judge else ''} had no part in any reward. It relaxed the same crystals again, and places them "
        "on its own hull. Gain kept is (judged ratio − 1)/(ratio − 1): 100 % where the judge sees the whole gain over the "
        "base policy, 0 % where it sees none; it is left out where the gain itself may be chance. Its interval is a bootstrap over the crystals, "
        "or over seeds where there are several."
    )
    names = (("stable_initial", "stable as sampled"), ("stable", "stable relaxed"), ("sun", "S.U.N."))
    head = ["arm", *(word for _, words in names for word in (f"{words}, judged", "× base", "gain kept"))]
    rows = []
    for arm in arms.values():
        row = [arm.name]
        for name, _ in names:
            judged = f"judged_{name}"
            row += [percent_interval(arm.shares[judged]), _ratio(arm, judged), _kept(arm, name)]
        rows.append(row)
    yield _table(head, rows, "lrrrrrrrrr")


def _kept(arm: Arm, name: str) -> str:
    if name not in arm.kept or not (arm.ratios[name].low or 0.0) > 1:
        return "–"
    share = arm.kept[name]
    low, high = ("…" if end is None else percent(end, 0) for end in (share.low, share.high))
    return f"{percent(share.value, 0)} [{low}, {high}]"


def _merit(arms: Mapping[str, Arm]) -> Iterator[str]:
    if not any(arm.fom for arm in arms.values()):
        return
    yield "## Figure of merit"
    names = {
        "insulators_among_stable": "insulators among stable",
        "insulator_fom_mean": "mean of these, eV",
        "pareto_front": "Pareto front",
        "pareto_hypervolume": "hypervolume, eV",
    }
    digits = {name: 0 if name == "pareto_front" else 2 for name in names}
    base, rows = arms[BASE].insulators, []
    for arm in arms.values():
        times = "1" if arm.name == BASE else "–" if arm.fom_ratio is None else with_interval(arm.fom_ratio, 2)
        rows.append(
            [
                arm.name,
                with_interval(arm.fom, 2),
                times,
                *(_against(arm.insulators, base, name, digits[name]) for name in names),
            ]
        )
    yield _table(["arm", "mean of stable crystals, eV", "× base", *names.values()], rows, "lrrrrrr")
    yield (
        "The figure of merit is ε_electronic · band gap as predicted, 0 of a metal; intervals of one seed are over its stable crystals. A mean over all "
        "stable crystals grows by fewer metals, too: its ratio is about that of the share of insulators times that of their own mean. The Pareto front "
        "counts distinct stable crystals that no other beats in gap and in ε_electronic; the hypervolume is the area, from 0 eV and 1, that they "
        "beat, and grows with the number of crystals. In brackets percentages of the base policy's; means over seeds."
    )


def _against(values: Mapping[str, float], base: Mapping[str, float], name: str, digits: int) -> str:
    """A figure, with its percentage of the base policy's."""
    if name not in values:
        return "–"
    value, before = values[name], base.get(name)
    words = f"{value:.{digits}f}"
    return words if values is base or not before else f"{words} ({100 * value / before:.0f} %)"


def _seeds(table: pa.Table) -> Iterator[str]:
    rows = [row for row in table.to_pylist() if row["arm"] != BASE]
    if len({row["arm"] for row in rows}) == len(rows):
        return
    yield "## Seed by seed"
    body = []
    for row in rows:
        counts = [f"{row[f'{name}_count']}" for name in ("stable_initial", "stable", "unique", "novel", "sun")]
        judged = row["judged_stable_count"]
        body.append([row["policy"], f"{row['n']}", *counts, "–" if judged is None else f"{judged}"])
    head = ["policy", "crystals", "stable as sampled", "stable relaxed", "unique", "novel", "S.U.N.", "stable, judged"]
    yield _table(head, body, "lrrrrrrr")


def _top(top: pa.Table | None) -> Iterator[str]:
    if top is None:
        return
    elpasolites, perovskites = halide_counts(top)
    rows = top.to_pylist()
    verdicts = [row["verdict"] for row in rows]
    yield f"## The best {len(rows)} by figure of merit"
    yield (
        f"Stable, each structure once, of all arms. {elpasolites} are halide elpasolites, {perovskites} halide "
        f"perovskites; {verdicts.count('new')} are new, {verdicts.count('rediscovered')} rediscovered (held out from the policy) "
        f"and {verdicts.count('retrieved')} retrieved from its training set. Predictions with one standard deviation."
    )
    body = []
    for row in rows:
        match = f" ({row['match_id']})" if row["match_id"] else ""
        body.append(
            [
                f"{row['rank']}", row["formula"], f"{row['space_group']}", row["structure_type"], _predicted(row, "band_gap"),
                _predicted(row, "eps_electronic"), _predicted(row, "fom"), signed(row["e_above_hull"], 3),
                signed(row["judged_e_above_hull"], 3), row["verdict"] + match, row["policy"],
            ]
        )  # fmt: skip
    head = ["", "formula", "space group", "type", "gap, eV", "ε_electronic", "figure of merit, eV", "E above hull, eV/atom",
            "judged", "known?", "arm"]  # fmt: skip
    yield _table(head, body, "rlrlrrrrrll")


def _predicted(row: Row, name: str) -> str:
    return with_deviation(row[name], row[f"{name}_std"])


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], align: str) -> str:
    rule = [":--" if letter == "l" else "--:" for letter in align]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, rule, *rows))


def _ratio(arm: Arm, name: str) -> str:
    if arm.name == BASE:
        return "1"
    return with_interval(arm.ratios[name], 2) if name in arm.ratios else "–"


def _value(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
