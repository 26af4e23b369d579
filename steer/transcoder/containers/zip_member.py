"""Where the bytes of a zip file's member are: in the file itself, if it is not compressed."""

from __future__ import annotations

import zlib
from pathlib import Path
from zipfile import ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from steer.errors import TranscoderError

DAMAGED = (BadZipFile, zlib.error, ValueError, EOFError, NotImplementedError, OSError)
"""What zipfile raises on a damaged file, sooner or later: names that are no text, sizes, check sums, odd versions."""
LOCAL_HEADER = 30  # bytes before a member's name: the zip format's "local file header"


def opened(file: Path, what: str) -> ZipFile:
    """A zip file. TranscoderError for a file that is missing or something else."""
    try:
        return ZipFile(file)
    except OSError as error:
        raise TranscoderError(f"{file}: cannot be read ({error.strerror})") from error
    except DAMAGED as error:
        raise TranscoderError(f"{file}: not {what}{_instead(file)}") from error


def data_start(file: Path, member: ZipInfo) -> int | None:
    """Where a member's data begins in the file, in bytes; None where it is compressed."""
    if member.compress_type != ZIP_STORED:
        return None
    with file.open("rb") as stream:
        stream.seek(member.header_offset)
        lead = stream.read(LOCAL_HEADER)
    lengths = int.from_bytes(lead[26:28], "little") + int.from_bytes(lead[28:30], "little")
    return member.header_offset + LOCAL_HEADER + lengths


def _instead(file: Path) -> str:
    with file.open("rb") as stream:
        lead = stream.read(8)
    if lead.startswith(b"version "):
        return ", but a Git LFS pointer: run `git lfs pull`"
    if lead.startswith(b"\x80"):
        return ", but a pickle: opening one can run code, so it is refused"
    return ", or one that is cut short"
