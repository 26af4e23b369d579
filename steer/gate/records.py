"""What the gate found of one layer, as a record that is kept by the hashes of model and layer; no torch."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from steer.errors import ResultsError
from steer.files import make_folder, write_atomic
from steer.transcoder.measured import record_of

SCHEMA = 1
BESIDE = "gate.json"
"""Records in a file of this name in the transcoder's own folder count like those that are kept."""


@dataclass(frozen=True)
class Try:
    """Unexplained variance on one way to read the text."""

    reads: str
    bos: bool
    unexplained: float


@dataclass(frozen=True)
class Loss:
    """Nats a token: of the model as it is, with the transcoder's output in the place of what is written, with zero."""

    original: float
    spliced: float
    zero: float

    @property
    def recovered(self) -> float | None:
        """How much of what zero costs the transcoder saves; None where zero costs less than 0.01 nats."""
        cost = self.zero - self.original
        return (self.zero - self.spliced) / cost if cost >= 0.01 else None


@dataclass(frozen=True)
class Figures:
    """What was measured of one layer; `l0_published` is None where its authors gave none."""

    layer: int
    unexplained: float
    l0: float
    l0_published: float | None
    dead: float
    loss: Loss
    tries: tuple[Try, ...]


@dataclass(frozen=True)
class Text:
    """What it was measured on: `bos` says whether a BOS stood in front, as in the runs of this model."""

    name: str
    sha256: str
    bos: bool
    tokens: int
    loss_tokens: int


@dataclass(frozen=True)
class Record:
    """One layer of a transcoder on one model: figures, those of all gated layers together, and the verdict."""

    model: str
    model_hash: str
    transcoder: str
    layer_hash: str
    reads: str
    writes: str
    text: Text
    figures: Figures
    layers: tuple[int, ...]
    together: Loss
    verdict: Literal["pass", "fail"]
    reasons: tuple[str, ...]
    notes: tuple[str, ...]
    created: str
    environment: dict[str, str]


def keep(record: Record) -> None:
    """Put a record where runs look for it, in the place of an older one. ResultsError."""
    path = record_of(record.model_hash, record.layer_hash)
    make_folder(path.parent)
    write_records(path, [record])


def write_records(path: Path, records: Sequence[Record]) -> None:
    """Records as a file. ResultsError."""
    content = {"schema": SCHEMA, "records": [asdict(record) for record in records]}
    write_atomic(path, json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


def kept_record(model: str, layer: str, folder: Path) -> Record | None:
    """The record of a model and a layer, by their hashes: the one that is kept, or one beside the transcoder.

    ResultsError for a file that is not a gate's.
    """
    files = (record_of(model, layer), folder / BESIDE)
    found = (one for file in files if file.is_file() for one in read_records(file))
    return next((one for one in found if (one.model_hash, one.layer_hash) == (model, layer)), None)


def read_records(path: Path) -> Iterator[Record]:
    """The records of a file. ResultsError for a file that is not a gate's."""
    try:
        content = json.loads(path.read_text("utf-8"))
        if content["schema"] != SCHEMA:
            raise ValueError(f"schema {content['schema']!r}, expected {SCHEMA}")
        yield from map(_record, content["records"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ResultsError(f"{path}: not the records of a gate: {error!r}; `steer gate` writes them anew") from error


def _record(entry: dict[str, Any]) -> Record:
    figures = dict(entry["figures"])
    figures["tries"] = tuple(Try(**one) for one in figures["tries"])
    figures["loss"] = Loss(**figures["loss"])
    lists = {name: tuple(entry[name]) for name in ("layers", "reasons", "notes")}
    parts = {"text": Text(**entry["text"]), "figures": Figures(**figures), "together": Loss(**entry["together"])}
    return Record(**{**entry, **lists, **parts})
