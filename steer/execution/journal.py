"""The journal: one line per finished trial, appended as it finishes; what a killed run resumes from.

A line is a JSON object whose first key is the CRC-32 of the object without it, so a torn or damaged line is noticed and
its trial runs again.
"""

from __future__ import annotations

import json
import os
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from steer.errors import ResultsError

FSYNC_SECONDS = 5.0
Record = dict[str, Any]


class Journal:
    """An append-only journal; opening it cuts off a torn last line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.offsets: dict[str, int] = {}
        self.damaged = 0
        self._index()
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._synced = time.monotonic()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        os.fsync(self._file)
        os.close(self._file)

    def append(self, record: Record) -> None:
        """Write one finished trial (its `trial_id` is the key); ResultsError if the disk refuses."""
        line = encoded(record)
        start = os.fstat(self._file).st_size
        try:
            written = os.write(self._file, line)
            if written < len(line):
                os.truncate(self.path, start)
                raise OSError(f"only {written} of {len(line)} bytes were written")
            if time.monotonic() - self._synced > FSYNC_SECONDS:
                os.fsync(self._file)
                self._synced = time.monotonic()
        except OSError as error:
            raise ResultsError(f"{self.path}: cannot write: {error}", exit_code=3) from error
        self.offsets[record["trial_id"]] = start

    def read(self, trial_id: str) -> Record:
        """A finished trial's record."""
        with self.path.open("rb") as file:
            file.seek(self.offsets[trial_id])
            return decoded(file.readline())

    def read_all(self, trial_ids: Iterator[str]) -> Iterator[Record]:
        """Records in the given order, one in memory at a time."""
        with self.path.open("rb") as file:
            for trial_id in trial_ids:
                file.seek(self.offsets[trial_id])
                yield decoded(file.readline())

    def _index(self) -> None:
        if not self.path.exists():
            return
        whole = 0
        with self.path.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break
                try:
                    self.offsets[decoded(line)["trial_id"]] = whole
                except ResultsError:
                    self.damaged += 1
                whole += len(line)
        os.truncate(self.path, whole)


def encoded(record: Record) -> bytes:
    """A record as a line."""
    body = json.dumps(record, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    return b'{"crc":"%08x",' % zlib.crc32(body) + body[1:] + b"\n"


def decoded(line: bytes) -> Record:
    """A line as a record; ResultsError if it is not what was written."""
    head, body = line[:18], b"{" + line[18:].rstrip(b"\n")
    if head != b'{"crc":"%08x",' % zlib.crc32(body):
        raise ResultsError("a journal line is damaged")
    record: Record = json.loads(body)
    return record
