"""What a transcoder folder holds, told from its configs and file headers alone: no weight is read, no torch imported.

Who published it is recognised from the files, or said by the user; `layouts/` has a file for each publisher.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

from steer.errors import TranscoderError
from steer.experiment.spec import TranscoderFormat
from steer.transcoder.canonical import Hooks, Kind, Layout
from steer.transcoder.found import Found
from steer.transcoder.layouts import (
    circuit_tracer,
    circuit_tracer_clt,
    dictionary_learning,
    dunefsky,
    gemma_scope,
    gemma_scope_2,
    openai,
    saelens,
    sparsify,
    sparsify_2024,
)

PUBLISHERS: Mapping[TranscoderFormat, ModuleType] = {
    "circuit-tracer": circuit_tracer,
    "circuit-tracer-clt": circuit_tracer_clt,
    "saelens": saelens,
    "sparsify": sparsify,
    "sparsify-2024": sparsify_2024,
    "gemma-scope": gemma_scope,
    "gemma-scope-2": gemma_scope_2,
    "dictionary-learning": dictionary_learning,
    "dunefsky": dunefsky,
    "openai": openai,
}
"""Each with `is_mine(found)`, `describe(found, hooks)` and what it NEEDS. A config.yaml comes first: it names files."""

FORMATS = tuple(PUBLISHERS)
PICKLES = (".pt", ".pth", ".bin", ".pkl", ".ckpt", ".gz")


@dataclass(frozen=True)
class Shape:
    """The facts that an experiment file is checked against; `widths` is d_transcoder by layer."""

    n_layers: int
    widths: Mapping[int, int]
    d_model: int
    reads: str
    writes: str
    kind: Kind


def shapes(
    folder: Path, format: TranscoderFormat | None = None, reads: str | None = None, writes: str | None = None
) -> Shape:
    """Layers, widths and hook points of the transcoders in a folder; raises TranscoderError like `layout`."""
    found = layout(folder, format, reads, writes)
    widths = {number: layer.width for number, layer in found.layers.items()}
    d_model = next(iter(found.layers.values())).d_out
    n_layers = max(number + layer.n_writes for number, layer in found.layers.items())
    return Shape(n_layers, widths, d_model, found.reads, found.writes, found.kind)


def layout(
    folder: Path, format: TranscoderFormat | None = None, reads: str | None = None, writes: str | None = None
) -> Layout:
    """What a folder holds; raises TranscoderError with the file, what was found in it and what is possible.

    `format` is recognised where it is not given; `reads` and `writes` are hook points of a block that the user states
    in place of the files.
    """
    if not folder.is_dir():
        raise TranscoderError(f"{folder}: no such folder")
    found = Found(folder)
    stated = tuple(f"{name}: {value}" for name, value in (("reads", reads), ("writes", writes)) if value)
    publisher = PUBLISHERS[recognised(found)] if format is None else _named(found, format)
    described: Layout = publisher.describe(found, Hooks(reads, writes))
    return replace(
        described,
        statistics=found.beside("statistics.safetensors"),
        examples=found.beside("examples.json", "examples.json.gz"),
        stated=stated,
    )


def _named(found: Found, format: str) -> ModuleType:
    """The publisher that the user names, if the folder could be theirs."""
    for name, publisher in PUBLISHERS.items():
        if name == format and publisher.is_mine(found):
            return publisher
        if name == format:
            raise TranscoderError(
                f"{found.folder}: not laid out as {format} says; found {found.listed}; expected {publisher.NEEDS}"
            )
    raise TranscoderError(f"{found.folder}: there is no format {format!r} (possible: {', '.join(PUBLISHERS)})")


def recognised(found: Found) -> TranscoderFormat:
    """Whose layout it is. TranscoderError with what was found and what is known where it is nobody's."""
    for name, publisher in PUBLISHERS.items():
        if publisher.is_mine(found):
            return name
    known = "; ".join(f"{name} ({publisher.NEEDS})" for name, publisher in PUBLISHERS.items())
    raise TranscoderError(f"{found.folder}: {_why(found)}; found {found.listed}; known: {known}")


def require_feature(name: str, widths: Mapping[int, int], layer: int, index: int) -> None:
    """Raises TranscoderError unless the feature exists."""
    if layer not in widths:
        raise TranscoderError(f"{name} has no layer {layer} (layers {runs(widths)})")
    if not 0 <= index < widths[layer]:
        raise TranscoderError(f"{name} has no feature {layer}/{index} (layer {layer}: 0-{widths[layer] - 1})")


def runs(layers: Iterable[int]) -> str:
    """Layers as text: 0-25, or one by one where some are missing."""
    numbers = sorted(layers)
    whole = numbers == list(range(numbers[0], numbers[-1] + 1))
    return f"{numbers[0]}-{numbers[-1]}" if whole else ", ".join(map(str, numbers))


def _why(found: Found) -> str:
    if any(file.suffix in PICKLES for file in found.files) and not found.named(r".*\.(safetensors|npz)"):
        return "only pickles, of no layout that is known; others are never opened, because opening one can run code"
    return "no layout that is known"
