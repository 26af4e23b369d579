"""The least arithmetic: multiply-adds of a pass that computes nothing twice and nothing that is not read.

Counted are matrix products: those with weights, and queries with keys and patterns with values over the positions
that each sees. Norms, activation functions and steering itself come to less than a hundredth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.workloads import Row, Workload, activations
from benchmarks.world import World


@dataclass(frozen=True)
class Shape:
    """A Llama: layers, width of stream and MLP, of all keys together, of all queries together, vocabulary."""

    layers: int
    width: int
    inner: int
    keys: int
    queries: int
    vocabulary: int

    @classmethod
    def of(cls, world: World) -> Shape:
        config = world.config
        head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        return cls(
            config.num_hidden_layers,
            config.hidden_size,
            config.intermediate_size,
            head * config.num_key_value_heads,
            head * config.num_attention_heads,
            config.vocab_size,
        )

    def stored(self, tokens: int) -> int:
        """Keys and values of one layer."""
        return tokens * 2 * self.width * self.keys

    def read(self, context: Sequence[int]) -> int:
        """The rest of a layer, at positions that see so many positions each."""
        weights = 2 * self.width * self.queries + 3 * self.width * self.inner
        return len(context) * weights + 2 * self.queries * sum(context)

    def layer(self, first: int, end: int) -> int:
        """One layer at the positions from `first` up to `end`."""
        return self.stored(end - first) + self.read(range(first + 1, end + 1))

    def last_layer(self, first: int, end: int) -> int:
        """The last layer where only the last position is read."""
        return self.stored(end - first) + self.read([end])

    def passed(self, end: int, start_layer: int = 0, first: int = 0) -> int:
        """One row through the layers from `start_layer` on, at the positions from `first` on; its last logits."""
        logits = self.width * self.vocabulary
        if start_layer == self.layers:
            return logits
        return (self.layers - 1 - start_layer) * self.layer(first, end) + self.last_layer(first, end) + logits

    def plain(self, end: int, padded: int = 0) -> int:
        """One row as Hugging Face passes it: every layer at every position, padding with it, and the last logits."""
        return self.layers * self.layer(0, max(end, padded)) + self.width * self.vocabulary

    def step(self, context: int) -> int:
        """One token more."""
        return self.layers * self.layer(context - 1, context) + self.width * self.vocabulary


def plain(world: World, workload: Workload) -> int:
    """What plain Hugging Face multiplies, in the workload's batches."""
    shape, total = Shape.of(world), 0
    for batch in workload.batches:
        lengths = [len(workload.prompts[workload.rows[r].prompt]) for r in batch]
        total += sum(shape.plain(length, max(lengths)) for length in lengths)
        total += len(batch) * sum(shape.step(max(lengths) + step) for step in range(1, workload.new_tokens))
    return total


def least(world: World, workload: Workload) -> int:
    """Each prompt once, and of a row what its clamp can change."""
    shape = Shape.of(world)
    starts = first_positions(world, workload)
    return sum(_least(shape, workload, row, first) for row, first in zip(workload.rows, starts, strict=True))


def _least(shape: Shape, workload: Workload, row: Row, first: int) -> int:
    end = len(workload.prompts[row.prompt])
    decoding = sum(shape.step(end + step) for step in range(1, workload.new_tokens))
    start = row.clamp.layer + 1 if row.clamp else 0
    return shape.passed(end, start, first) + decoding


def first_positions(world: World, workload: Workload) -> list[int]:
    """From where on a row differs from its baseline: an ablation where its feature first fires, a dose everywhere."""
    if not all(row.clamp is None or row.clamp.value == 0 for row in workload.rows):
        return [0] * len(workload.rows)
    [ids] = workload.prompts
    fires = [acts > 0 for acts in activations(world, ids)]
    return [int(fires[row.clamp.layer][:, row.clamp.index].int().argmax()) if row.clamp else 0 for row in workload.rows]
