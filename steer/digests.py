"""Hashes of large files, computed once for as long as the files stay what they are: no run waits for 800 MB again.

A hash is remembered in the cache folder under the files' paths, with what the file system says of each: device, inode,
size, and the times at which content and inode were last changed, in nanoseconds. Whatever writes to a file, replaces
it or sets its times changes one of these (the inode's time is set by the kernel alone), and then the file is read
again. Two changes can share a time if they follow each other within a tick of the clock; and where a program changes
a file through a mapping, a page that was not written out yet may change again without a new time (30 s on Linux). So
nothing is remembered of a file that was changed less than a minute ago. What remains unnoticed is a change behind the
file system's back: a disk written to directly, or a clock set back to the same nanosecond.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock, Thread

from steer.errors import ResultsError
from steer.files import cache_folder, make_folder, write_atomic

SETTLED_SECONDS = 60
Stamps = list[list[int]]
_known: dict[str, tuple[Stamps, str]] = {}  # in this process, also of files that were changed just now
_one_at_a_time = Lock()  # who asks for what another thread is hashing waits for it


def sha256_of(file: Path) -> str:
    """SHA-256 of a file (hex). The Hub's cache keeps large files under theirs, so those need not be read."""
    target = file.resolve()
    if target.parent.name == "blobs" and re.fullmatch("[0-9a-f]{64}", target.name):
        return target.name
    return remembered("sha256", [target], lambda: _sha256(target))


def remembered(what: str, files: Sequence[Path], computed: Callable[[], str]) -> str:
    """A hash over the content of files; `what` tells it from other hashes of the same files. OSError."""
    with _one_at_a_time:
        name = hashlib.sha256(json.dumps([what, *map(str, files)]).encode()).hexdigest()[:32]
        note = cache_folder() / "digests" / f"{name}.json"
        stamps = _stamps(files)
        stated, found = _known.get(name) or _noted(note)
        if stated == stamps:
            return found
        settled = _settled(stamps)
        found = computed()
        if _stamps(files) == stamps:
            _known[name] = stamps, found
            if settled:
                _note(note, stamps, found)
        return found


def begin(files: Iterable[Path]) -> None:
    """Hash files in the background, so that they are known by the time that somebody asks; errors are left to him."""

    def hash_all() -> None:
        with suppress(OSError):
            for file in files:
                sha256_of(file)

    Thread(target=hash_all, daemon=True).start()


def _stamps(files: Iterable[Path]) -> Stamps:
    found = (file.stat() for file in files)
    return [[one.st_dev, one.st_ino, one.st_size, one.st_mtime_ns, one.st_ctime_ns] for one in found]


def _settled(stamps: Stamps) -> bool:
    """Whether the last change is so long ago that the next one will have another time."""
    newest = max((max(one[-2:]) for one in stamps), default=0)
    return time.time_ns() - newest > SETTLED_SECONDS * 10**9


def _noted(note: Path) -> tuple[Stamps, str]:
    """What is remembered; nothing where there is no note, or one that is damaged."""
    try:
        stamps, found = json.loads(note.read_text("utf-8"))
    except (OSError, ValueError, TypeError):
        return [], ""
    return stamps, found


def _note(note: Path, stamps: Stamps, found: str) -> None:
    with suppress(ResultsError):  # a cache that cannot be written costs time, and no run
        make_folder(note.parent)
        write_atomic(note, json.dumps([stamps, found]))


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while chunk := stream.read(2**20):
            digest.update(chunk)
    return digest.hexdigest()
