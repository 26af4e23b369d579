"""The calls that write, under a test's control."""

from __future__ import annotations

import errno
import os
import pathlib
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

WRITING = ("open", "write", "fsync", "replace", "rename", "mkdir", "symlink", "truncate", "ftruncate", "unlink")
TIDYING = ("unlink", "ftruncate")  # what follows a refusal: its own refusal changes nothing
OF_PATHS = tuple(
    filter(None, [getattr(pathlib, "_NormalAccessor", None)])
)  # 3.10's paths have their own names for them
ERRORS = (errno.ENOSPC, errno.EROFS, errno.EIO, errno.EDQUOT)


class Disk:
    """The calls that write under a folder, counted: those from number `refused` on fail, `deadly` kills the process.

    A deadly write writes half of its bytes first.
    """

    def __init__(self, folder: Path, refused: int | None = None, deadly: int | None = None) -> None:
        self.folder, self.refused, self.deadly = str(folder), refused, deadly
        self.calls: list[str] = []
        self.files: dict[int, str] = {}
        self.real = {name: getattr(os, name) for name in WRITING}

    def call(self, name: str, *arguments: Any, **more: Any) -> Any:
        where = self.files.get(arguments[0], "") if isinstance(arguments[0], int) else str(arguments[0])
        reading = name == "open" and not arguments[1] & (os.O_WRONLY | os.O_RDWR)
        if where.startswith(self.folder) and not reading and not where.endswith(".lock"):
            self._count(name, arguments)
        done = self.real[name](*arguments, **more)
        if name == "open":
            self.files[done] = where
        return done

    def _count(self, name: str, arguments: tuple[Any, ...]) -> None:
        if len(self.calls) == self.deadly:
            if name == "write":
                self.real["write"](arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        self.calls.append(name)
        if self.refused is not None and len(self.calls) > self.refused and name not in TIDYING:
            raise OSError(ERRORS[self.refused % len(ERRORS)], "refused")


@contextmanager
def on(disk: Disk) -> Iterator[None]:
    """Inside, the process writes through the disk."""
    with pytest.MonkeyPatch.context() as patch:
        for name in WRITING:
            through = staticmethod(lambda *a, name=name, **k: disk.call(name, *a, **k))
            for owner in (os, *OF_PATHS):
                if getattr(owner, name, None) is disk.real[name]:
                    patch.setattr(owner, name, through)
        yield
