"""Features: their activations, decoder vectors and statistics, read from disk row by row.

Only what an intervention needs is loaded. The transcoder's own output (reconstruction, `b_dec`, skip term) is never put
in the MLP's place; `decode_all` exists to measure how well it explains the MLP.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from torch import Tensor
from typing_extensions import assert_never

from steer.errors import TranscoderError
from steer.transcoder.formats import LayerFile
from steer.transcoder.layout import Activation, Layout, layout, require_feature


@dataclass(frozen=True)
class Block:
    """A run of a layer's features; `start` is the index of the first."""

    start: int
    W_enc: Float[Tensor, "block d_model"]
    b_enc: Float[Tensor, " block"]


@dataclass(frozen=True)
class Competition:
    """What a TopK feature competes with: all features of its layer, read in blocks; `indices` are the encoder's own."""

    indices: tuple[int, ...]
    blocks: Callable[[], Iterator[Block]]


@dataclass(frozen=True)
class Encoder:
    """The encoder rows of k features of one layer, float32 on one device."""

    W_enc: Float[Tensor, "k d_model"]
    b_enc: Float[Tensor, " k"]
    threshold: Float[Tensor, " k"] | None
    activation: Activation
    competition: Competition | None = None


@dataclass(frozen=True)
class FeatureStatistics:
    """What one feature does on the reference text (BOS excluded), and the length of its decoder vector."""

    max_act: float
    mean: float
    density: float
    decoder_norm: float


@dataclass(frozen=True)
class Statistics:
    """Largest and mean activation and share of positions where it fires, per feature, and |W_dec[f]|."""

    max_act: Float[Tensor, "n_layers d_transcoder"]
    mean: Float[Tensor, "n_layers d_transcoder"]
    density: Float[Tensor, "n_layers d_transcoder"]
    decoder_norm: Float[Tensor, "n_layers d_transcoder"]

    def at(self, layer: int, index: int) -> FeatureStatistics:
        """One feature's statistics as plain numbers."""
        return FeatureStatistics(*(float(getattr(self, field.name)[layer, index]) for field in fields(self)))


@dataclass(frozen=True)
class Example:
    """A piece of text where a feature fires strongly; `peak` is the index of the strongest token."""

    tokens: tuple[str, ...]
    activations: tuple[float, ...]
    peak: int


class Transcoders:
    """A set of transcoders, one per layer.

    `reads` and `writes` name the hook points of a block; a feature's change is added to `writes`.
    """

    def __init__(self, layout: Layout, device: str | torch.device = "cpu") -> None:
        self.layout = layout
        self.name = layout.name
        self.reads = layout.reads
        self.writes = layout.writes
        self.n_layers = len(layout.layers)
        self.d_model = layout.layers[0].d_model
        self.widths: Mapping[int, int] = {number: layer.width for number, layer in enumerate(layout.layers)}
        self.device = torch.device(device)
        self._files: dict[int, LayerFile] = {}

    @classmethod
    def open(cls, folder: Path, device: str | torch.device = "cpu") -> Transcoders:
        """The transcoders in a folder; reads headers only. Raises TranscoderError."""
        return cls(layout(folder), device)

    def encoder(self, layer: int, indices: Sequence[int]) -> Encoder:
        """What decides the activations of the given features, in the given order."""
        file = self._rows(layer, indices)
        activation = file.layout.activation
        return Encoder(
            W_enc=file.rows(file.layout.W_enc, indices),
            b_enc=file.rows(file.layout.b_enc, indices),
            threshold=file.thresholds(indices),
            activation=activation,
            competition=Competition(tuple(indices), lambda: self._blocks(layer)) if activation.kind == "topk" else None,
        )

    def decoder(self, layer: int, indices: Sequence[int]) -> Float[Tensor, "k d_model"]:
        """The decoder vectors of the given features, in the given order."""
        file = self._rows(layer, indices)
        return file.rows(file.layout.W_dec, indices)

    def encode_all(self, layer: int, x: Float[Tensor, "n d_model"]) -> Float[Tensor, "n d_transcoder"]:
        """The activations of every feature of a layer; for one feature `activations` gives the same number."""
        file = self._rows(layer, ())
        pre = torch.cat([_pre_activations(x, block.W_enc, block.b_enc) for block in self._blocks(layer)], dim=-1)
        return gated(pre, file.layout.activation, file.thresholds(range(self.widths[layer])), None)

    def decode_all(
        self, layer: int, activations: Float[Tensor, "n d_transcoder"], x: Float[Tensor, "n d_model"]
    ) -> Float[Tensor, "n d_model"]:
        """What the transcoder says that the MLP writes for x: activations @ W_dec + b_dec + x @ W_skip.T."""
        file = self._rows(layer, ())
        output = file.whole(file.layout.b_dec).expand(x.shape)
        for part in file.blocks():
            output = output + activations[:, part] @ file.block(file.layout.W_dec, part.start, part.stop)
        return output if file.layout.W_skip is None else output + x @ file.whole(file.layout.W_skip).T

    @cached_property
    def statistics(self) -> Statistics | None:
        """Per-feature statistics, if a `statistics.safetensors` lies beside the weights. Raises TranscoderError."""
        path = self.layout.statistics
        return None if path is None else _statistics(path, (self.n_layers, max(self.widths.values())))

    def examples(self, layer: int, index: int) -> list[Example]:
        """The feature's top activating examples, strongest first; empty where none are stored."""
        require_feature(self.name, self.widths, layer, index)
        return [
            Example(tuple(entry["tokens"]), tuple(entry["activations"]), entry["peak"])
            for entry in self._examples.get(f"{layer}/{index}", ())
        ]

    def weight_hash(self) -> str:
        """SHA-256 over the config and every layer file (hex); reads them all once, so ask when a run begins."""
        return self._weight_hash

    def statistics_hash(self) -> str | None:
        """SHA-256 (hex) of the statistics, which units and matched controls rest on; None where there are none."""
        return None if self.layout.statistics is None else _digest(self.layout.statistics)

    @cached_property
    def _weight_hash(self) -> str:
        files = (self.layout.config, *(layer.file for layer in self.layout.layers))
        return hashlib.sha256("\n".join(map(_digest, files)).encode()).hexdigest()

    @cached_property
    def _examples(self) -> dict[str, Any]:
        path = self.layout.examples
        if path is None:
            return {}
        try:
            content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
            return dict(json.loads(content))
        except (OSError, EOFError, ValueError) as error:
            raise TranscoderError(f"{path}: not the examples of a transcoder: {error}") from error

    def _rows(self, layer: int, indices: Sequence[int]) -> LayerFile:
        for index in indices or (0,):
            require_feature(self.name, self.widths, layer, index)
        if layer not in self._files:
            self._files[layer] = LayerFile(self.layout.layers[layer], self.device)
        return self._files[layer]

    def _blocks(self, layer: int) -> Iterator[Block]:
        file = self._rows(layer, ())
        for part in file.blocks():
            W_enc = file.block(file.layout.W_enc, part.start, part.stop)
            yield Block(part.start, W_enc, file.block(file.layout.b_enc, part.start, part.stop))


def activations(x: Float[Tensor, "... d_model"], encoder: Encoder) -> Float[Tensor, "... k"]:
    """The features' activations on what the transcoder reads, in the dtype of the encoder (float32).

    p = x @ W_enc.T + b_enc, then ReLU max(p, 0), JumpReLU p * (p > threshold), or TopK: p where it is among the k
    largest of all the layer's features. TopK takes p from the same product as its rivals, because a product with one
    feature's row alone rounds differently and could put the k-th feature on the wrong side; exact ties all fire.
    """
    if encoder.competition is None:
        return gated(_pre_activations(x, encoder.W_enc, encoder.b_enc), encoder.activation, encoder.threshold, None)
    flat = x.reshape(-1, x.shape[-1]).to(encoder.W_enc.dtype)
    pre, bar = _competing(flat, encoder.competition, encoder.activation)
    return gated(pre, encoder.activation, None, bar).reshape(*x.shape[:-1], pre.shape[-1])


def _pre_activations(
    x: Float[Tensor, "... d_model"], W_enc: Float[Tensor, "k d_model"], b_enc: Float[Tensor, " k"]
) -> Float[Tensor, "... k"]:
    return x.to(W_enc.dtype) @ W_enc.T + b_enc


def gated(
    pre: Float[Tensor, "... k"],
    activation: Activation,
    threshold: Float[Tensor, " k"] | None,
    bar: Float[Tensor, "... 1"] | None,
) -> Float[Tensor, "... k"]:
    """The activation function. `bar` is the k-th largest pre-activation, where `pre` are not all of the layer's."""
    match activation.kind:
        case "relu":
            return pre.clamp(min=0)
        case "jumprelu":
            assert threshold is not None
            kept = pre > threshold
        case "topk":
            assert activation.k is not None
            kept = pre >= (pre.topk(activation.k).values[..., -1:] if bar is None else bar)
        case _:
            assert_never(activation.kind)
    return (pre.clamp(min=0) if activation.rectified else pre).masked_fill(~kept, 0.0)


def _competing(
    x: Float[Tensor, "n d_model"], competition: Competition, activation: Activation
) -> tuple[Float[Tensor, "n k"], Float[Tensor, "n 1"]]:
    """Pre-activations of the competition's own features, and the k-th largest of the whole layer, in one pass."""
    indices = torch.tensor(competition.indices, device=x.device, dtype=torch.long)
    own = x.new_empty(len(x), len(indices))
    best = x.new_empty(len(x), 0)
    for block in competition.blocks():
        pre = _pre_activations(x, block.W_enc.to(x.dtype), block.b_enc.to(x.dtype))
        here = (indices >= block.start) & (indices < block.start + pre.shape[-1])
        own[:, here] = pre[:, indices[here] - block.start]
        best = torch.cat([best, pre], dim=-1)
        best = best.topk(min(activation.k or 0, best.shape[-1])).values
    return own, best[:, -1:]


def _statistics(path: Path, shape: tuple[int, int]) -> Statistics:
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {field.name: file.get_tensor(field.name).float() for field in fields(Statistics)}
    except (SafetensorError, OSError) as error:
        names = ", ".join(field.name for field in fields(Statistics))
        raise TranscoderError(f"{path}: not the statistics of a transcoder ({names}): {error}") from error
    for name, tensor in tensors.items():
        if tensor.shape != shape:
            found = f"{path}: {name} is {list(tensor.shape)}"
            raise TranscoderError(f"{found}, expected [n_layers d_transcoder] {list(shape)}")
    return Statistics(**tensors)


def _digest(file: Path) -> str:
    """SHA-256 of a file. The Hub's cache keeps large files under theirs, so those need not be read."""
    target = file.resolve()
    if target.parent.name == "blobs" and re.fullmatch("[0-9a-f]{64}", target.name):
        return target.name
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while chunk := stream.read(2**20):
            digest.update(chunk)
    return digest.hexdigest()
