"""How the commands of the policy read elements, and several values after one flag."""

from __future__ import annotations

from collections.abc import Sequence

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


def element_symbols(given: Sequence[str]) -> list[str]:
    """Symbols as given; `Na,Cl` counts as two."""
    return [name for entry in given for name in entry.split(",") if name]


def element_numbers(given: Sequence[str]) -> set[int]:
    """Atomic numbers of symbols; `Na,Cl` counts as two."""
    from crystalformer_rl.crystal.elements import atomic_number

    return {atomic_number(name) for name in element_symbols(given)}


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
