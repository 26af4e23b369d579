"""Hashes of a model's files; each set of files is read once in a process, however often it is asked for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path


def file_hash(paths: Iterable[Path]) -> str:
    """sha256 over names and contents; hex."""
    return _file_hash(tuple((path, *_stamp(path)) for path in paths))


def model_hash(folder: Path) -> str:
    """sha256 over a model's weights and its config.json (null where there is none): what it computes; hex."""
    config = folder / "config.json"
    stated = hashlib.sha256(config.read_bytes()).hexdigest() if config.is_file() else None
    parts = [file_hash(sorted(folder.glob("*.safetensors"))), stated]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _stamp(path: Path) -> tuple[int, int]:
    """What changes when a file is written."""
    found = path.stat()
    return found.st_size, found.st_mtime_ns


@cache
def _file_hash(files: tuple[tuple[Path, int, int], ...]) -> str:
    digest = hashlib.sha256()
    for path, _, _ in files:
        digest.update(path.name.encode())
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
