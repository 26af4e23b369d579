"""Text through model and transcoder: what the features say beside what is written, and the loss with it in its place.

The transcoder reads in the pass under way, so where several layers are replaced each sees what those before it made.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from steer.gate.text import Rows
from steer.model.explained import Sums
from steer.model.generation import padded
from steer.model.language_model import LanguageModel
from steer.transcoder.transcoder import Transcoders

VALUES = 2**25  # activations of one layer, or logits, held at a time (128 MB): it bounds the tokens of a batch

HookFunction = Callable[[Tensor, Any], Tensor | None]
Hooks = list[tuple[str, HookFunction]]


@dataclass(frozen=True)
class Pair:
    """A model and the transcoders that are looked at on it."""

    model: LanguageModel
    transcoders: Transcoders

    def sources(self, targets: Collection[int]) -> tuple[int, ...]:
        """The layers whose features write to one of `targets`."""
        every = self.transcoders.layers
        return tuple(one for one in every if any(layer in self.transcoders.writes_to(one) for layer in targets))


@dataclass
class Reconstruction:
    """What the features say that is written to the layers `targets`, at the tokens `kept` of one batch.

    Sources are read from the first layer up; of what is read only what is still to be written is held.
    """

    transcoders: Transcoders
    targets: frozenset[int]
    kept: Bool[Tensor, "batch pos"]
    read: dict[int, Float[Tensor, "n d_in"]] = field(default_factory=dict)
    fired: dict[int, Float[Tensor, "n d_transcoder"]] = field(default_factory=dict)
    parts: dict[int, list[Float[Tensor, "n d_model"]]] = field(default_factory=dict)

    def on_read(self, layer: int, x: Float[Tensor, "batch pos d_in"], hook: Any) -> None:
        """A source reads."""
        taken = self.of(x)
        activations = self.transcoders.encode_all(layer, taken)
        for target in self.targets & set(self.transcoders.writes_to(layer)):
            part = self.transcoders.written(layer, activations, target)
            before = self.parts.get(target)
            self.parts[target] = [part] if before is None else [before[0] + part]
        if layer in self.targets:
            self.read[layer], self.fired[layer] = taken, activations

    def output(self, layer: int) -> Float[Tensor, "n d_model"]:
        """What they say that is written to a layer, once all that write to it have read."""
        return self.transcoders.finished(layer, self.parts.pop(layer), self.read.pop(layer))

    def of(self, x: Float[Tensor, "batch pos d"]) -> Float[Tensor, "n d"]:
        """The kept tokens of an activation, where the transcoders are."""
        return x[self.kept.to(x.device)].to(self.transcoders.device).float()


@dataclass(frozen=True)
class Batch:
    """Some rows, padded on the left; `kept` are the tokens that are measured."""

    ids: Int[Tensor, "batch pos"]
    mask: Bool[Tensor, "batch pos"]
    kept: Bool[Tensor, "batch pos"]


def survey(pair: Pair, rows: Rows, layers: Sequence[int], reads: Sequence[str]) -> dict[str, dict[int, Sums]]:
    """Totals over a text of what the features do, by the hook point that they read at, and by layer."""
    widths = pair.transcoders.widths
    found = {point: {layer: Sums.empty(widths[layer]) for layer in layers} for point in reads}
    for batch in batches(pair.model, rows, max(widths.values())):
        hooks = [hook for point in reads for hook in _watching(pair, batch, layers, point, found[point])]
        _forward(pair.model, batch, hooks, torch.tensor([batch.ids.shape[1] - 1]))
    return found


def _watching(pair: Pair, batch: Batch, layers: Sequence[int], reads: str, sums: dict[int, Sums]) -> Hooks:
    making = Reconstruction(pair.transcoders, frozenset(layers), batch.kept)

    def on_write(layer: int, wrote: Tensor, hook: Any) -> None:
        sums[layer].add(making.fired.pop(layer), making.of(wrote), making.output(layer))

    return [*_reading(pair, making, reads), *_writing(pair, layers, on_write)]


@dataclass(frozen=True)
class Losses:
    """Mean next-token loss over a text, in nats a token, with layers as they are or replaced."""

    pair: Pair
    rows: Rows

    def original(self) -> float:
        return self._mean(lambda batch: [])

    def spliced(self, layers: Sequence[int]) -> float:
        """With what the transcoders say in the place of what is written, but for what stands first in each row."""
        return self._mean(partial(self._splicing, layers))

    def zero(self, layers: Sequence[int]) -> float:
        """With nothing written instead."""
        return self._mean(partial(self._zeroing, layers))

    def _splicing(self, layers: Sequence[int], batch: Batch) -> Hooks:
        making = Reconstruction(self.pair.transcoders, frozenset(layers), batch.kept)

        def on_write(layer: int, wrote: Tensor, hook: Any) -> Tensor:
            making.fired.pop(layer)
            return _put(wrote, batch.kept, making.output(layer))

        return [*_reading(self.pair, making, self.pair.transcoders.reads), *_writing(self.pair, layers, on_write)]

    def _zeroing(self, layers: Sequence[int], batch: Batch) -> Hooks:
        def on_write(layer: int, wrote: Tensor, hook: Any) -> Tensor:
            return _put(wrote, batch.kept, torch.zeros(()))

        return _writing(self.pair, layers, on_write)

    def _mean(self, hooks: Callable[[Batch], Hooks]) -> float:
        total, count = 0.0, 0
        width = max(self.pair.model.d_vocab, *self.pair.transcoders.widths.values())
        for batch in batches(self.pair.model, self.rows, width):
            logits = _forward(self.pair.model, batch, hooks(batch), torch.arange(batch.ids.shape[1] - 1))
            real = batch.mask[:, :-1]
            total += float(cross_entropy(logits[real], batch.ids[:, 1:][real], reduction="sum"))
            count += int(real.sum())
        return total / count


def batches(model: LanguageModel, rows: Rows, width: int) -> Iterator[Batch]:
    """Rows that share a pass, at most VALUES / `width` tokens (or one row), in the order of their length."""
    ordered = sorted(rows.ids, key=len)
    start = 0
    while start < len(ordered):
        stop = start + 1
        while stop < len(ordered) and (stop + 1 - start) * len(ordered[stop]) * width <= VALUES:
            stop += 1
        ids, mask = (part.to(model.device) for part in padded(ordered[start:stop], model.tokens.pad_id))
        yield Batch(ids, mask, mask & (mask.cumsum(1) > rows.front))
        start = stop


def _forward(model: LanguageModel, batch: Batch, hooks: Hooks, columns: Tensor) -> Float[Tensor, "batch n d_vocab"]:
    with torch.inference_mode(), model.hooked(hooks):
        return model.forward_pass(batch.ids, batch.mask, logits_at=columns.to(model.device))


def _reading(pair: Pair, making: Reconstruction, reads: str) -> Hooks:
    return [(f"blocks.{one}.{reads}", partial(making.on_read, one)) for one in pair.sources(making.targets)]


def _writing(pair: Pair, layers: Sequence[int], function: Callable[[int, Tensor, Any], Tensor | None]) -> Hooks:
    return [(f"blocks.{layer}.{pair.transcoders.writes}", partial(function, layer)) for layer in layers]


def _put(wrote: Float[Tensor, "batch pos d"], kept: Bool[Tensor, "batch pos"], new: Tensor) -> Tensor:
    changed = wrote.clone()
    changed[kept.to(wrote.device)] = new.to(wrote.device, wrote.dtype)
    return changed
