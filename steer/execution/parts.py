"""Which rows of a batch run together over a prompt, and where each comes in: what is computed follows what changes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

import numpy as np

# Measured on a Llama of 38 million parameters and on pocket, CPU, when linear layers were MKL's. On oneDNN's screening
# takes the same from 16 and 25 to 96 and 100.
PASS = 32  # tokens: what a block takes beyond its tokens
JOIN = 50  # tokens times blocks: what it takes to stop between two blocks and take in more rows


@dataclass(frozen=True)
class Part:
    """Rows that run together over the columns from `column` on; some come in before one block, some before another.

    `joins` has these blocks, in order, with their rows; block `n_layers` stands for the logits alone.
    """

    column: int
    joins: tuple[tuple[int, tuple[int, ...]], ...]

    @property
    def rows(self) -> tuple[int, ...]:
        return tuple(row for _, rows in self.joins for row in rows)


def parts(layers: Sequence[int], columns: Sequence[int], n_layers: int, width: int, joining: bool) -> list[Part]:
    """Rows by the block and column from which they run; those that start beyond `n_layers` run nowhere.

    Passes together cost least: one over r rows takes PASS + r * (width - column) in each block that a row has come in
    to. Parts are runs of the rows in the order of their columns; which runs are best is found by dynamic programming.
    Rows that only give logits are a part by themselves: in another one the last block would have to end before they
    come in. Without `joining` all rows of a part come in where the first one does.
    """
    starts = sorted((column, layer, row) for row, (layer, column) in enumerate(zip(layers, columns, strict=True)))
    running = [start for start in starts if start[1] < n_layers]
    logits_only = [start for start in starts if start[1] == n_layers]
    bounds = [n for n, _ in enumerate(running) if n == 0 or running[n][0] != running[n - 1][0]] + [len(running)]
    found = _cheapest(running, np.array(bounds), n_layers, width) if running else []
    made = [_part(running[a:b], width, joining) for a, b in found]
    return [*made, _part(logits_only, width, joining)] if logits_only else made


def pieces(part: Part, width: int, most: int) -> Iterator[Part]:
    """The part in passes of at most so many tokens (or one row), about equally many rows each, lower ones first."""
    entering = [(layer, row) for layer, rows in part.joins for row in rows]
    n = math.ceil(len(entering) / max(1, most // (width - part.column)))
    for start, end in pairwise(len(entering) * i // n for i in range(n + 1)):
        by_layer = groupby(entering[start:end], key=lambda pair: pair[0])
        yield Part(part.column, tuple((layer, tuple(row for _, row in pairs)) for layer, pairs in by_layer))


def _part(rows: Sequence[tuple[int, int, int]], width: int, joining: bool) -> Part:
    by_layer = groupby(sorted((layer, row) for _, layer, row in rows), key=lambda pair: pair[0])
    levels = [(layer, tuple(row for _, row in pairs)) for layer, pairs in by_layer]
    column = rows[0][0]
    return Part(column, tuple(_joins(levels, JOIN / (width - column) if joining else np.inf)))


def _joins(levels: Sequence[tuple[int, tuple[int, ...]]], worth: float) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Rows come in early, with those below them, where waiting saves less than it costs (in rows times blocks)."""
    waiting: tuple[int, ...] = ()
    at, saved = levels[0][0], 0
    for layer, rows in levels:
        saved += len(rows) * (layer - at)
        if saved > worth:
            yield at, waiting
            at, waiting, saved = layer, (), 0
        waiting += rows
    yield at, waiting


def _cheapest(
    running: Sequence[tuple[int, int, int]], bounds: np.ndarray, n_layers: int, width: int
) -> list[tuple[int, int]]:
    """The runs between some of the bounds that cost least together."""
    column, layer, _ = np.array(running).T
    blocks = np.concatenate([[0], np.cumsum(n_layers - layer)])[bounds]  # that all rows before a bound run through
    deepest = np.zeros(len(bounds), dtype=int)  # the most that a row runs through, of a run that begins at a bound
    best, cut = np.zeros(len(bounds)), np.zeros(len(bounds), dtype=int)
    for end in range(1, len(bounds)):
        deepest[:end] = np.maximum(deepest[:end], (n_layers - layer[bounds[end - 1] : bounds[end]]).max())
        tokens = (blocks[end] - blocks[:end]) * (width - column[bounds[:end]])
        cost = best[:end] + tokens + PASS * deepest[:end]
        cut[end] = cost.argmin()
        best[end] = cost[cut[end]]
    runs, end = [], len(bounds) - 1
    while end:
        runs.append((int(bounds[cut[end]]), int(bounds[end])))
        end = cut[end]
    return runs[::-1]
