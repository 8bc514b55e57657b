"""From figures to rewards: the sum of weighted, transformed and conditional terms that the configuration writes down.

A crystal that no stage could judge, or of which a figure is missing that counts for it, earns a stated price instead
of being dropped, so that a policy cannot gain by making crystals that fail. Nothing here knows a model: numbers and
statuses come in, numbers go out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crystalformer_rl.errors import InputError
from crystalformer_rl.rewards.batch_conditions import holds, needs, parse
from crystalformer_rl.rewards.reward_settings import LARGEST, RewardSettings, TermSettings
from crystalformer_rl.rewards.scored_batch import GROUPS, Batch
from crystalformer_rl.rewards.terms import Term, ask, make_term
from crystalformer_rl.tables.conditions import Condition
from crystalformer_rl.tables.status import OK, Status

SMALLEST = 1e-3
"""Figures below this count as this where a logarithm is taken."""

_HUGE = 1e100
"""Figures beyond this count as this, so that no transform overflows."""


@dataclass(frozen=True)
class Rewards:
    """Rewards of N crystals with the parts that they are made of.

    reward: (N,) finite; terms: column name → (N,) each term's share of the reward, NaN where the crystal failed; failed:
    (N,) bool, the reward is the price of failing; statuses: N names, `ok` where the crystal did not fail.
    """

    reward: np.ndarray
    terms: dict[str, np.ndarray]
    failed: np.ndarray
    statuses: list[str]


@dataclass(frozen=True)
class Conditions:
    """Where the conditions of a term hold: (N,) bool each.

    possible: none is known not to hold; unknown: none is known not to hold, but of one the figure is missing.
    """

    possible: np.ndarray
    unknown: np.ndarray


@dataclass(frozen=True)
class WeightedTerm:
    """One term of the sum with its settings and conditions."""

    column: str
    settings: TermSettings
    term: Term
    conditions: tuple[Condition, ...]

    @classmethod
    def of(cls, settings: TermSettings, taken: set[str]) -> WeightedTerm:
        """From its settings; `taken` are the columns of the terms before it. Raises InputError as `Reward.of`."""
        term = make_term(settings.term, settings.options)
        _check(settings, term)
        return cls(_column_name(settings.term, taken), settings, term, parse(settings.only_if))

    @property
    def needs(self) -> frozenset[str]:
        return self.term.needs.union(*(needs(condition) for condition in self.conditions))

    def judge(self, batch: Batch) -> Conditions:
        """Where the conditions hold by what is known so far. batch: with crystals below the hull lifted to it."""
        possible, all_known = np.ones(len(batch), bool), np.ones(len(batch), bool)
        for condition in self.conditions:
            met, known = holds(condition, batch)
            possible &= met | ~known
            all_known &= known
        return Conditions(possible, possible & ~all_known)

    def share(self, batch: Batch, conditions: Conditions) -> tuple[np.ndarray, np.ndarray]:
        """The weighted share (N,) of crystals that all have status ok, and where it is missing, (N,) bool."""
        value, missing = self._transformed(batch)
        weight = self.settings.weight
        with np.errstate(over="ignore"):
            otherwise = np.clip(weight * self.settings.otherwise, -LARGEST, LARGEST)
            earned = np.clip(weight * np.where(missing, 0.0, value), -LARGEST, LARGEST)
        share = np.where(conditions.possible, earned, otherwise)
        return share + 0.0, conditions.possible & (missing | conditions.unknown)

    def _transformed(self, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
        """The figure after its transforms, and where it is missing."""
        settings = self.settings
        value, std = self._figure(batch)
        missing = ~np.isfinite(value)
        value = np.clip(value, -_HUGE, _HUGE)
        if settings.target is not None:
            value = np.abs(value - settings.target)
        if settings.confidence and std is not None:
            missing |= ~(np.isfinite(std) & (std >= 0))
            value = value - np.sign(settings.weight) * settings.confidence * np.clip(std, 0.0, _HUGE)
            if settings.target is not None:
                value = np.maximum(value, 0.0)  # the target itself may lie within the uncertainty
        if settings.log:
            value = np.log(np.maximum(value, SMALLEST))
        if settings.threshold is not None:
            value = (value >= settings.threshold).astype(float)
        if settings.clip is not None:
            value = np.clip(value, settings.clip[0], settings.clip[1])
        return value, missing

    def _figure(self, batch: Batch) -> tuple[np.ndarray, np.ndarray | None]:
        value, std = ask(self.settings.term, self.term, batch)
        if std is None and self.settings.confidence:
            raise _no_deviation(self.settings.term)
        return value, std


@dataclass(frozen=True)
class Reward:
    """The sum of weighted terms; `failure` is what a crystal earns that failed."""

    terms: tuple[WeightedTerm, ...]
    failure: float

    @classmethod
    def of(cls, settings: RewardSettings) -> Reward:
        """From the configuration. Raises InputError for unknown terms, options, figures and impossible conditions.

        Its sentence begins with the term's place, `reward.terms.0`.
        """
        terms: list[WeightedTerm] = []
        for place, term in enumerate(settings.terms):
            try:
                terms.append(WeightedTerm.of(term, {known.column for known in terms}))
            except InputError as error:
                raise InputError(f"reward.terms.{place}: {error}") from error
        return cls(tuple(terms), settings.failure)

    @property
    def needs(self) -> frozenset[str]:
        """Groups of figures that must be computed for some crystals at least."""
        return frozenset().union(*(term.needs for term in self.terms))

    def needs_everywhere(self, group: str) -> bool:
        """Whether some term needs the group whatever the crystal is."""
        return any(group in term.needs and not term.conditions for term in self.terms)

    def wanted(self, group: str, batch: Batch) -> np.ndarray:
        """(N,) bool: crystals whose reward depends on figures of `group`, by what is known of them so far."""
        lifted = batch.on_the_hull()
        wanted = np.zeros(len(batch), bool)
        for term in self.terms:
            if group in term.needs:
                wanted |= term.judge(lifted).possible
        return wanted & batch.ok

    def score(self, batch: Batch) -> Rewards:
        """Rewards of the crystals of a batch, row for row. Raises InputError for a term that fails, by its name."""
        failed = ~batch.ok
        rows = np.flatnonzero(~failed)
        judged = batch.take(rows).on_the_hull()
        statuses = [Status.EMPTY_CRYSTAL if f and s == OK else s for f, s in zip(failed, batch.statuses, strict=True)]
        shares: dict[str, np.ndarray] = {}
        for term in self.terms:
            share, missing = term.share(judged, term.judge(judged))
            shares[term.column] = np.full(len(batch), np.nan)
            shares[term.column][rows] = share
            for j in np.flatnonzero(missing).tolist():
                if not failed[rows[j]]:
                    statuses[rows[j]] = _reason(term, judged, j)
                    failed[rows[j]] = True
        shares = {column: np.where(failed, np.nan, values) for column, values in shares.items()}
        total = np.sum(list(shares.values()), axis=0)
        return Rewards(np.where(failed, self.failure, total), shares, failed, statuses)


def _reason(term: WeightedTerm, batch: Batch, row: int) -> str:
    """Why a figure that `term` needs is missing."""
    found = [batch.reasons[group][row] for group in GROUPS if group in term.needs and group in batch.reasons]
    return next((status for status in found if status != OK), Status.NO_FIGURE)


def _check(settings: TermSettings, term: Term) -> None:
    unknown = sorted(term.needs - set(GROUPS), key=str)  # by their texts: a user's may be of several types
    if unknown:
        raise InputError(
            f"reward term '{settings.term}' needs {unknown[0]!r}, which nothing computes; it may need {', '.join(GROUPS)}."
        )
    if settings.confidence and not getattr(term, "uncertain", True):
        raise _no_deviation(settings.term)


def _no_deviation(term: str) -> InputError:
    return InputError(
        f"reward term '{term}' comes without a standard deviation, so 'confidence' can do nothing; leave it out."
    )


def _column_name(term: str, taken: set[str]) -> str:
    """`reward_<term>`; repeated terms are numbered from 2."""
    name = "reward_" + term.rpartition(":")[2]
    number, unique = 1, name
    while unique in taken:
        number += 1
        unique = f"{name}_{number}"
    return unique
