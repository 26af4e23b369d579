"""Hashes of what decides what features do: of a file, and of one layer of a set; no torch.

A layer has the same hash in a set that is held in part and in the whole one, and whether its hook points are said by
the files or by the user: what is known of a layer is found again by it.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

from steer.transcoder.canonical import Layout
from steer.transcoder.stored import Stored


def file_digest(file: Path) -> str:
    """SHA-256 of a file (hex). The Hub's cache keeps large files under theirs, so those need not be read."""
    target = file.resolve()
    if target.parent.name == "blobs" and re.fullmatch("[0-9a-f]{64}", target.name):
        return target.name
    found = target.stat()
    return _digest(target, found.st_size, found.st_mtime_ns)


def layer_hash(layout: Layout, layer: int) -> str:
    """SHA-256 (hex) over a layer's files, where its tensors are in them, how they are used, and the hook points."""
    stored = layout.layers[layer]
    meaning = {field.name: _meaning(getattr(stored, field.name)) for field in fields(stored)}
    parts = [layout.kind, layout.reads, layout.writes, meaning]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _meaning(value: Any) -> Any:
    """Part of a layout as plain data, files by their content."""
    if isinstance(value, Stored):
        return {**asdict(value), "file": file_digest(value.file)}
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value


@cache
def _digest(file: Path, size: int, changed: int) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while chunk := stream.read(2**20):
            digest.update(chunk)
    return digest.hexdigest()
