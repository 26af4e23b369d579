"""Devices that are not there: tensors of the CPU that say they are elsewhere and refuse to meet those of another place.

Enough of CUDA's and Apple's rules to run a whole model spread over several of them: an operation on tensors of two
devices fails (a single number from the CPU may join, and index tensors from the CPU), what is computed stays where its
inputs are, `.to()` moves, and `mps` has no float64. The arithmetic is the CPU's, so results are equal to the last bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from accelerate.hooks import AlignDevicesHook, add_hook_to_module
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

CPU = torch.device("cpu")
INDEXED = ("index", "index_put", "index_put_", "_index_put_impl_")  # what they are indexed with may be on the CPU


class Elsewhere(torch.Tensor):
    """A tensor that says it is on `place`."""

    inner: Tensor
    place: torch.device

    @staticmethod
    def __new__(cls, inner: Tensor, place: torch.device) -> Elsewhere:
        made: Elsewhere = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device="cpu",
        )
        made.inner, made.place = inner, place
        return made

    device = property(lambda self: self.place)  # type: ignore[assignment]

    def __repr__(self, **_: Any) -> str:
        return f"{self.inner!r} on {self.place}"

    def tolist(self) -> Any:
        return self.inner.tolist()

    def cpu(self, **_: Any) -> Tensor:
        return self.inner

    def to(self, *args: Any, **kwargs: Any) -> Tensor:
        """The CPU's tensors say the truth, so a move there is more than a change of dtype."""
        device, dtype, _, _ = torch._C._nn._parse_to(*args, **{k: v for k, v in kwargs.items() if k != "copy"})
        moved = self.inner if dtype is None else self.inner.to(dtype)
        return placed(moved, self.place if device is None else device)

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _computed(func, args, kwargs or {})


def placed(tensor: Tensor, device: torch.device | str) -> Tensor:
    """A tensor of the CPU, said to be on a device."""
    place = torch.device(device)
    if place.type == "mps" and tensor.dtype == torch.float64:
        raise TypeError("there is no float64 on mps")
    return tensor if place == CPU else Elsewhere(tensor, place)


def _place(tensor: Tensor) -> torch.device:
    return tensor.place if isinstance(tensor, Elsewhere) else CPU


def _computed(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    tensors = [leaf for leaf in tree_flatten((args, kwargs))[0] if isinstance(leaf, Tensor)]
    target = kwargs.get("device")
    place = _met(func, tensors) if target is None else torch.device(target)
    bare = tree_map(lambda leaf: leaf.inner if isinstance(leaf, Elsewhere) else leaf, (args, kwargs))
    result = func(*bare[0], **bare[1] | ({} if target is None else {"device": CPU}))
    if func._schema.is_mutable and isinstance(result, Tensor):
        return args[0]
    return tree_map(lambda leaf: placed(leaf, place) if isinstance(leaf, Tensor) else leaf, result)


def _met(func: Any, tensors: list[Tensor]) -> torch.device:
    """Where an operation happens; RuntimeError where its tensors cannot meet."""
    name = func.__name__.split(".")[0]
    if name in ("copy_", "_to_copy"):
        return _place(tensors[0])
    places = {_place(tensor) for tensor in tensors if tensor.dim() or isinstance(tensor, Elsewhere)}
    if name in INDEXED and places <= {CPU, _place(tensors[0])}:
        return _place(tensors[0])
    if len(places) > 1:
        raise RuntimeError(f"{name}: tensors on {' and '.join(sorted(map(str, places)))}")
    return next(iter(places), CPU)


class _Everywhere(TorchDispatchMode):
    """New tensors, too, are made where they are asked for."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _computed(func, args, kwargs or {})


@contextmanager
def pretended(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Inside, devices of any name can be used."""
    monkeypatch.setattr(torch.cuda, "_lazy_init", lambda: None)
    monkeypatch.setattr("steer.execution.steered.capturable", lambda *_: False)  # there are no graphs
    monkeypatch.setattr(torch, "inference_mode", torch.no_grad)  # tensors of its kind cannot be wrapped
    lifted = torch._C._only_lift_cpu_tensors()
    torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(..., device=...) makes a CPU tensor first
    try:
        with _Everywhere():
            yield
    finally:
        torch._C._set_only_lift_cpu_tensors(lifted)


class _Aligned(AlignDevicesHook):
    """accelerate's hook as a spread model has it, on weights that are in place already."""

    def init_hook(self, module: nn.Module) -> nn.Module:
        return module


def spread(hf: nn.Module, device_map: Mapping[str, str]) -> None:
    """Puts modules where the map says (the longest name counts), with the hooks of Hugging Face's dispatch."""
    for name, module in hf.named_modules():
        prefixes = [key for key in device_map if not key or name == key or name.startswith(f"{key}.")]
        if not prefixes:
            continue
        device = torch.device(device_map[max(prefixes, key=len)])
        for store in (module._parameters, module._buffers):
            store |= {key: placed(tensor.data, device) for key, tensor in store.items() if tensor is not None}  # type: ignore[assignment]
        if name in device_map or module.state_dict():
            add_hook_to_module(module, _Aligned(execution_device=device, io_same_device=name == ""))
