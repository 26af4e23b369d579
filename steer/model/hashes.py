"""Hashes of a model's files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from steer.digests import remembered


def file_hash(paths: Iterable[Path]) -> str:
    """sha256 over names and contents; hex."""
    files = [path.absolute() for path in paths]
    return remembered("names and contents", files, lambda: _file_hash(files))


def model_hash(folder: Path) -> str:
    """sha256 over a model's weights and its config.json (null where there is none): what it computes; hex."""
    config = folder / "config.json"
    stated = hashlib.sha256(config.read_bytes()).hexdigest() if config.is_file() else None
    parts = [file_hash(sorted(folder.glob("*.safetensors"))), stated]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _file_hash(paths: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.name.encode())
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
