"""Figures in words, the same in reports, documents and on the terminal: true minus signs, no minus zero, – for what is not known."""

from __future__ import annotations

from crystalformer_rl.intervals import Estimate

UNKNOWN = "–"


def signed(value: float | None, digits: int = 3) -> str:
    """`−0.052`: a number with a true minus sign, never minus zero."""
    if value is None:
        return UNKNOWN
    text = f"{value:.{digits}f}"
    return text.replace("-", "−") if float(text) else f"{0:.{digits}f}"


def percent(fraction: float, digits: int = 1) -> str:
    """`24.2 %`."""
    return f"{signed(100 * fraction, digits)} %"


def points(fraction: float) -> str:
    """A difference of two fractions in percentage points, always with its sign: `+11.5`."""
    text = signed(100 * fraction, 1)
    return text if text.startswith("−") else f"+{text}"


def percent_interval(found: Estimate) -> str:
    """`24.2 % (19.3 to 29.8)`; without an interval the figure alone."""
    if found.low is None or found.high is None:
        return percent(found.value)
    return f"{percent(found.value)} ({signed(100 * found.low, 1)} to {signed(100 * found.high, 1)})"


def with_interval(found: Estimate | None, digits: int) -> str:
    """`1.56 (1.20 to 2.01)`; an upper end that does not exist is ∞."""
    if found is None:
        return UNKNOWN
    if found.low is None:
        return signed(found.value, digits)
    high = "∞" if found.high is None else signed(found.high, digits)
    return f"{signed(found.value, digits)} ({signed(found.low, digits)} to {high})"


def with_deviation(value: float | None, std: float | None, digits: int = 2) -> str:
    """`3.87 ± 0.41`."""
    if value is None:
        return UNKNOWN
    return f"{value:.{digits}f}" + (f" ± {std:.{digits}f}" if std is not None else "")


def counted(n: int, noun: str) -> str:
    """`1 crystal`, `1,204 crystals`."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"
