"""Everything that is written goes through here: files are whole or absent, and a refusal names the file."""

from __future__ import annotations

import contextlib
import io
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from steer.errors import ResultsError


def write_atomic(path: Path, data: bytes | str) -> None:
    """Put `data` at `path` in one step: temporary name in the same folder, flush, fsync, rename, fsync of the folder.

    A reader sees the old content or the new one, never a part. Raises `ResultsError` (exit code 3) with path and
    size; the old file is then untouched and the temporary one gone.
    """
    content = data.encode("utf-8", "backslashreplace") if isinstance(data, str) else data
    with replacing(path, f"{len(content)} bytes") as stream:
        stream.write(content)


@contextmanager
def replacing(path: Path, what: str = "it") -> Iterator[Stream]:
    """A stream that becomes the file `path` when the block ends well, and nothing when it does not."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        with Stream(temporary) as stream:
            yield stream
            stream.sync()
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise _refusal(path, what, error) from error
    finally:
        with contextlib.suppress(OSError):  # it has become the file, or lies on a disk that refuses everything
            temporary.unlink()


class Stream(io.RawIOBase):
    """A new file, written from its start to its end."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        self._size = 0
        self.abandoned = False  # what is still written is dropped: nobody will keep the file

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._size

    def write(self, data: Any) -> int:
        size = len(data) if self.abandoned else _write_all(self._file, data)
        self._size += size
        return size

    def sync(self) -> None:
        os.fsync(self._file)

    def close(self) -> None:
        """After this nothing is written, also where the number of the file has become another file's."""
        if not self.closed:
            super().close()
            file, self._file = self._file, -1
            os.close(file)


class Appending:
    """A file that grows by whole records: what could not be written whole is cut off again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with _told(path, "it"):
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def append(self, data: bytes) -> int:
        """Write one record and give back where it starts; ResultsError (exit code 3) if the disk refuses."""
        start = os.fstat(self._file).st_size
        with _told(self.path, f"{len(data)} bytes"):
            try:
                _write_all(self._file, data)
            except OSError:
                os.ftruncate(self._file, start)
                raise
        return start

    def sync(self) -> None:
        with _told(self.path, "it"):
            os.fsync(self._file)

    def close(self) -> None:
        os.close(self._file)


def _write_all(file: int, data: Any) -> int:
    """A full disk first takes a part, and says what is wrong when the rest is brought."""
    left = memoryview(data).cast("B")
    size = len(left)
    while left:
        left = left[os.write(file, left) :]
    return size


def cut_off(path: Path, size: int) -> None:
    """Leave the first `size` bytes of a file."""
    if path.stat().st_size > size:
        with _told(path, "it"):
            os.truncate(path, size)


def cache_folder() -> Path:
    """Where what took long to make is kept: $STEER_CACHE, or `steer` in $XDG_CACHE_HOME or ~/.cache."""
    stated = os.environ.get("STEER_CACHE")
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(stated).expanduser() if stated else Path(home) / "steer"


def make_folder(path: Path) -> None:
    """A folder and those above it; one that is there already will do."""
    with _told(path, "the folder"):
        path.mkdir(parents=True, exist_ok=True)


def move(old: Path, new: Path) -> None:
    """Give a file or folder another name in one step; an OSError is left to the caller, who may know better."""
    old.rename(new)


def point(link: Path, target: str) -> None:
    """Make `link` a link to `target` in one step, whatever it pointed to before."""
    temporary = link.with_name(f".{link.name}.{secrets.token_hex(4)}.tmp")
    with _told(link, "the link"):
        try:
            temporary.symlink_to(target, target_is_directory=True)
            temporary.replace(link)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink()


def sweep(folder: Path) -> None:
    """Remove temporary files that a killed process left; only for who holds the folder's lock."""
    with _told(folder, "it"):
        for path in folder.rglob(".*.tmp"):
            path.unlink()


@contextmanager
def _told(path: Path, what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _refusal(path, what, error) from error


def _refusal(path: Path, what: str, error: OSError) -> ResultsError:
    return ResultsError(f"{path}: could not save {what}: {error.strerror or error}", exit_code=3)


def _sync_folder(folder: Path) -> None:
    """Without this the rename itself may be lost in a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
