"""The results in sentences: what was found, how much fine-tuning changed, what to beware of."""

from __future__ import annotations

from collections import Counter

from crystalformer_rl.formatting import percent, points
from crystalformer_rl.hull.stability import (
    DISAGREEMENT,
    INCOMPLETE_HULL,
    LITTLE_SUPPORT,
    STABLE_BELOW,
    hull_may_be_incomplete,
    is_stable,
    judged_word,
)
from crystalformer_rl.intervals import difference_interval
from crystalformer_rl.report.evidence import best_new, line
from crystalformer_rl.report.results import Results, Row
from crystalformer_rl.tables.chemistry_columns import CHEMISTRY_WORDS

NAMED = 10
"""New crystals that are named with what speaks for them."""


def findings(results: Results) -> list[str]:
    """The outcome in sentences, the most important first."""
    named = [f"{place}. {words}" for place, words in enumerate(best(results), start=1)]
    return [
        *comparisons(results),
        coverage(results),
        *discoveries(results),
        *second_opinions(results),
        *(["The best new ones by rank:", *named] if named else []),
    ]


def comparisons(results: Results) -> list[str]:
    """Stability and S.U.N. of each policy, and the change between two."""
    return [
        _comparison(results, "stable_initial", f"Stable as sampled ({threshold(results)}, before relaxation)"),
        _comparison(results, "stable", "Stable after relaxation"),
        _comparison(results, "sun", "Stable, unique and novel (S.U.N.)"),
        _comparison(results, "sun_new_formula", "S.U.N. of a formula that the reference does not know"),
        _comparison(results, "sun_credible", "The same, charge-balanced and of elements with stable isotopes, no noble gas"),
    ]


def coverage(results: Results) -> str:
    """Which kinds of crystals each policy makes, so that a gain bought with fewer of them shows."""
    numbers = [
        f"{policy} {row['effective_templates']:.0f} Wyckoff templates and {row['effective_elements']:.0f} elements"
        for policy, row in results.metrics.items()
    ]
    shares = [
        f"{words} {' → '.join(percent(row[f'{name}_fraction']) for row in results.metrics.values())}"
        for name, words in CHEMISTRY_WORDS.items()
    ]
    return f"Effective number of kinds: {', '.join(numbers)}. {'; '.join(shares).capitalize()}."


def threshold(results: Results) -> str:
    """What counts as stable: `at most 0.1 eV/atom above the hull`."""
    row = results.metrics[results.policies[0]]
    return f"at most {row['stability_threshold']:g} eV/atom above the hull"


def _comparison(results: Results, name: str, what: str) -> str:
    shares = [
        f"{policy} {row[f'{name}_count']} of {row['n']} ({percent(row[f'{name}_fraction'])})"
        for policy, row in results.metrics.items()
    ]
    sentence = f"{what}: {', '.join(shares)}"
    if len(shares) != 2:
        return sentence + "."
    first, second = (results.metrics[policy] for policy in results.policies)
    return f"{sentence}; {change(first, second, name)}."


def change(first: Row, second: Row, name: str) -> str:
    """`1.56 times as many; the difference is +4.0 to +19.3 points (95 %)`."""
    before, after = first[f"{name}_fraction"], second[f"{name}_fraction"]
    low, high = difference_interval((first[f"{name}_count"], first["n"]), (second[f"{name}_count"], second["n"]))
    ratio = f"{after / before:.2f} times as many" if before else ("more" if after else "no change")
    certain = "" if low > 0 or high < 0 else ", which chance may explain"
    return f"{ratio}; difference {points(low)} to {points(high)} points (95 %){certain}"


def discoveries(results: Results) -> list[str]:
    """How many distinct stable crystals are new."""
    if not results.candidates:
        return []
    stable = [row for row in results.candidates if row["stable"] and row["left_out"] is None]
    verdicts = Counter(row["verdict"] for row in stable)
    counted = (
        f"Distinct stable crystals: {len(stable)}, of which {verdicts['new']} new, "
        f"{verdicts['known_formula']} of a known formula in another structure or one that the reference does not hold, "
        f"{verdicts['rediscovered']} rediscovered (held out from pretraining) and {verdicts['retrieved']} retrieved from "
        "the pretraining set."
    )
    if left_out := sum(row["stable"] and row["left_out"] is not None for row in results.candidates):
        counted += f" {left_out} more stand last, for elements or conditions that the ranking leaves out."
    if not best_new(results.candidates, 1):
        return [counted, "No stable crystal is new."]
    return [counted]


def second_opinions(results: Results) -> list[str]:
    """How many of the best and of the stable candidates a second potential confirms."""
    bound = results.metrics[results.policies[0]]["stability_threshold"] if results.policies else STABLE_BELOW
    judged = [row for row in results.candidates if row["judge_e_above_hull"] is not None]
    if not judged:
        return []
    stable = [row for row in judged if row["stable"]]
    words = Counter(judged_word(row["e_above_hull"], row["judge_e_above_hull"], bound) for row in stable)
    first = [row for row in best_new(results.candidates, NAMED) if row["judge_e_above_hull"] is not None]
    confirmed = sum(is_stable(row["judge_e_above_hull"], bound) for row in first)
    text = (
        f"{judged[0]['judge']}, which no reward has seen, relaxed {len(judged)} of the candidates again, the best new ones first: of the {len(stable)} stable ones it "
        f"confirms {sum(is_stable(row['judge_e_above_hull'], bound) for row in stable)}, of the {len(first)} best new ones {confirmed}."
    )
    if words[INCOMPLETE_HULL]:
        text += f" Both potentials put {words[INCOMPLETE_HULL]} of them far below the hull, which lacks phases there."
    if words[DISAGREEMENT]:
        text += f" They disagree on {words[DISAGREEMENT]}, where one of the two is at fault."
    return [text]


def best(results: Results) -> list[str]:
    """The best new crystals by rank, each with what speaks for it and what against."""
    return [line(row) for row in best_new(results.candidates, NAMED)]


def caveats(results: Results) -> list[str]:
    """What a reader must know before believing the figures."""
    roles = results.reference_roles
    entries = sum(roles.values())
    size = f" ({entries:,} entries, {roles.get('pretraining', 0):,} of them seen in pretraining)" if entries else ""
    notes = [
        f"The reference{size} is a part of what is known: what is missing there makes distances lower bounds, and a crystal that is "
        "new to it may be known elsewhere. Novel means that no structure of the pretraining set matches; new, that the reference does "
        "not know the formula either. Absolute S.U.N. figures compare with no other reference's.",
        "Energies come from a machine-learned potential, not from density-functional theory: candidates are proposals to "
        "compute.",
    ]
    stable = [row for row in results.candidates if row["stable"] and row["left_out"] is None]
    thin = sum(row["hull_support"] is not None and row["hull_support"] <= LITTLE_SUPPORT for row in stable)
    if thin:
        notes.append(
            f"{thin} of the {len(stable)} distinct stable crystals have at most {LITTLE_SUPPORT} known compositions in their "
            "chemical system (hull support): their stability rests on little."
        )
    asked = sum(hull_may_be_incomplete(row["e_above_hull"], row["hull_support"]) for row in stable)
    if asked:
        notes.append(
            f"{asked} of the {len(stable)} distinct stable crystals lie far below the hull, or below it where little competes: the "
            "hull may be incomplete there. Depth below the hull earns nothing, in fine-tuning or in the ranking."
        )
    if results.candidates and all(row["judge_e_above_hull"] is None for row in results.candidates):
        notes.append(
            "No second potential has judged the candidates; `crystalformer-rl potential install sevennet-0`, and the same run "
            "again, let one do it."
        )
    far = sum((row["applicability"] or 0) > 1.5 for row in stable)
    if far:
        notes.append(
            f"Gap and dielectric constants of {far} of the {len(stable)} distinct stable crystals are extrapolated "
            "(applicability above 1.5)."
        )
    return notes
