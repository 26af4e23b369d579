"""A tensor in a file: where its bytes are and how they are laid out. No torch; nothing is read unasked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from steer.errors import TranscoderError

FLOATS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}  # numpy has no bfloat16: its bits
NUMBERS = {"I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "<i1", "U8": "<u1", "BOOL": "?", **FLOATS}
FEW = 2**24  # bytes; what `values` reads without torch is small


@dataclass(frozen=True)
class Stored:
    """A tensor in a file; its bytes are [start, stop), counted from the start of the file.

    Element [i, j] is `i * strides[0] + j * strides[1]` elements behind `start`: a matrix whose features are columns is
    read as its transpose, and rows are features everywhere. `dtype` is safetensors' name for it. Where `member` is
    set, the tensor is compressed, and its bytes are counted in that member of the zip file, or in what the gzip file
    holds.
    """

    file: Path
    key: str
    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    start: int
    stop: int
    member: str | None = None
    transposed: bool = False

    @classmethod
    def contiguous(cls, file: Path, key: str, dtype: str, shape: tuple[int, ...], start: int, stop: int) -> Stored:
        """A tensor whose last axis runs fastest."""
        return cls(file, key, dtype, shape, steps(shape), start, stop)

    @property
    def T(self) -> Stored:
        """The same numbers with the two axes of a matrix exchanged."""
        shape, strides = self.shape[::-1], self.strides[::-1]
        return replace(self, shape=shape, strides=strides, transposed=not self.transposed)

    @property
    def itemsize(self) -> int:
        return np.dtype(NUMBERS[self.dtype]).itemsize

    @property
    def shape_in_file(self) -> tuple[int, ...]:
        return self.shape[::-1] if self.transposed else self.shape

    def later(self, first: int) -> Stored:
        """The second axis from `first` on."""
        shape = (self.shape[0], self.shape[1] - first, *self.shape[2:])
        return replace(self, shape=shape, start=self.start + first * self.strides[1] * self.itemsize)

    def only(self, position: int) -> Stored:
        """One position of the second axis, which is gone then."""
        shape, strides = (self.shape[0], *self.shape[2:]), (self.strides[0], *self.strides[2:])
        start = self.start + position * self.strides[1] * self.itemsize
        return replace(self, shape=shape, strides=strides, start=start)

    def array(self, data: np.ndarray) -> np.ndarray:
        """The tensor as a view of its file's bytes (of its member's, if compressed); bfloat16 as its bits."""
        strides = tuple(step * self.itemsize for step in self.strides)
        return np.ndarray(self.shape, NUMBERS[self.dtype], data.data, self.start, strides)


def steps(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The strides of a contiguous tensor, in elements."""
    return tuple(int(np.prod(shape[axis + 1 :], dtype=np.int64)) for axis in range(len(shape)))


def mapped(file: Path) -> np.ndarray:
    """The bytes of a file, mapped into memory: only what is looked at is read, and it can be dropped again."""
    return np.memmap(file, np.uint8, "c")  # torch wants it writable; what is written stays in this process


def values(stored: Stored) -> np.ndarray:
    """The numbers of a small tensor, as float64. TranscoderError for another type or for a large one."""
    if stored.dtype not in NUMBERS or stored.stop - stored.start > FEW or stored.member is not None:
        raise TranscoderError(f"{stored.file}: {described(stored)} cannot be read as numbers")
    bits = stored.array(mapped(stored.file))
    if stored.dtype == "BF16":
        return (bits.astype("<u4") << 16).view("<f4").astype(np.float64)
    return bits.astype(np.float64)


def one(stored: Stored) -> float:
    """A tensor that holds one number."""
    if stored.dtype not in NUMBERS or stored.shape not in ((), (1,)):
        raise TranscoderError(f"{stored.file}: {described(stored)}, expected one number ({', '.join(NUMBERS)})")
    return float(values(stored).reshape(-1)[0])


def described(stored: Stored) -> str:
    return f"{stored.key} is {stored.dtype} {list(stored.shape_in_file)}"


def own_keys(stated: object, key: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """A tensor that a config says is there is required, one that it denies is unknown; optional where it is silent."""
    match stated:
        case None:
            return (), (key,)
        case False:
            return (), ()
        case _:
            return (key,), ()


def require_keys(
    file: Path, tensors: Mapping[str, Stored], required: tuple[str, ...], optional: tuple[str, ...]
) -> None:
    """TranscoderError where a tensor is missing, or is there and has no meaning in the layout."""
    if missing := [key for key in required if key not in tensors]:
        raise TranscoderError(f"{file}: no {', '.join(missing)}; found {', '.join(sorted(tensors)) or 'nothing'}")
    if unknown := sorted(set(tensors) - {*required, *optional}):
        raise TranscoderError(f"{file}: unknown {', '.join(unknown)} (known: {', '.join((*required, *optional))})")


def require_shape(stored: Stored | None, *possible: tuple[int, ...]) -> None:
    """TranscoderError unless the tensor holds floating-point numbers in one of the shapes; told as the file has it."""
    if stored is None:
        return
    if stored.dtype not in FLOATS:
        raise TranscoderError(f"{stored.file}: {stored.key} is {stored.dtype} (possible: {', '.join(FLOATS)})")
    if stored.shape not in possible:
        shapes = (shape[::-1] if stored.transposed else shape for shape in possible)
        expected = " or ".join(str(list(shape)) for shape in shapes)
        raise TranscoderError(f"{stored.file}: {stored.key} is {list(stored.shape_in_file)}, expected {expected}")
