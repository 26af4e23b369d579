"""The folder of a run: which one is resumed, who may write to it, and `latest`."""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import chain, count
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from steer.errors import NothingFailed, ResultsError, UsageError
from steer.execution.manifest import read_manifest, write_manifest
from steer.files import make_folder, move, point, sweep

UNFINISHED = ("started", "interrupted")
NEWBORN = re.compile(r"\.[0-9a-f]{16}")


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
        """The manifest as it stands."""
        return read_manifest(self.path)

    def write_manifest(self, manifest: Mapping[str, Any]) -> None:
        """Replace the manifest."""
        write_manifest(self.path, manifest)

    def point_latest_here(self) -> None:
        """Move `latest` to this run, in one step."""
        point(self.path.parent / "latest", self.path.name)


@contextmanager
def open_folder(
    results: Path, name: str, identity: str, experiment_hash: str, fresh: bool, retry: bool = False
) -> Iterator[RunFolder]:
    """The run of this identity that goes on, or a new one; locked.

    It goes on with the newest run if that is unfinished and nobody writes to it; with `retry` also if it is finished,
    and never with a new one (UsageError). ResultsError where the folder cannot be made or locked.
    """
    home = results / name
    make_folder(home)
    with _held(_lock(results, wait=True)):  # two runs that start at once do not choose the same folder
        path = None if fresh else resumable(home, identity, experiment_hash, retry)
        lock = None if path is None else _lock(path)
        if retry and path is None:
            raise NothingFailed(f"--retry: no run of this file in {home}")
        if retry and lock is None:
            raise UsageError(f"--retry: {path} is being written")
        resumed = lock is not None
        if path is None or lock is None:
            path = _create(home, identity, experiment_hash, fresh)
            lock = _lock(path)
    with _held(lock):
        sweep(path)
        yield RunFolder(path, resumed)


def resumable(home: Path, identity: str, experiment_hash: str, retry: bool = False) -> Path | None:
    """The newest run of this identity, if it is unfinished (or is to be retried)."""
    runs = sorted(path for path in home.glob(f"*-{experiment_hash[:8]}*") if path.is_dir() and not path.is_symlink())
    same = [(path, manifest) for path in runs if (manifest := _stated(path)).get("identity") == identity]
    if not same or not (retry or same[-1][1].get("status") in UNFINISHED):
        return None
    return same[-1][0]


def _stated(path: Path) -> dict[str, Any]:
    """What a run says of itself; nothing if its manifest is damaged: what it finished is still in its journal."""
    try:
        return read_manifest(path)
    except ResultsError:
        return {}


@contextmanager
def _held(lock: FileLock | None) -> Iterator[None]:
    assert lock is not None, "nobody else can hold what is waited for, or new"
    try:
        yield
    finally:
        lock.release(force=True)


def _lock(path: Path, wait: bool = False) -> FileLock | None:
    """The kernel's lock on a folder, which ends with the process; None if another has it."""
    lock = FileLock(path / ".lock")
    try:
        lock.acquire(timeout=-1 if wait else 0)
    except Timeout:
        return None
    except (OSError, NotImplementedError) as error:  # the latter: a file system without locks
        raise ResultsError(f"{path}: cannot be locked: {error}", exit_code=3) from error
    return lock


def _create(home: Path, identity: str, experiment_hash: str, fresh: bool) -> Path:
    """A folder that has a manifest from the moment it exists: one that is killed at once can be resumed."""
    for left in home.iterdir():  # by a process that was killed here; whoever creates a folder holds the lock
        if NEWBORN.fullmatch(left.name) and left.is_dir():
            shutil.rmtree(left)
    newborn = home / f".{secrets.token_hex(8)}"
    make_folder(newborn)
    write_manifest(newborn, {"status": "started", "identity": identity, "created": now(), "fresh": fresh})
    numbers = chain([""], (f"-{number:03d}" for number in count(2)))  # these sort after the others of their second
    while True:
        path = home / f"{second()}-{experiment_hash[:8]}{next(numbers)}"
        try:
            move(newborn, path)  # in one step, and refused where a run is: no folder is ever two runs'
            return path
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise ResultsError(f"{path}: cannot be created: {error.strerror}", exit_code=3) from error


def second() -> str:
    """The UTC second, as run ids begin."""
    return f"{datetime.now(timezone.utc):%Y%m%dT%H%M%SZ}"


def now() -> str:
    """UTC, to the millisecond: runs that begin in the same second have an order, too."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def peak_memory() -> int:
    """Bytes of this process's largest resident set so far."""
    import resource  # noqa: PLC0415

    scale = 1 if os.uname().sysname == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale
