"""Where a model's parts are: on one device, or spread over several."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import chain

import torch
from torch import Tensor, nn

from steer.errors import ModelError

DeviceMap = Mapping[str, str | int]
"""Hugging Face's `device_map`: module names (the longest prefix counts) to devices."""


def require_device(device: str) -> None:
    """ModelError, with what there is, for a device that this machine does not have."""
    present = present_devices()
    if device not in present:
        raise ModelError(f"there is no device {device!r} here; there are: {', '.join(sorted(present))}")


def present_devices() -> frozenset[str]:
    """Names of the devices that a model can be put on as a whole."""
    found = {"cpu"}
    if torch.backends.mps.is_available():
        found.add("mps")
    for kind, there in (("cuda", torch.cuda), ("xpu", getattr(torch, "xpu", None))):
        if there is not None and there.is_available():
            found |= {kind, *(f"{kind}:{number}" for number in range(there.device_count()))}
    return frozenset(found)


def device_of(module: nn.Module) -> torch.device:
    """Where a module computes: where its first parameter or buffer is; the CPU for one that has neither."""
    return next((tensor.device for tensor in chain(module.parameters(), module.buffers())), torch.device("cpu"))


def require_all_weights(model: nn.Module, name: str) -> None:
    """ModelError where weights were left behind for want of memory.

    Hugging Face keeps the place of such weights with the device `meta` and fetches them at every step; hooks that
    look at weights would find nothing there.
    """
    left = [weight for weight, tensor in model.named_parameters() if tensor.device.type == "meta"]
    if left:
        raise ModelError(
            f"{name} does not fit on the devices that are here: {len(left)} of its weights ({left[0]} ...) were left in"
            " CPU memory or on disk; a smaller dtype, more devices, or device: cpu would hold them"
        )


@contextmanager
def never_waiting(device: torch.device) -> Iterator[None]:
    """Inside, RuntimeError where this process would wait for a CUDA device; of others nobody can tell."""
    if device.type != "cuda":
        yield
        return
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "does not yet detect all"
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


def readable(tensor: Tensor) -> Tensor:
    """The numbers where they can be read in float64: on the CPU where their device has none (Apple's)."""
    return tensor.cpu() if tensor.device.type == "mps" else tensor
