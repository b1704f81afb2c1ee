"""How a figure is written: one way, in the tables, the captions and on the axes."""

from __future__ import annotations

import math

MISSING = "\u2013"
MIB = 1024**2


def number(value: float | None) -> str:
    """About three significant digits, never an exponent for what is 0.01 or more."""
    if value is None:
        return MISSING
    if not math.isfinite(value):
        return str(value)
    size = abs(value)
    if size >= 100:
        return f"{value:,.0f}"
    if size >= 10:
        return f"{value:.1f}"
    if size >= 1 or size == 0:
        return f"{value:.2f}" if value else "0"
    return f"{value:.2g}"


def milliseconds(seconds: float | None) -> str:
    return MISSING if seconds is None else number(seconds * 1e3)


def mebibytes(count: float | None) -> str:
    return MISSING if count is None else number(count / MIB)


def ratio(value: float | None) -> str:
    return MISSING if value is None else f"{value:.2f}"


def fraction(value: float | None) -> str:
    """A part of a whole: 1/57 rather than 0.018, but 0.83 as it is."""
    if value is None:
        return MISSING
    if value <= 0 or value >= 0.5:
        return "1" if value == 1 else f"{value:.2f}" if value else "0"
    inverse = 1 / value
    if inverse >= 9.95:
        return f"1/{inverse:,.0f}"
    return f"1/{inverse:.1f}".removesuffix(".0")


def error(value: float | None) -> str:
    return MISSING if value is None else f"{value:.1e}"


def count(value: float | None) -> str:
    """A size or a limit as it was asked for, without rounding."""
    if value is None:
        return MISSING
    return f"{value:g}" if isinstance(value, float) else str(value)


def size(bytes_: float) -> str:
    """Bytes in the unit that keeps the number short: 640 KiB, 12 MiB, 1.5 GiB."""
    for unit, scale in (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024)):
        if abs(bytes_) >= scale:
            return f"{_short(bytes_ / scale)} {unit}"
    return f"{_short(bytes_)} B"


def duration(seconds: float) -> str:
    """Seconds in the unit that keeps the number short: 850 ms, 2.1 s."""
    # The small allowance keeps a tick at 1 s, computed as 0.9999..., from reading 1000 ms.
    for unit, scale in (("s", 1.0), ("ms", 1e-3)):
        if abs(seconds) >= scale * (1 - 1e-9):
            return f"{_short(seconds / scale)} {unit}"
    return f"{_short(seconds * 1e6)} µs"


def rough_duration(seconds: float) -> str:
    """For what is only predicted, e.g. "40 s", "3 min", "2.5 h": no more digits than are known."""
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _short(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 999.5 else f"{value:.3g}"


def times(value: float) -> str:
    """A factor in a sentence: 57x, 1.24x."""
    return f"{value:,.0f}x" if value >= 9.95 else f"{value:.2g}x"
