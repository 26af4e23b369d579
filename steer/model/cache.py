"""The key-value cache of a decode loop: memory that grows in strides, rows that leave, and parts filled from others."""

from __future__ import annotations

from collections.abc import Callable, Collection
from copy import copy
from typing import Any

from torch import Tensor
from transformers import DynamicCache, PreTrainedConfig
from transformers.cache_utils import DynamicLayer


class RoomyCache(DynamicCache):
    """Hugging Face's cache of a model, whose memory grows by `room` positions at a time.

    Its layers lie where the model's layers do; row indices may come from any device.
    """

    def __init__(self, config: PreTrainedConfig, room: int) -> None:
        super().__init__(config=config)
        self.layers = [_RoomyLayer(room) if type(layer) is DynamicLayer else layer for layer in self.layers]

    @property
    def divisible(self) -> bool:
        """Whether every layer keeps every position: what `taken` and `put` need. Sliding windows do not."""
        return all(isinstance(layer, _RoomyLayer) for layer in self.layers)

    def taken(self, rows: Tensor, columns: slice, room: int, layers: Collection[int] | None = None) -> RoomyCache:
        """A cache of its own with some rows and columns of some layers (by default all), and room for more.

        Only of one that is `divisible`.
        """
        new = copy(self)
        new.layers = [_RoomyLayer(room) for _ in self.layers]
        sources: list[Any] = self.layers
        targets: list[Any] = new.layers
        for number, (source, target) in enumerate(zip(sources, targets, strict=True)):
            if layers is None or number in layers:
                index = rows.to(source.keys.device)
                target.fill(*(held[index, :, columns] for held in (source.keys, source.values)))
        return new

    def put(self, rows: Tensor, column: int, part: RoomyCache, layers: Collection[int]) -> None:
        """Write what some layers of a part hold over some rows, from a column on."""
        sources: list[Any] = part.layers
        targets: list[Any] = self.layers
        for number in layers:
            source, target = sources[number], targets[number]
            index = rows.to(source.keys.device)
            for held, new in ((target.keys, source.keys), (target.values, source.values)):
                held[index, :, column : column + new.shape[-2]] = new

    def batch_select_indices(self, indices: Tensor) -> None:
        layers: list[Any] = self.layers
        for layer in layers:
            keys = getattr(layer, "keys", None)
            layer.batch_select_indices(indices if keys is None else indices.to(keys.device))


class _RoomyLayer(DynamicLayer):
    """Keys and values in buffers with room to spare, so that a step writes its own and copies nobody else's.

    `keys` and `values` are the used part of the buffers, as the base class knows them.
    """

    def __init__(self, room: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.room = room
        self.buffers: tuple[Tensor, ...] = ()

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        start = self.get_seq_length()
        end = start + key_states.shape[-2]
        if not self.buffers or end > self.buffers[0].shape[-2]:
            self.buffers = self._grown(key_states, value_states, end)
            self.is_initialized = True
        for buffer, new in zip(self.buffers, (key_states, value_states), strict=True):
            buffer[:, :, start:end] = new
        return self._use(end)

    def fill(self, keys: Tensor, values: Tensor) -> None:
        """Hold these, and have room for more."""
        length = keys.shape[-2]
        self.buffers = self._grown(keys, values, length)
        for buffer, new in zip(self.buffers, (keys, values), strict=True):
            buffer[:, :, :length] = new
        self.is_initialized = True
        self._use(length)

    def batch_select_indices(self, indices: Tensor) -> None:
        self._replace(lambda buffer: buffer[indices])

    def batch_repeat_interleave(self, repeats: int) -> None:
        self._replace(lambda buffer: buffer.repeat_interleave(repeats, 0))

    def _replace(self, change: Callable[[Tensor], Tensor]) -> None:
        if self.buffers:
            length = self.get_seq_length()
            self.buffers = tuple(change(buffer) for buffer in self.buffers)
            self._use(length)

    def _grown(self, keys: Tensor, values: Tensor, length: int) -> tuple[Tensor, ...]:
        grown = tuple(new.new_empty(*new.shape[:2], length + self.room, new.shape[-1]) for new in (keys, values))
        for larger, old in zip(grown, self.buffers, strict=False):
            larger[:, :, : old.shape[-2]] = old
        return grown

    def _use(self, length: int) -> tuple[Tensor, Tensor]:
        self.keys, self.values = (buffer[:, :, :length] for buffer in self.buffers)
        return self.keys, self.values
