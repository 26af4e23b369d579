"""The key-value caches of a decode loop.

One whose memory grows in strides, with rows that leave and parts filled from others; and one of fixed length, for steps
whose shapes stay.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from copy import copy
from typing import Any

from jaxtyping import Int
from torch import Tensor
from transformers import Cache, DynamicCache, PreTrainedConfig
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer


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

    @property
    def fixable(self) -> bool:
        """Whether a `FixedCache` can stand for it: its layers keep every position, or the last ones."""
        return all(isinstance(layer, _RoomyLayer | DynamicSlidingWindowLayer) for layer in self.layers)

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


class FixedCache(Cache):
    """What a cache holds, in layers as long as a whole context, for steps of one token whose shapes stay.

    A step writes at `column`, which is moved on between steps, and attends to all the context: Hugging Face's masks end
    it behind the column and, where a layer slides, begin it a window before. The memory of layers that are
    not sliding is taken over from the cache, whose room has to be the context.
    """

    def __init__(self, cache: Cache, column: Int[Tensor, "1"], context: int) -> None:
        layers: list[Any] = cache.layers
        super().__init__(layers=[_FixedLayer(layer, column, context) for layer in layers])


class _FixedLayer(DynamicLayer):
    """Keys and values as long as the context; what is not written yet is zero, because masks multiply it with 0."""

    is_compileable = True  # so that Hugging Face makes its masks without looking whether it can do without

    def __init__(self, layer: DynamicLayer, column: Int[Tensor, "1"], context: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.held = _as_long_as(context, layer)
        self.column, self.context, self.is_initialized = column, context, True

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        for held, new in zip(self.held, (key_states, value_states), strict=True):
            held.index_copy_(2, self.column, new)
        return self.held

    def batch_select_indices(self, indices: Tensor) -> None:
        keys, values = self.held
        self.held = keys[indices], values[indices]

    def get_seq_length(self) -> Any:
        """The column, on its device: a mask that is made of it is right at every step."""
        return self.column

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.context, 0


def _as_long_as(context: int, layer: Any) -> tuple[Tensor, Tensor]:
    """A layer's keys and values, each position at its column of the context."""
    end = layer.get_seq_length()

    def placed(last: Tensor) -> Tensor:
        whole = last.new_zeros(*last.shape[:2], context, last.shape[-1])
        whole[:, :, end - last.shape[-2] : end] = last
        return whole

    roomy = isinstance(layer, _RoomyLayer)
    keys, values = layer.buffers if roomy else (placed(layer.keys), placed(layer.values))
    assert keys.shape[-2] == context
    for whole in (keys, values):
        whole[:, :, end:] = 0
    return keys, values
