"""Files that are either whole or absent, whatever happens while they are written."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from steer.errors import ResultsError


def write_atomic(path: Path, data: bytes | str) -> None:
    """Put `data` at `path` in one step: temporary name in the same folder, flush, fsync, rename, fsync of the folder.

    A reader sees the old content or the new one, never a part. Raises `ResultsError` (exit code 3) with path and
    size; the old file is then untouched and the temporary one gone.
    """
    content = data.encode("utf-8", "backslashreplace") if isinstance(data, str) else data
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        _write_through(temporary, content)
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise ResultsError(f"{path}: could not save {len(content)} bytes: {error.strerror}", exit_code=3) from error


def _write_through(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Without this the rename itself may be lost in a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
