"""The columns that a pass covers: a run of them, or one that a replayed step reads off the device."""

from __future__ import annotations

from jaxtyping import Int
from torch import Tensor

Columns = slice | Int[Tensor, "1"]

NOBODY = -1
"""The row behind the last one of what a batch notes: there goes what is nobody's."""


def cells(rows: Int[Tensor, " rows"], columns: Columns) -> tuple[Tensor, Columns]:
    """The index of some rows at some columns in a tensor [row column ...]."""
    return (rows, columns) if isinstance(columns, slice) else (rows[:, None], columns)
