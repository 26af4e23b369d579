"""A pickle of weights, read without making anything that it names.

The unpickler here can build descriptions of tensors, dictionaries and plain values and nothing else. A class that it
does not know is refused; the classes of a training configuration become empty shells.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from steer.errors import TranscoderError
from steer.transcoder.stored import Stored

STORAGES = {
    "DoubleStorage": "F64", "FloatStorage": "F32", "HalfStorage": "F16", "BFloat16Storage": "BF16",
    "LongStorage": "I64", "IntStorage": "I32", "ShortStorage": "I16", "CharStorage": "I8", "ByteStorage": "U8",
    "BoolStorage": "BOOL",
}  # fmt: skip
CONFIGURATIONS = ("sae_training.",)  # modules of training code whose configuration objects lie beside the weights


@dataclass(frozen=True)
class Storage:
    """The bytes that one or several tensors share: where they begin, and how many there are."""

    dtype: str
    start: int
    size: int
    member: str | None = None


class Shell:
    """Stands where an object of unknown code would be; holds nothing that anybody reads."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


class Reader(pickle.Unpickler):
    """Reads one pickle from where `stream` stands.

    `storage` finds one by its key, type and count of numbers; `nested` finds the one whose bytes are inside the pickle.
    """

    def __init__(
        self,
        file: Path,
        stream: Any,
        storage: Callable[[str, str, int], Storage] | None = None,
        nested: Callable[[bytes], Storage] | None = None,
    ) -> None:
        super().__init__(stream)
        self.file, self.storage, self.nested = file, storage, nested

    def result(self) -> Any:
        """What was pickled, with a `Stored` in the place of every tensor. TranscoderError for any other pickle."""
        try:
            return self.load()
        except TranscoderError:
            raise
        except Exception as error:  # what a made-up pickle breaks is up to it, and nothing but descriptions was made
            raise TranscoderError(f"{self.file}: its pickle is not one of weights: {error}") from error

    def find_class(self, module: str, name: str) -> Any:
        match module, name:
            case "collections", "OrderedDict":
                return OrderedDict
            case "torch._utils", "_rebuild_tensor_v2":
                return self._tensor
            case "torch._utils", "_rebuild_parameter":
                return _data_of
            case "torch.storage", "_load_from_bytes" if self.nested:
                return self.nested
            case "torch", "device":
                return Shell
            case (("torch" | "torch.storage"), _) if name in STORAGES:
                return STORAGES[name]
            case "torch", _ if name in ("float32", "float16", "bfloat16", "float64"):
                return name
        if f"{module}.".startswith(CONFIGURATIONS):
            return Shell
        raise TranscoderError(
            f"{self.file}: its pickle asks for {module}.{name}, which no weights need; opening it can run code, so it"
            " is refused"
        )

    def persistent_load(self, pid: Any) -> Storage:
        kind, dtype, key, _, count, *view = pid
        if kind != "storage" or dtype not in STORAGES.values() or any(view) or not self.storage:
            raise TranscoderError(f"{self.file}: its pickle speaks of a storage {key!r} that is not there")
        return self.storage(str(key), dtype, int(count))

    def _tensor(
        self, storage: Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: Any
    ) -> Stored:
        start, member = storage.start, storage.member
        found = Stored(self.file, "", storage.dtype, shape, strides, start, start, member)
        reach = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True)) + 1
        if min((offset, *shape, *strides)) < 0 or reach * found.itemsize > storage.size:
            raise TranscoderError(f"{self.file}: its pickle speaks of a tensor that its bytes do not hold")
        return replace(found, start=start + offset * found.itemsize, stop=start + reach * found.itemsize)


def _data_of(data: Stored, *_: Any) -> Stored:
    return data
