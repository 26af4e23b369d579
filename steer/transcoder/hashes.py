"""The hash of one layer of a set: of what decides what its features do; no torch.

A layer has the same hash in a set that is held in part and in the whole one, and whether its hook points are said by
the files or by the user: what is known of a layer is found again by it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, fields, is_dataclass
from typing import Any

from steer.digests import sha256_of
from steer.transcoder.canonical import Layout
from steer.transcoder.stored import Stored


def layer_hash(layout: Layout, layer: int) -> str:
    """SHA-256 (hex) over a layer's files, where its tensors are in them, how they are used, and the hook points."""
    stored = layout.layers[layer]
    meaning = {field.name: _meaning(getattr(stored, field.name)) for field in fields(stored)}
    parts = [layout.kind, layout.reads, layout.writes, meaning]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _meaning(value: Any) -> Any:
    """Part of a layout as plain data, files by their content."""
    if isinstance(value, Stored):
        return {**asdict(value), "file": sha256_of(value.file)}
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
