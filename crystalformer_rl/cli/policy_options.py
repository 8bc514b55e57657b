"""Options and tables that the commands of the policy share: space groups, elements, samples as a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from crystalformer_rl.errors import InputError


class ManyValues(click.Command):
    """A command whose repeatable options also take several values after one flag: `--space-group 225 216`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        repeatable = {flag for p in self.params if isinstance(p, click.Option) and p.multiple for flag in p.opts}
        spread: list[str] = []
        flag, taken = "", 0
        for argument in args:
            if argument.startswith("-") and not argument[1:].replace(".", "").isdigit():
                flag, taken = (argument, 0) if argument in repeatable else ("", 0)
            elif flag:
                if taken:
                    spread.append(flag)
                taken += 1
            spread.append(argument)
        return super().parse_args(ctx, spread)


def space_group_weights(chosen: tuple[int, ...], table: str | None, card: dict[str, Any], policy_path: str) -> list[float]:
    """Weights of the 230 space groups: those chosen, alike; else those of a table; else those the policy was trained on."""
    from collections import Counter

    from crystalformer_rl.crystal.wyckoff import check_space_group
    from crystalformer_rl.tables.parquet import read_table

    if chosen:
        return [float(g in {check_space_group(c) for c in chosen}) for g in range(1, 231)]
    if table is not None:
        from crystalformer_rl.tables.crystal_columns import TOKENS

        rows = read_table(table, [c for c in TOKENS if c.name == "space_group"])
        counts = Counter(rows.column("space_group").to_pylist())
        if not any(counts[g] for g in range(1, 231)):
            raise InputError(f"{table} says no crystal's space group; give a table that does, or choose by --space-group.")
        return [float(counts[g]) for g in range(1, 231)]
    if "space_group_counts" not in card:
        raise InputError(
            f"{policy_path} does not say which space groups it was trained on; give --space-group or --space-groups-from."
        )
    return [float(n) for n in card["space_group_counts"]]


def element_numbers(symbols: Sequence[str]) -> set[int]:
    """Atomic numbers of symbols; `Na,Cl` counts as two."""
    from crystalformer_rl.crystal.elements import atomic_number

    return {atomic_number(name) for entry in symbols for name in entry.split(",") if name}


def parse_site_elements(entries: Sequence[str]) -> dict[int, set[int]]:
    """`a=Na,K` as {letter: atomic numbers}. Raises InputError for anything else."""
    from crystalformer_rl.crystal.wyckoff import LETTERS

    chosen: dict[int, set[int]] = {}
    for entry in entries:
        letter, equals, symbols = entry.partition("=")
        if not equals or len(letter) != 1 or letter not in LETTERS or not symbols:
            raise InputError(
                f"--site-elements '{entry}' is not understood; write a Wyckoff letter and elements, such as a=Na,K."
            )
        chosen.setdefault(LETTERS.index(letter) + 1, set()).update(element_numbers([symbols]))
    return chosen


def sample_columns(ids: list[str], samples: Any) -> dict[str, Any]:
    """The columns of the samples table, crystals in their conventional cell."""
    return {
        "id": ids,
        **crystal_and_token_columns(samples.tokens),
        "log_prob": samples.log_prob.astype(float).tolist(),
        "behaviour_log_prob": samples.behaviour_log_prob.astype(float).tolist(),
    }


def crystal_and_token_columns(tokens: Any) -> dict[str, Any]:
    """Crystals of a token batch in their conventional cell, their tokens, and `status`."""
    from crystalformer_rl.crystal.structure import crystal_columns
    from crystalformer_rl.crystal.tokens import decode, token_columns
    from crystalformer_rl.policy.sampler import sites_of

    decoded = sites_of(tokens)
    sites = [s for s, _ in decoded]
    return {
        **crystal_columns([None if s is None else decode(s) for s in sites]),
        **token_columns(sites, coords_name="site_frac_coords"),
        "status": [status for _, status in decoded],
    }
