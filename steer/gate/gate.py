"""`steer gate`: from what is asked for on the command line to records that runs find."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from steer.discovery.inputs import layers_of, numbers_of
from steer.errors import UsageError
from steer.execution.execute import require_pair
from steer.execution.loaded import Loaded, Weights
from steer.experiment.load import load
from steer.experiment.spec import Model, Transcoder
from steer.gate.measure import Asked, Progress, gated, keep_statistics
from steer.gate.passes import Pair
from steer.gate.records import Record, keep
from steer.gate.text import reference
from steer.transcoder.location import MAX_LAYERS, known_release, transcoder_folder
from steer.transcoder.registry import Release


@dataclass(frozen=True)
class Subject:
    """A model and a transcoder as a file or the command line states them; `layers` None: all that there are."""

    model: Model
    transcoder: Transcoder
    layers: frozenset[int] | None

    @property
    def release(self) -> Release | None:
        return known_release(self.transcoder.id, self.transcoder.revision)


@dataclass(frozen=True)
class Options:
    """How it is gated: on which text (None: the one for the model), how much of it, and how much for the losses."""

    text: Path | None
    tokens: int
    loss_tokens: int


def of_experiment(path: Path, overrides: Sequence[str]) -> Subject:
    """The pair of an experiment file, on the layers whose features it names. SpecError."""
    experiment = load(path, overrides)
    return Subject(experiment.spec.model, experiment.spec.transcoder, experiment.layers or None)


def of_words(model: dict[str, Any], transcoder: dict[str, Any]) -> Subject:
    """The pair that the command line names; the model may be left to the release. UsageError."""
    try:
        stated = Transcoder(**transcoder)
        known = known_release(stated.id, stated.revision)
        named = model.get("id") or ("pocket" if stated.id == "pocket" else known.model if known else None)
        if named is None:
            raise UsageError(f"--model: the registry does not know which model {stated.id} is of; say it")
        return Subject(Model(**{**model, "id": named}), stated, None)
    except ValidationError as error:
        wrong = (f"--{one['loc'][0]} {one['input']!r}: {one['msg']}" for one in error.errors())
        raise UsageError("; ".join(wrong)) from error


def opened(subject: Subject, written: str | None) -> tuple[Pair, tuple[int, ...]]:
    """Model and transcoders in memory, and the layers to gate. ModelError, TranscoderError, RunError, UsageError."""
    model, stated, loaded = subject.model, subject.transcoder, Loaded()
    weights = Weights(model.id, model.revision, model.dtype, model.device, patterns=False)
    folder = transcoder_folder(stated.id, stated.revision, _fetched(subject, written))
    transcoders = loaded.transcoders(folder, stated, weights)
    pair = Pair(loaded.model(weights), transcoders)
    require_pair(pair.model, transcoders)
    used = set(transcoders.layers) if subject.layers is None else subject.layers & set(transcoders.layers)
    layers = tuple(sorted(used)) if written is None else layers_of(written, transcoders)
    _require_sources(pair, layers)
    return pair, layers


def gate(pair: Pair, layers: tuple[int, ...], subject: Subject, options: Options, progress: Progress) -> list[Record]:
    """Measure, judge, and keep what was found. UsageError, ResultsError."""
    documents = reference(subject.model.id, options.text, pair.model.tokens, options.tokens)
    asked = Asked(subject.transcoder.id, layers, documents, options.tokens, options.loss_tokens)
    found = gated(pair, asked, subject.release, progress)
    for record in found.records:
        keep_statistics(pair, record, found.sums[record.figures.layer])
        keep(record)
    return list(found.records)


def _fetched(subject: Subject, written: str | None) -> Collection[int] | None:
    """The layers whose files are needed (None: all): those of a CLT that write to the ones in use, too."""
    release = subject.release
    n_layers = (release.layers if release else None) or MAX_LAYERS
    named = subject.layers if written is None else numbers_of(written, n_layers)
    cross = (release is not None and release.kind == "clt") or subject.transcoder.format == "circuit-tracer-clt"
    return range(max(named) + 1) if named and cross else named


def _require_sources(pair: Pair, layers: Collection[int]) -> None:
    """What a CLT writes to a layer comes from every layer before it, too."""
    if not layers:
        raise UsageError(f"{pair.transcoders.name} has none of the layers that are named")
    missing = sorted(set(range(max(layers) + 1)) - set(pair.transcoders.layers))
    if pair.transcoders.kind == "clt" and missing:
        raise UsageError(
            f"{pair.transcoders.name} is a cross-layer transcoder: what it writes to layer {max(layers)} cannot be told"
            f" without the features of layers {', '.join(map(str, missing))}, which are not here"
        )
