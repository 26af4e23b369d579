"""Pickles with the numbers behind or inside them: what torch wrote before 1.6, and what pickle makes of tensors.

torch's stream: pickles of a magic number, a version, facts of the system, the object, and the names of its storages;
then for every storage a count of numbers (8 bytes) and the numbers. A tensor that is pickled like any object has such a
stream, of its storage alone, among its bytes.
"""

from __future__ import annotations

import mmap
import pickle
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from steer.errors import TranscoderError
from steer.transcoder.containers.unpacked import unpacked
from steer.transcoder.containers.weights_pickle import Reader, Storage
from steer.transcoder.stored import NUMBERS

MAGIC, VERSION = pickle.dumps(0x1950A86A20F9469CFC6C, 2), 1001
COUNT = 8  # bytes


def plain(file: Path) -> Any:
    """What an old torch saved, or pickle. TranscoderError for anything else."""
    with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return _content(file, content, None)


def in_gzip(file: Path) -> Any:
    """The same in a gzip file, which is unpacked for it. TranscoderError for anything else."""
    with unpacked(file, file.stem) as inside:
        if not inside.tell():
            raise TranscoderError(f"{file}: nothing in it")
        with mmap.mmap(inside.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return _content(file, content, file.stem)


def _content(file: Path, content: mmap.mmap, member: str | None) -> Any:
    if content[: len(MAGIC)] == MAGIC:
        return _stream(file, content, member)
    return Reader(file, content, nested=partial(_inside, file, content, member)).result()


def _inside(file: Path, content: mmap.mmap, member: str | None, data: bytes) -> Storage:
    """The storage whose stream was just read as `data`; the pickle around it goes on where it was."""
    place = content.tell()
    start = content.rfind(data, 0, place) if data.startswith(MAGIC) else -1
    content.seek(max(start, 0))
    found = _stream(file, content, member) if start >= 0 else None
    content.seek(place)
    if not isinstance(found, Storage):
        raise TranscoderError(f"{file}: its pickle has bytes that are no tensor's")
    return found


def _stream(file: Path, content: mmap.mmap, member: str | None) -> Any:
    """The object of torch's stream that begins where `content` stands: read twice, as its storages come behind it."""
    _, version, system = (Reader(file, content).result() for _ in range(3))
    if version != VERSION or not isinstance(system, dict) or not system.get("little_endian"):
        raise TranscoderError(f"{file}: a torch file of version {version}, written by {system} (known: {VERSION})")
    begin, named = content.tell(), dict[str, Storage]()

    def named_only(key: str, dtype: str, count: int) -> Storage:
        return named.setdefault(key, Storage(dtype, 0, count * np.dtype(NUMBERS[dtype]).itemsize, member))

    Reader(file, content, named_only).result()
    placed = _placed(file, content, named)
    content.seek(begin)
    return Reader(file, content, lambda key, dtype, count: placed[key]).result()


def _placed(file: Path, content: mmap.mmap, named: dict[str, Storage]) -> dict[str, Storage]:
    """Each storage with where it begins: they lie one behind another in the order of their names."""
    keys = Reader(file, content).result()
    if not isinstance(keys, list) or sorted(map(str, keys)) != sorted(named):
        raise TranscoderError(f"{file}: damaged: it does not hold the storages that its pickle speaks of")
    placed, place = {}, content.tell()
    for key in map(str, keys):
        size = named[key].size
        count = int.from_bytes(content[place : place + COUNT], "little")
        if size != count * np.dtype(NUMBERS[named[key].dtype]).itemsize or place + COUNT + size > len(content):
            raise TranscoderError(f"{file}: damaged or cut short: a storage of {size} bytes is not there whole")
        placed[key] = replace(named[key], start=place + COUNT)
        place += COUNT + size
    return placed
