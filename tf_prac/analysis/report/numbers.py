"""Formatting of the numbers on a page."""

from __future__ import annotations

DASH = "–"


def percent(fraction: float | None, digits: int = 2) -> str:
    """Returns a fraction as a percentage: 0.8926 is "89.26%"; a dash for None."""
    return DASH if fraction is None else f"{100 * fraction:.{digits}f}%"


def points(difference: float) -> str:
    """Returns a difference of two fractions in percentage points: 0.0012 is "+0.12"."""
    text = f"{100 * difference:+.2f}"
    return "±0.00" if float(text) == 0 else text.replace("-", "−")


def count(number: float | None) -> str:
    """Returns a whole number with separators: 9895 is "9,895"; a dash for None."""
    return DASH if number is None else f"{number:,.0f}"


def short(number: float) -> str:
    """Returns a short number for an axis: 12500 is "12.5k"."""
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if abs(number) >= 10 * size:
            return f"{number / size:g}{unit}"
    return f"{number:,g}"


def duration(seconds: float) -> str:
    """Returns a duration in hours and minutes: 3725 s is "1 h 2 min"."""
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    hours, rest = divmod(minutes, 60)
    return f"{hours} h {rest} min" if hours else f"{minutes} min"
