"""`steer transcoders inspect`: what a folder holds, told from configs and file headers alone."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from steer.transcoder.canonical import Activation, LayerLayout, Layout, Normalisation
from steer.transcoder.layout import layout


def contents(folder: Path) -> Iterator[str]:
    """Lines on format, layers, widths, hook points and arithmetic. TranscoderError like `layout`."""
    found = layout(folder)
    yield f"{folder}: {found.kind}, {found.format} layout"
    yield from (f"  {name:<12}{value}" for name, value in _facts(found))


def _facts(found: Layout) -> Iterator[tuple[str, str]]:
    layers = [layer for _, layer in sorted(found.layers.items())]
    yield "layers", f"{_numbers(found.layers)} ({len(layers)})"
    yield "features", f"{_each(f'{layer.width:,}' for layer in layers)} a layer"
    yield "d_model", _each(_model_widths(layer) for layer in layers)
    yield "dtype", _each(layer.W_enc.dtype for layer in layers)
    yield "reads", found.reads
    yield "writes", found.writes + (" of this and every later layer" if found.kind == "clt" else "")
    yield "activation", _each(_activation(layer.activation) for layer in layers)
    yield "input", _each(_input(layer) for layer in layers)
    yield "skip", _each("no" if layer.W_skip is None else "yes" for layer in layers)
    yield "statistics", _beside(found.statistics)
    yield "examples", _beside(found.examples)
    files = [file for file in (*found.files, found.statistics, found.examples) if file is not None]
    yield "on disk", f"{_size(sum(file.stat().st_size for file in files))} in {len(files)} files"


def _numbers(layers: Collection[int]) -> str:
    ordered = sorted(layers)
    whole = ordered == list(range(ordered[0], ordered[-1] + 1)) and len(ordered) > 1
    return f"{ordered[0]} to {ordered[-1]}" if whole else ", ".join(map(str, ordered))


def _each(values: Iterable[str]) -> str:
    """What all layers say, or everything that some of them say."""
    return " or ".join(dict.fromkeys(values))


def _model_widths(layer: LayerLayout) -> str:
    return str(layer.d_in) if layer.d_in == layer.d_out else f"{layer.d_in} read, {layer.d_out} written"


def _activation(activation: Activation) -> str:
    kind = "signed topk" if activation.signed else activation.kind
    return kind + (f", k = {activation.k}" if activation.k else "")


def _input(layer: LayerLayout) -> str:
    """What is done to the input before the encoder."""
    done = [] if layer.normalisation is None else [_normalisation(layer.normalisation)]
    done += ["a bias subtracted"] if layer.b_in is not None else []
    return ", then ".join(done) or "as it is read"


def _normalisation(normalisation: Normalisation) -> str:
    match normalisation.kind:
        case "layer_norm":
            return "standardised per token"
        case "constant_norm":
            return "scaled to one length"
        case "constant":
            return f"times {normalisation.factor:g}"


def _beside(file: Path | None) -> str:
    return "none" if file is None else file.name


def _size(n_bytes: int) -> str:
    """A number of bytes in units of 1000."""
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if n_bytes >= size:
            return f"{n_bytes / size:.2f} {unit}"
    return f"{n_bytes} bytes"
