"""A Hugging Face cache as huggingface_hub leaves it on disk: blobs, refs, and snapshots of links."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import pytest
from huggingface_hub import constants


def use(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Path:
    """Makes a folder the cache of this test, and another the place of what is made of it."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder / "hub"))
    monkeypatch.setenv("STEER_CACHE", str(folder / "cache"))
    return folder / "hub"


def repository(cache: Path, id: str, files: Mapping[str, bytes], commit: str = "c" * 40, ref: str = "main") -> Path:
    """A cached repository; the folder of its snapshot."""
    home = cache / f"models--{id.replace('/', '--')}"
    snapshot = home / "snapshots" / commit
    for name, content in files.items():
        blob = home / "blobs" / hashlib.sha256(content).hexdigest()
        blob.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(content)
        (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
        (snapshot / name).symlink_to(blob)
    (home / "refs").mkdir(exist_ok=True)
    (home / "refs" / ref).write_text(commit)
    return snapshot


def held(folder: Path) -> dict[str, bytes]:
    """What lies in a folder, by path within it."""
    return {
        file.relative_to(folder).as_posix(): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()
    }
