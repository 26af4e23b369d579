"""What a run is told about its pair of model and transcoder: never gated, failed, or nothing; no torch."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from steer.gate.records import Record, kept_record
from steer.model.hashes import model_hash
from steer.transcoder.canonical import Layout
from steer.transcoder.hashes import layer_hash
from steer.transcoder.layout import runs

SHOWN = 3  # layers whose reasons a message gives


@dataclass(frozen=True)
class Trust:
    """Of the layers in use: those that were never gated on this model, and the records of those that failed."""

    ungated: tuple[int, ...]
    failed: tuple[Record, ...]


def trust(model: Path, layout: Layout, folder: Path, layers: Collection[int]) -> Trust:
    """What is kept of these layers on the model in a folder; every file is read once. ResultsError."""
    hashed = model_hash(model)
    used = sorted(set(layers) & set(layout.layers))
    found = {layer: kept_record(hashed, layer_hash(layout, layer), folder) for layer in used}
    failed = tuple(one for one in found.values() if one is not None and one.verdict == "fail")
    return Trust(tuple(layer for layer, one in found.items() if one is None), failed)


def ungated_note(layers: Collection[int], pair: str, experiment: Path) -> str:
    """That nobody has looked whether the two belong together."""
    return (
        f"{pair} was never gated (layers {runs(layers)}), so nobody has looked whether these features explain anything"
        f" on this model: steer gate {experiment}"
    )


def failed_note(failed: Collection[Record], pair: str) -> str:
    """Which layers failed, and why."""
    why = [f"layer {one.figures.layer}: {'; '.join(one.reasons)}" for one in failed]
    more = f"; and {len(why) - SHOWN} layers more" if len(why) > SHOWN else ""
    return f"{pair} failed its gate: {'; '.join(why[:SHOWN])}{more}"
