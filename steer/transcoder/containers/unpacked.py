"""What lies compressed in a file, unpacked into a file without a name: it is gone when nobody holds it any more."""

from __future__ import annotations

import gzip
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from zipfile import BadZipFile, ZipFile

from steer.errors import TranscoderError

GZIP = b"\x1f\x8b"  # how such a file begins


@contextmanager
def unpacked(file: Path, member: str) -> Iterator[IO[bytes]]:
    """A member of a zip file, or what a gzip file holds. TranscoderError for damaged ones."""
    with tempfile.TemporaryFile() as plain:
        try:
            with _packed(file, member) as packed:
                shutil.copyfileobj(packed, plain, 2**20)
        except (BadZipFile, gzip.BadGzipFile, zlib.error, EOFError) as error:
            raise TranscoderError(f"{file}: {member} is damaged: {error}") from error
        plain.flush()
        yield plain


@contextmanager
def _packed(file: Path, member: str) -> Iterator[Any]:
    with file.open("rb") as stream:
        is_gzip = stream.read(len(GZIP)) == GZIP
    if is_gzip:
        with gzip.open(file) as packed:
            yield packed
        return
    with ZipFile(file) as archive, archive.open(member) as inside:
        yield inside
