"""Which rows of a batch run together over a prompt: those that start at about the same layer and column."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

PASS = 64  # measured on two models, 2 cores: a pass of its own costs about as much as this many tokens more


@dataclass(frozen=True)
class Part:
    """Rows of a batch whose pass starts with block `layer` and covers the columns from `column` on."""

    rows: tuple[int, ...]
    layer: int
    column: int

    def joined(self, other: Part) -> Part:
        """Both in one pass, which has to start where the earlier one does."""
        return Part(self.rows + other.rows, min(self.layer, other.layer), min(self.column, other.column))

    def cost(self, n_layers: int, width: int) -> int:
        """What the pass takes, in tokens times layers."""
        return (n_layers - self.layer) * (PASS + len(self.rows) * (width - self.column))


def parts(layers: Sequence[int], columns: Sequence[int], n_layers: int, width: int) -> list[Part]:
    """Rows by the layer and column at which they start; neighbours are joined where that costs less than apart.

    Rows that start at `n_layers` need their logits alone; those that start beyond differ nowhere, and are in no part.
    """
    found: list[Part] = []
    for part in _alike(layers, columns, n_layers):
        joined = found[-1].joined(part) if found else part
        if found and joined.cost(n_layers, width) <= found[-1].cost(n_layers, width) + part.cost(n_layers, width):
            found[-1] = joined
        else:
            found.append(part)
    return found


def _alike(layers: Sequence[int], columns: Sequence[int], n_layers: int) -> Iterator[Part]:
    """Rows with the same start, lowest layers and leftmost columns first."""
    alike: dict[tuple[int, int], list[int]] = {}
    for row, start in enumerate(zip(layers, columns, strict=True)):
        alike.setdefault(start, []).append(row)
    for (layer, column), rows in sorted(alike.items()):
        if layer <= n_layers:
            yield Part(tuple(rows), layer, column)
