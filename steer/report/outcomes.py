"""Several experiments in one table, for a terminal or a log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from steer.analysis.suite import Ended
from steer.report.visible import log_text

HEADER = ("experiment", "pass", "fail", "inconclusive", "worst", "time", "report")
RIGHT = frozenset({1, 2, 3, 5})
"""Columns of numbers."""


def outcome_row(one: Ended) -> tuple[str, ...]:
    """Name, counts of pass, fail and inconclusive, worst verdict, time, and the page or why there is none."""
    counts = Counter(verdict.verdict for verdict in one.verdicts)
    numbers = [str(counts[word]) if one.page else "-" for word in ("pass", "fail", "inconclusive")]
    why = one.skipped or next(iter(one.problems), "")
    return one.name, *numbers, one.worst, f"{one.seconds:.0f} s", str(one.page or why)


def outcome_table(ended: Sequence[Ended]) -> str:
    """A line for each experiment, columns of equal width."""
    rows = [HEADER, *(tuple(" ".join(log_text(cell).split()) for cell in outcome_row(one)) for one in ended)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEADER))]
    return "\n".join(_line(row, widths) for row in rows)


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = (
        cell.rjust(w) if i in RIGHT else cell.ljust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
    )
    return "  ".join(cells).rstrip()
