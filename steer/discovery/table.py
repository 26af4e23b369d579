"""Rows as an aligned table of plain text."""

from __future__ import annotations

import math
from collections.abc import Sequence


def aligned(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A line a row under a header; columns of numbers end at the same place, others begin there."""
    columns = list(zip(header, *rows, strict=True))
    sides = [_column(column) for column in columns]
    return "\n".join("  ".join(cells).rstrip() for cells in zip(*sides, strict=True))


def _column(cells: Sequence[str]) -> list[str]:
    width = max(map(len, cells))
    numbers = all(cell == "-" or _is_number(cell) for cell in cells[1:])
    return [cell.rjust(width) if numbers else cell.ljust(width) for cell in cells]


def _is_number(cell: str) -> bool:
    try:
        float(cell.rstrip("%"))
    except ValueError:
        return False
    return True


def number(value: float, digits: int = 3) -> str:
    """A number for a table; a dash where there is none."""
    return f"{value:.{digits}f}" if math.isfinite(value) else "-"


def signed(value: float, digits: int = 3) -> str:
    """The same, with its sign always."""
    return f"{value:+.{digits}f}" if math.isfinite(value) else "-"
