"""Crystals sorted into groups of one structure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from crystalformer_rl.discovery.matching import Composition

Name = TypeVar("Name")
Form = TypeVar("Form")


class Distinct(Generic[Name, Form]):
    """Crystals sorted into groups of which each is one structure.

    Matching is not transitive: a may match b and b match c where a does not match c. Groups are the connected components of all
    matches, so that they do not depend on the order in which the crystals came.
    """

    def __init__(self, same: Callable[[Form, Form], bool]) -> None:
        """same: whether two crystals of one composition match; symmetric."""
        self._same = same
        self._buckets: dict[Composition, list[list[tuple[Name, Form]]]] = {}

    def add(self, name: Name, key: Composition, form: Form) -> Name | None:
        """Keep a crystal under its name; the name of the first one of its group so far, None where it begins one."""
        others, joined = [], []
        for group in self._buckets.get(key, []):
            if any(self._same(form, kept) for _, kept in group):
                joined += group
            else:
                others.append(group)
        self._buckets[key] = [*others, [*joined, (name, form)]]
        return joined[0][0] if joined else None

    def groups(self) -> list[list[Name]]:
        """Names of the crystals of each structure."""
        return [[name for name, _ in group] for groups in self._buckets.values() for group in groups]
