"""95 % intervals: of fractions and their differences, over seeds, over crystals, and of ratios."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest, contingency, t


@dataclass(frozen=True)
class Estimate:
    """A figure with the ends of its 95 % interval; an end is None where it cannot be said."""

    value: float
    low: float | None = None
    high: float | None = None


def wilson_interval(count: int, n: int) -> tuple[float, float]:
    """95 % interval of a fraction `count`/`n` (E. B. Wilson, J. Am. Stat. Assoc. 22, 209, 1927); (0, 1) for n = 0."""
    if n == 0:
        return 0.0, 1.0
    found = binomtest(count, n).proportion_ci(0.95, method="wilson")
    return float(found.low), float(found.high)


def difference_interval(first: tuple[int, int], second: tuple[int, int]) -> tuple[float, float]:
    """95 % interval of the second fraction less the first, each given as (count, n).

    The hybrid score interval of R. G. Newcombe, Stat. Med. 17, 873 (1998), method 10: it holds
    zero where the two samples do not tell the fractions apart.
    """
    (count1, n1), (count2, n2) = first, second
    p1, p2 = (count / n if n else 0.5 for count, n in (first, second))
    low1, high1 = wilson_interval(count1, n1)
    low2, high2 = wilson_interval(count2, n2)
    return p2 - p1 - math.hypot(p2 - low2, high1 - p1), p2 - p1 + math.hypot(high2 - p2, p1 - low1)


def fraction(count: int, n: int) -> Estimate:
    """A fraction with Wilson's interval."""
    return Estimate(count / n if n else 0.0, *wilson_interval(count, n))


def mean(values: Sequence[float] | np.ndarray) -> Estimate:
    """A mean with Student's t interval; of one value no interval."""
    found = np.asarray(values, float)
    value = float(found.mean())
    if len(found) < 2:
        return Estimate(value)
    half = float(t.ppf(0.975, len(found) - 1) * found.std(ddof=1) / math.sqrt(len(found)))
    return Estimate(value, value - half, value + half)


def over_seeds(counts: Sequence[int], sizes: Sequence[int]) -> Estimate:
    """The mean fraction of several seeds with its t interval, within 0 and 1; of one seed with Wilson's.

    Where the seeds happen to agree better than so many crystals can, Wilson's interval of all of them is the wider one,
    and is taken.
    """
    if len(counts) == 1:
        return fraction(counts[0], sizes[0])
    found = mean([count / n if n else 0.0 for count, n in zip(counts, sizes, strict=True)])
    pooled = fraction(sum(counts), sum(sizes))
    if _width(pooled) > _width(found):
        found = Estimate(found.value, pooled.low, pooled.high)
    return Estimate(found.value, max(found.low or 0.0, 0.0), min(found.high or 0.0, 1.0))


_DRAWS = 2000


def over_seeds_and_items(found: np.ndarray) -> Estimate:
    """The mean of an array (seeds, items) with a hierarchical bootstrap's interval: seeds are drawn again, and items."""
    return _between(found.mean(), [_drawn(found, *draw) for draw in _draws(found.shape[0], found.shape[1])])


def ratio_over_seeds_and_items(first: np.ndarray, base: np.ndarray) -> Estimate | None:
    """The ratio of two such means over the same items, seeds of both drawn again and the items of both alike; None where the base's mean is zero.

    A draw in which the base has none counts as infinite: the upper end is then None.
    """
    if not base.mean() > 0:
        return None
    values = []
    for own, other in zip(_draws(*first.shape), _draws(len(base), first.shape[1], seed=1), strict=True):
        below = _drawn(base, other[0], own[1])
        values.append(_drawn(first, *own) / below if below > 0 else math.inf)
    return _between(first.mean() / base.mean(), values)


def _draws(seeds: int, items: int, seed: int = 0) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(seed)
    for _ in range(_DRAWS):
        yield rng.integers(0, seeds, seeds), rng.integers(0, items, items)


def _drawn(found: np.ndarray, seeds: np.ndarray, items: np.ndarray) -> float:
    return float(found[np.ix_(seeds, items)].mean())


def _between(value: float, draws: Sequence[float]) -> Estimate:
    low, high = (float(end) for end in np.quantile(draws, [0.025, 0.975], method="nearest"))
    return Estimate(float(value), low if math.isfinite(low) else None, high if math.isfinite(high) else None)


def _width(found: Estimate) -> float:
    return (found.high or 0.0) - (found.low or 0.0)


def odds_ratio(first: tuple[int, int], base: tuple[int, int]) -> Estimate:
    """The odds of one share over those of another, (count, n) each, with the interval of its logarithm's normal approximation.

    An end that does not exist, for counts of none or all, is None.
    """
    table = [[first[0], first[1] - first[0]], [base[0], base[1] - base[0]]]
    with np.errstate(divide="ignore", invalid="ignore"):
        found = contingency.odds_ratio(table, kind="sample")
        ends = found.confidence_interval(0.95)
    return Estimate(float(found.statistic), *(float(end) if math.isfinite(end) else None for end in (ends.low, ends.high)))


def ratio(first: Estimate, base: Estimate) -> Estimate | None:
    """`first` as a multiple of `base`, both positive; None where the base is zero.

    The interval is that of A. Donner and G. Y. Zou, Stat. Methods Med. Res. 21, 347 (2012): made of the two figures' own
    intervals, taken as independent. Its upper end is None where the base's interval reaches zero.
    """
    if not base.value > 0:
        return None
    value = first.value / base.value
    if first.low is None or first.high is None or base.low is None or base.high is None:
        return Estimate(value)
    product = first.value * base.value
    l1, u1, l2, u2 = max(first.low, 0.0), first.high, max(base.low, 0.0), base.high

    def root(own: float, other: float) -> float:
        return math.sqrt(max(product**2 - own * other * (2 * first.value - own) * (2 * base.value - other), 0.0))

    # The lower end as published times (product + root)/(product + root), so that it has no pole.
    low = l1 * (2 * first.value - l1) / (product + root(l1, u2)) if product > 0 else 0.0
    high = (product + root(u1, l2)) / (l2 * (2 * base.value - l2)) if l2 > 0 else None
    return Estimate(value, low, high)
