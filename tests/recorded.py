"""A CUDA graph that is not there: the operations of a step, noted once and done again on the memory that they had.

Its rules are a graph's. What is recorded is not run. A replay runs no Python: every operation reads and writes the
tensors of the recording, with the numbers of that time for everything that is no tensor. What would make the host wait
for the device (`.item()`, `if tensor:`, shapes that depend on values) or bring something from it is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import product
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from tests.pretend import Elsewhere

WAITING = ("_local_scalar_dense", "item", "is_nonzero", "equal", "nonzero", "masked_select", "unique", "_unique2")


class Waits(RuntimeError):
    """What a graph cannot hold."""


def bare(tensor: Tensor) -> Tensor:
    """Without the pretence of `tests/pretend.py`."""
    return tensor.inner if isinstance(tensor, Elsewhere) else tensor


def tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_flatten(tree)[0] if isinstance(leaf, Tensor)]


def memory(tensor: Tensor) -> int:
    return bare(tensor).untyped_storage().data_ptr()


@dataclass
class _Operation:
    func: Any
    args: Any
    kwargs: Any
    made: list[Tensor]  # what it allocates; nothing where it writes in place or gives a view

    def again(self) -> None:
        result = self.func(*self.args, **self.kwargs)
        for place, value in zip(self.made, tensors(result) if self.made else [], strict=True):
            bare(place).copy_(bare(value))


class _Tape(TorchDispatchMode):
    """Notes operations; what they change that was there before is put back by `undone`."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[_Operation] = []
        self.own: set[int] = set()  # memory of the recording
        self.before: dict[int, tuple[Tensor, Tensor]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, given = kwargs or {}, tensors((args, kwargs))
        _require_no_waiting(func, args, kwargs.get("device"), given)
        if func._schema.is_mutable:
            self._save(args[0])
        result = func(*args, **kwargs)
        there = {memory(tensor) for tensor in given}
        made = [] if func._schema.is_mutable else [one for one in tensors(result) if memory(one) not in there]
        assert func._schema.is_mutable or not made or len(made) == len(tensors(result))
        self.own |= {memory(tensor) for tensor in made}
        self.operations.append(_Operation(func, args, kwargs, made))
        return result

    def _save(self, target: Any) -> None:
        for one in tensors(target):
            if memory(one) not in self.own:
                whole = torch.empty(0, dtype=torch.uint8).set_(bare(one).untyped_storage())
                self.before.setdefault(memory(one), (whole, whole.clone()))

    def undone(self) -> None:
        """As if nothing had run, with nothing to be read in the memory of the recording."""
        for whole, copy in self.before.values():
            whole.copy_(copy)
        for operation in self.operations:
            for one in operation.made:
                bare(one).fill_(torch.nan if one.is_floating_point() else 1)


def _require_no_waiting(func: Any, args: Any, target: Any, given: list[Tensor]) -> None:
    name = func._schema.name.split("::")[1]
    by_mask = any(one.dtype == torch.bool for one in tensors(args[1:2])) and name.startswith("index")
    places = {one.device.type for one in given if one.dim() or target is not None}
    if name in WAITING or by_mask or len(places | ({torch.device(target).type} if target and given else set())) > 1:
        raise Waits(f"{func}: a graph cannot hold that ({', '.join(sorted(places))})")


def _refused(tensor: Tensor) -> Any:
    raise Waits("a graph cannot hold what is done with a tensor's numbers in Python")


@dataclass
class Recorded:
    """In the place of `CudaGraphs`; counts what it is asked for."""

    recordings: int = 0
    rehearsals: int = 0
    replays: int = 0
    sizes: list[int] = field(default_factory=list)  # operations of each recording

    def rehearsed(self, step: Callable[[], Tensor]) -> Tensor:
        self.rehearsals += 1
        return step()

    def recorded(self, step: Callable[[], Tensor]) -> Callable[[], Tensor]:
        self.recordings += 1
        with recording() as tape:
            logits = step()
        tape.undone()
        self.sizes.append(len(tape.operations))

        def replayed() -> Tensor:
            self.replays += 1
            for operation in tape.operations:
                operation.again()
            return logits

        return replayed


@contextmanager
def recording() -> Iterator[_Tape]:
    with ExitStack() as stack:
        for kind, name in product((Tensor, Elsewhere), ("tolist", "cpu", "numpy")):
            stack.enter_context(mock.patch.object(kind, name, _refused))
        yield stack.enter_context(_Tape())
