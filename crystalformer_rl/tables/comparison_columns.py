"""Columns of what compares arms: a row a policy, a row an update, and the best crystals of all arms."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from crystalformer_rl.tables.chemistry_columns import CHEMISTRY_WORDS
from crystalformer_rl.tables.column import FLOAT, Column, pick
from crystalformer_rl.tables.crystal_columns import CRYSTALS
from crystalformer_rl.tables.discovery_columns import CANDIDATES, EVALUATED, METRICS, share_columns

SHARES = {
    "stable_initial": "stable as sampled",
    "stable": "stable after relaxation",
    "unique": "no earlier crystal of the same policy matches",
    "novel": "no pretraining structure matches",
    "sun_initial": "stable as sampled, unique and novel",
    "sun": "stable after relaxation, unique and novel",
    "sun_new_formula": "the same, of a formula that the pretraining set does not have",
}
COVERAGE = (
    "effective_templates", "effective_formulas", "effective_elements", *(f"{name}_fraction" for name in CHEMISTRY_WORDS),
)  # fmt: skip
"""Figures that say over how much of chemistry crystals are spread."""
INSULATORS = ("insulators_among_stable", "insulator_fom_mean", "pareto_front", "pareto_hypervolume")
"""Figures that tell whether a mean figure of merit grew by better insulators or by fewer metals."""
JUDGED = {
    "judged_stable_initial": "stable as sampled by the judge's energies",
    "judged_stable": "stable by the judge's energies, relaxed by it",
    "judged_sun_initial": "the same as sampled, unique and novel",
    "judged_sun": "the same relaxed, unique and novel",
}
KEPT = ("stable_initial", "stable", "sun_initial", "sun")
"""Shares whose gain is compared between the potential that rewarded and the judge."""


def _compared_columns(shares: dict[str, str]) -> Iterator[Column]:
    """The columns of each share, and of its ratio to the base policy's."""
    for name, words in shares.items():
        yield from share_columns(name, words)
        yield from _ratio_columns(name, "fraction")


def _ratio_columns(name: str, what: str) -> Iterator[Column]:
    yield Column(f"{name}_ratio", FLOAT, "", f"{what} as a multiple of the base policy's; null where that is zero")
    yield Column(f"{name}_ratio_low", FLOAT, "", "lower end of the ratio's 95 % interval (Donner and Zou)")
    yield Column(f"{name}_ratio_high", FLOAT, "", "upper end of the ratio's 95 % interval; null where it has none")


def _kept_columns(name: str) -> Iterator[Column]:
    words = f"share of the gain in {name} that remains under the judge"
    yield Column(f"{name}_gain_kept", FLOAT, "", f"{words}, (judged ratio − 1)/(ratio − 1); null without gain")
    yield Column(
        f"{name}_gain_kept_low",
        FLOAT,
        "",
        f"{words}: lower end of its 95 % interval (bootstrap over crystals); null for none",
    )
    yield Column(f"{name}_gain_kept_high", FLOAT, "", f"{words}: upper end of its 95 % interval; null for none")


#: One row a policy, the base policy first.
ARMS = (
    Column("policy", pa.string(), "", "base, or arm and seed"),
    Column("arm", pa.string(), "", "way of spending the evaluations"),
    Column("seed", pa.int64(), "", "seed of the run; null for the base policy"),
    Column("evaluations", pa.int64(), "", "evaluations of the potential in fine-tuning"),
    Column("updates", pa.int64(), "", "updates of the policy"),
    *pick(METRICS, "n", "stability_threshold"),
    *_compared_columns(SHARES),
    *pick(METRICS, *COVERAGE),
    Column(
        "sun_found", pa.int64(), "", "different kinds of stable and new crystals, as scored, among all that the run scored"
    ),
    Column(
        "break_even",
        FLOAT,
        "",
        "stable, unique and new crystals wanted, as scored, from which on the run took fewer evaluations than filtering the base policy's; null if "
        "never",
    ),
    Column("reward_mean", FLOAT, "", "mean reward in the last tenth of the updates, all sampled crystals"),
    Column("kl", FLOAT, "nat", "KL divergence from the base policy in the last update"),
    Column("entropy", FLOAT, "nat", "mean of −ln p over the crystals of the last update"),
    *_compared_columns(JUDGED),
    *(column for name in KEPT for column in _kept_columns(name)),
    Column("stable_fom_count", pa.int64(), "", "stable crystals with a predicted figure of merit"),
    *pick(METRICS, "stable_fom_mean"),
    Column("stable_fom_low", FLOAT, "eV", "lower end of its 95 % interval over the crystals"),
    Column("stable_fom_high", FLOAT, "eV", "upper end of its 95 % interval over the crystals"),
    *_ratio_columns("stable_fom", "mean figure of merit"),
    *pick(METRICS, *INSULATORS),
)

#: One row an update of an arm's seed.
CURVES = (
    *pick(ARMS, "policy", "arm", "seed"),
    Column("update", pa.int64(), "", "update within the run, from 1"),
    Column("evaluations", pa.int64(), "", "evaluations of the potential so far"),
    Column(
        "n",
        pa.int64(),
        "",
        "crystals that the fractions count: the update's; of best of N those selected so far (none: null)",
    ),
    Column("sun_found", pa.int64(), "", "different kinds of stable and new crystals among all scored so far"),
    Column("stable_fraction", FLOAT, "", "at most the stability threshold above the hull, unrelaxed"),
    Column(
        "sun_fraction", FLOAT, "", "stable, of a kind not yet seen in the update, and of none that the pretraining set has"
    ),
    Column("reward_mean", FLOAT, "", "mean reward"),
    Column("kl", FLOAT, "nat", "KL divergence from the base policy"),
    Column("entropy", FLOAT, "nat", "mean of −ln p over the update's crystals"),
    Column("unique_fraction", FLOAT, "", "different kinds: composition, space group and Wyckoff letters"),
)

#: The best crystals of all arms by figure of merit.
TOP = (
    Column("rank", pa.int64(), "", "place by falling figure of merit, 1 is best"),
    *pick(EVALUATED, "id", "policy", "formula", "space_group"),
    Column("structure_type", pa.string(), "", "named structure type, such as halide elpasolite, or other"),
    *pick(
        EVALUATED, *(name + suffix for name in ("band_gap", "eps_electronic", "eps_total", "fom") for suffix in ("", "_std"))
    ),
    *pick(EVALUATED, "applicability", "e_above_hull", "e_above_hull_initial", "hull_support"),
    Column("judged_e_above_hull", FLOAT, "eV/atom", "by the judge, relaxed by it, where there is one"),
    *pick(CANDIDATES, "verdict"),
    *pick(EVALUATED, "match_id", "known_level"),
    *pick(CRYSTALS, "atomic_numbers", "frac_coords", "lattice"),
)
