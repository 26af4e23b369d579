"""Rows on demand: of a stored tensor only the rows that are asked for are read, and given back as float32."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from steer.errors import TranscoderError
from steer.transcoder.canonical import LayerLayout
from steer.transcoder.containers.unpacked import unpacked
from steer.transcoder.stored import Stored, mapped

BLOCK_BYTES = 32 * 2**20  # float32 encoder or decoder rows held at a time where all of them are needed


class LayerFile:
    """One layer's weights, mapped into memory and read by rows, also where rows are columns of what is stored.

    Everything comes back as float32 on `device`, whatever it is stored as; rows are features. What is not looked at
    is never read, and what is read stays the file's: memory that can be dropped again.
    """

    def __init__(self, layout: LayerLayout, device: torch.device) -> None:
        self.layout = layout
        self.device = device
        self._bytes: dict[tuple[Path, str | None], np.ndarray] = {}

    def rows(self, stored: Stored, indices: Sequence[int]) -> Tensor:
        """The given rows of a tensor, in the given order: [k ...]."""
        return self._float(stored, self._array(stored)[np.asarray(indices, dtype=np.intp)])

    def block(self, stored: Stored, start: int, stop: int) -> Tensor:
        """The rows [start, stop) of a tensor; where they can be used as they are stored, the file's own memory."""
        array = self._array(stored)[start:stop]
        if stored.dtype == "F32" and self.device.type == "cpu" and array.flags.aligned:
            return torch.from_numpy(array)
        return self._float(stored, array)

    def whole(self, stored: Stored) -> Tensor:
        """All of a tensor: for vectors, and for W_skip."""
        return self._float(stored, self._array(stored))

    def maybe(self, stored: Stored | None, indices: Sequence[int] | None = None) -> Tensor | None:
        """The given rows (by default all) of a tensor that a layout may lack."""
        if stored is None:
            return None
        return self.whole(stored) if indices is None else self.rows(stored, indices)

    def thresholds(self, indices: Sequence[int]) -> Tensor | None:
        """JumpReLU thresholds [k] of the given features; one stored for all features holds for each."""
        stored = self.layout.threshold
        if stored is None:
            return None
        if isinstance(stored, float):
            return torch.full((len(indices),), stored, device=self.device)
        if stored.shape == (self.layout.width,):
            return self.rows(stored, indices)
        return self.whole(stored).reshape(1).expand(len(indices))

    def blocks(self) -> Iterator[slice]:
        """Runs of features that cover the layer, each at most BLOCK_BYTES of encoder or decoder rows."""
        row = max(self.layout.d_in, int(np.prod(self.layout.W_dec.shape[1:])))
        size = max(1, BLOCK_BYTES // (4 * row))
        for start in range(0, self.layout.width, size):
            yield slice(start, min(start + size, self.layout.width))

    def _array(self, stored: Stored) -> np.ndarray:
        key = stored.file, stored.member
        try:
            if key not in self._bytes:
                self._bytes[key] = mapped(stored.file) if stored.member is None else _unpacked(*key)
            return stored.array(self._bytes[key])
        except (OSError, TypeError, ValueError) as error:
            raise TranscoderError(f"{stored.file}: {stored.key} cannot be read: {error}") from error

    def _float(self, stored: Stored, array: np.ndarray) -> Tensor:
        """A copy of its own, in the order it is stored in, so that a file is read along its bytes."""
        numbers = torch.from_numpy(np.array(array, order="K"))
        return (numbers.view(torch.bfloat16) if stored.dtype == "BF16" else numbers).to(self.device, torch.float32)


def _unpacked(file: Path, member: str | None) -> np.ndarray:
    """The bytes of what is compressed, unpacked once and mapped."""
    with unpacked(file, str(member)) as plain:
        return np.memmap(plain, np.uint8, "c")  # the mapping keeps the file's space after it is closed
