"""What `steer gate` measured, and where it is kept: by the hash of the model and that of the layer; no torch.

    <cache>/gate/<model>/<layer>.json          what was found
    <cache>/gate/<model>/<layer>.safetensors   statistics of the layer's features

with the first 32 hex digits of each hash. See `steer.files.cache_folder` for <cache>.
"""

from __future__ import annotations

from pathlib import Path

from steer.files import cache_folder

DIGITS = 32


def record_of(model: str, layer: str) -> Path:
    """The file in which the gate's record of a layer lies, if there is one."""
    return _kept(model, layer, "json")


def statistics_of(model: str, layer: str) -> Path:
    """The file in which a layer's statistics lie, if there are any."""
    return _kept(model, layer, "safetensors")


def _kept(model: str, layer: str, suffix: str) -> Path:
    return cache_folder() / "gate" / model[:DIGITS] / f"{layer[:DIGITS]}.{suffix}"
