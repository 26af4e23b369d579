"""What `torch.save` wrote, without opening it: a zip with a pickle that names storages, and the storages' bytes.

Before torch 1.6 it wrote a stream of pickles and numbers instead (`torch_stream`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from zipfile import ZipFile, ZipInfo

from steer.errors import TranscoderError
from steer.transcoder.containers import torch_stream
from steer.transcoder.containers.unpacked import GZIP
from steer.transcoder.containers.weights_pickle import Reader, Storage
from steer.transcoder.containers.zip_member import DAMAGED, data_start, opened
from steer.transcoder.stored import Stored

PICKLE = b"\x80"  # how a pickle begins
PICKLE_LIMIT = 2**26  # bytes; a pickle of names and shapes is some kilobytes


def saved(file: Path) -> Any:
    """What was saved, with a `Stored` in the place of every tensor; also by an old torch, or by pickle, also in gzip.

    TranscoderError for another file, and for a pickle that asks for code that no weights need.
    """
    lead = _lead(file)
    if lead.startswith(GZIP):
        return torch_stream.in_gzip(file)
    if lead.startswith(PICKLE):
        return torch_stream.plain(file)
    with opened(file, "what torch.save writes") as archive:
        members = {member.filename: member for member in archive.infolist()}
        roots = [name.removesuffix("data.pkl") for name in members if name.endswith("/data.pkl") or name == "data.pkl"]
        if len(roots) != 1 or members[f"{roots[0]}data.pkl"].file_size > PICKLE_LIMIT:
            raise TranscoderError(f"{file}: not what torch.save writes: {len(roots)} data.pkl in it")
        try:
            return _read(file, archive, members, roots[0])
        except DAMAGED as error:
            raise TranscoderError(f"{file}: not what torch.save writes, or damaged: {error}") from error


def tensors(file: Path, saved: Any) -> dict[str, Stored]:
    """The tensors of a state dict, by their names in it. TranscoderError where it is no dictionary."""
    if not isinstance(saved, Mapping):
        raise TranscoderError(f"{file}: expected a dictionary of tensors, found {type(saved).__name__}")
    return {str(key): replace(value, key=str(key)) for key, value in saved.items() if isinstance(value, Stored)}


def _lead(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            return stream.read(2)
    except OSError as error:
        raise TranscoderError(f"{file}: cannot be read ({error.strerror})") from error


def _read(file: Path, archive: ZipFile, members: Mapping[str, ZipInfo], root: str) -> Any:
    def storage(key: str, dtype: str, count: int) -> Storage:
        name = f"{root}data/{key}"
        if name not in members:
            raise TranscoderError(f"{file}: its pickle speaks of a storage {key!r} that is not there")
        start = data_start(file, members[name])
        if start is None:
            raise TranscoderError(f"{file}: {name} is compressed, as torch never writes it")
        return Storage(dtype, start, members[name].file_size)

    with archive.open(members[f"{root}data.pkl"]) as stream:
        return Reader(file, stream, storage).result()
