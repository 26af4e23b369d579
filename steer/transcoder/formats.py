"""Rows on demand: of a stored tensor only the rows that are asked for are read, and given back as float32."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from steer.errors import TranscoderError
from steer.transcoder.layout import LayerLayout, Stored

BLOCK_BYTES = 32 * 2**20  # float32 encoder or decoder rows held at a time where all of them are needed


class LayerFile:
    """One layer's weights in circuit-tracer's layout, mapped into memory and read by rows.

    Everything comes back as float32 on `device`, whatever it is stored as; rows are features.
    """

    def __init__(self, layout: LayerLayout, device: torch.device) -> None:
        self.layout = layout
        self.device = device
        try:
            self._file: Any = safe_open(layout.file, framework="pt")  # safetensors' own handle is not typed
        except (SafetensorError, OSError) as error:
            raise TranscoderError(f"{layout.file}: not a safetensors file ({error})") from error

    def rows(self, stored: Stored, indices: Sequence[int]) -> Tensor:
        """The given rows of a tensor, in the given order: [k ...]."""
        stored_rows = self._file.get_slice(stored.key)
        rows = [stored_rows[index : index + 1] for index in indices]
        return self._float(torch.cat(rows) if rows else torch.empty(0, *stored.shape[1:]))

    def block(self, stored: Stored, start: int, stop: int) -> Tensor:
        """The rows [start, stop) of a tensor."""
        return self._float(self._file.get_slice(stored.key)[start:stop])

    def whole(self, stored: Stored) -> Tensor:
        """All of a tensor: for vectors, and for W_skip."""
        return self._float(self._file.get_tensor(stored.key))

    def thresholds(self, indices: Sequence[int]) -> Tensor | None:
        """JumpReLU thresholds [k] of the given features; one stored for all features holds for each."""
        stored = self.layout.threshold
        if stored is None:
            return None
        if stored.shape == (self.layout.width,):
            return self.rows(stored, indices)
        return self.whole(stored).reshape(1).expand(len(indices))

    def blocks(self) -> Iterator[slice]:
        """Runs of features that cover the layer, each at most BLOCK_BYTES of encoder rows."""
        size = max(1, BLOCK_BYTES // (4 * self.layout.d_model))
        for start in range(0, self.layout.width, size):
            yield slice(start, min(start + size, self.layout.width))

    def _float(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.device, torch.float32)
