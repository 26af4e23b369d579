"""The folder of a run: which one is resumed, who may write to it, its manifest, and `latest`."""

from __future__ import annotations

import errno
import json
import os
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from steer.errors import ResultsError
from steer.files import write_atomic

UNFINISHED = ("started", "interrupted")


@dataclass(frozen=True)
class RunFolder:
    """`results/<name>/<run id>/`, held by a kernel lock while it is written."""

    path: Path
    resumed: bool

    @property
    def run_id(self) -> str:
        return self.path.name

    @property
    def journal(self) -> Path:
        return self.path / "journal.jsonl"

    def manifest(self) -> dict[str, Any]:
        """The manifest as it stands; empty in a new folder."""
        return _manifest(self.path)

    def write_manifest(self, manifest: Mapping[str, Any]) -> None:
        """Replace the manifest."""
        write_atomic(self.path / "manifest.json", json.dumps(manifest, indent=1, sort_keys=True, ensure_ascii=False))

    def point_latest_here(self) -> None:
        """Move `latest` to this run, in one step."""
        link = self.path.parent / f".latest.{secrets.token_hex(4)}"
        link.symlink_to(self.path.name, target_is_directory=True)
        link.replace(self.path.parent / "latest")


@contextmanager
def open_folder(results: Path, name: str, identity: str, experiment_hash: str, fresh: bool) -> Iterator[RunFolder]:
    """The newest run of this identity if it is unfinished and nobody writes to it, else a new one; locked."""
    home = results / name
    try:
        home.mkdir(parents=True, exist_ok=True)
        candidate = None if fresh else _newest(home, identity, experiment_hash)
        if candidate is not None and _manifest(candidate).get("status") in UNFINISHED:
            lock = _locked(candidate)
            if lock is not None:
                with lock:
                    yield RunFolder(candidate, resumed=True)
                return
        path = _create(home, identity, experiment_hash)
    except OSError as error:
        raise ResultsError(f"{home}: cannot create a run folder: {error}", exit_code=3) from error
    lock = _locked(path)
    assert lock is not None, "the folder is new"
    with lock:
        yield RunFolder(path, resumed=False)


def _newest(home: Path, identity: str, experiment_hash: str) -> Path | None:
    runs = sorted(path for path in home.glob(f"*-{experiment_hash[:8]}") if path.is_dir() and not path.is_symlink())
    same = [path for path in runs if _manifest(path).get("identity") == identity]
    return same[-1] if same else None


def _locked(path: Path) -> FileLock | None:
    lock = FileLock(path / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return None
    return lock


def _create(home: Path, identity: str, experiment_hash: str) -> Path:
    """A folder that has a manifest from the moment it exists: one that is killed at once can be resumed."""
    fresh = home / f".{secrets.token_hex(8)}"
    fresh.mkdir()
    write_atomic(fresh / "manifest.json", json.dumps({"status": "started", "identity": identity, "created": now()}))
    while True:
        path = home / f"{datetime.now(timezone.utc):%Y%m%dT%H%M%SZ}-{experiment_hash[:8]}"
        if not path.exists():
            try:
                return fresh.rename(path)
            except OSError as error:  # another run of the same second was faster
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
        time.sleep(0.2)


def _manifest(path: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads((path / "manifest.json").read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ResultsError(f"{path / 'manifest.json'}: not a manifest: {error}", exit_code=3) from error
    return manifest


def now() -> str:
    """UTC, to the second."""
    return f"{datetime.now(timezone.utc):%Y-%m-%dT%H:%M:%SZ}"


def peak_memory() -> int:
    """Bytes of this process's largest resident set so far."""
    import resource  # noqa: PLC0415

    scale = 1 if os.uname().sysname == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale
