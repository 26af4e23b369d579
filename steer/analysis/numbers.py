"""Numbers for reading."""

from __future__ import annotations

from math import floor, isfinite, log10


def number_text(value: float | None) -> str:
    """Two decimals where that says enough, two digits below, no decimals above 100; a dash for none."""
    if value is None or not isfinite(value):
        return "–"
    size = abs(value)
    if 100 <= size < 1e6:
        return f"{value:.0f}"
    return f"{value:.2f}" if size == 0 or 0.095 <= size < 100 else f"{value:.2g}"


def interval_text(estimate: float | None, low: float | None, high: float | None) -> str:
    """`0.93 [0.80, 0.99]` with as many decimals as the width deserves; an open end is `never` (a crossover)."""
    if estimate is None or low is None or not isfinite(low):
        return number_text(estimate)
    if high is None or high - low < 1e-12:
        return f"{number_text(estimate)} [{number_text(low)}, {'never' if high is None else number_text(high)}]"
    decimals = min(6, max(0, 1 - floor(log10(high - low))))
    return f"{estimate:.{decimals}f} [{low:.{decimals}f}, {high:.{decimals}f}]"


def moved_text(old: float, new: float) -> str:
    """`0.4812 → 0.4907`, with as many decimals as the step deserves; `0.48 as recorded` where there is none."""
    step = abs(new - old)
    if step < 1e-12:
        return f"{number_text(new)} as recorded"
    decimals = min(12, max(2, 1 - floor(log10(step))))
    return f"{old:.{decimals}f} → {new:.{decimals}f}"
