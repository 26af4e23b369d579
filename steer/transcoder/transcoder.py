"""Features: their activations, decoder vectors and statistics, read from disk row by row.

Only what an intervention needs is loaded. The transcoder's own output (reconstruction, `b_dec`, skip term) is never put
in the MLP's place; `decode_all` exists to measure how well it explains the MLP.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from torch import Tensor

from steer.digests import sha256_of
from steer.errors import RunError, TranscoderError
from steer.experiment.spec import TranscoderFormat
from steer.model.hashes import model_hash
from steer.transcoder.arithmetic import (
    Block,
    Competition,
    Encoder,
    Input,
    activated,
    decoder_scale,
    denormalised,
    gated,
    output_scale,
    pre_activations,
)
from steer.transcoder.canonical import Layout
from steer.transcoder.formats import LayerFile
from steer.transcoder.hashes import layer_hash
from steer.transcoder.layout import layout, require_feature
from steer.transcoder.measured import statistics_of

HEADS = "attn.hook_z"
HELD = 2**31  # bytes of encoder rows that are kept in memory where features compete; what is past them is read again


@dataclass(frozen=True)
class FeatureStatistics:
    """What one feature does on the reference text (BOS excluded), and the length of its decoder vector."""

    max_act: float
    mean: float
    density: float
    decoder_norm: float


@dataclass(frozen=True)
class Measured:
    """One statistic as `steer gate` measured it, by layer; a layer's file is read when the layer is asked for."""

    name: str
    of: Callable[[int], Mapping[str, Tensor]]

    def __getitem__(self, layer: int) -> Float[Tensor, " d_transcoder"]:
        return self.of(layer)[self.name]


ByLayer = Float[Tensor, "n_layers d_transcoder"] | Measured


@dataclass(frozen=True)
class Statistics:
    """Largest and mean activation and share of positions where it fires, per feature, and |W_dec[f]|; by layer.

    Measured ones raise RunError, naming the command, for a layer that was not measured.
    """

    max_act: ByLayer
    mean: ByLayer
    density: ByLayer
    decoder_norm: ByLayer

    def at(self, layer: int, index: int) -> FeatureStatistics:
        """One feature's statistics as plain numbers."""
        return FeatureStatistics(*(float(getattr(self, field.name)[layer][index]) for field in fields(self)))


@dataclass(frozen=True)
class Example:
    """A piece of text where a feature fires strongly; `peak` is the index of the strongest token."""

    tokens: tuple[str, ...]
    activations: tuple[float, ...]
    peak: int


class Transcoders:
    """A set of transcoders by layer, or of SAEs.

    `reads` and `writes` name the hook points of a block; a feature's change is added to `writes`. `layers` are those
    that have features here (a set may be held in part), `n_layers` counts up to the last that is written to. `model` is
    the folder of the model that they are used with: where the set brings no statistics, what `steer gate` measured of
    the two counts.
    """

    def __init__(self, layout: Layout, device: str | torch.device = "cpu", model: Path | None = None) -> None:
        self.layout = layout
        self.model = model
        self.name = layout.name
        self.format = layout.format
        self.kind = layout.kind
        self.reads = layout.reads
        self.writes = layout.writes
        self.layers = tuple(sorted(layout.layers))
        self.n_layers = max(self.writes_to(layer).stop for layer in self.layers)
        self.d_model = layout.layers[self.layers[0]].d_out
        self.widths: Mapping[int, int] = {number: layout.layers[number].width for number in self.layers}
        self.device = torch.device(device)
        self._files: dict[int, LayerFile] = {}
        self._norms: dict[int, Tensor] = {}
        self._held: dict[tuple[int, int], Block] = {}
        self._room = HELD
        self._statistics: dict[int, Mapping[str, Tensor]] = {}

    @classmethod
    def open(
        cls,
        folder: Path,
        device: str | torch.device = "cpu",
        format: TranscoderFormat | None = None,
        reads: str | None = None,
        writes: str | None = None,
        model: Path | None = None,
    ) -> Transcoders:
        """The transcoders in a folder; reads headers only. Raises TranscoderError."""
        return cls(layout(folder, format, reads, writes), device, model)

    @property
    def mlp_out(self) -> str:
        """The hook point of the MLP's output: where transcoders write, whatever SAEs are about."""
        return "hook_mlp_out" if self.kind == "sae" else self.writes

    def writes_to(self, layer: int) -> range:
        """The layers that a layer's features write to: its own, and in a CLT all later ones."""
        return range(layer, layer + self.layout.layers[layer].n_writes)

    def fits(self, n_layers: int, d_model: int) -> bool:
        """Whether a model has these layers and this width; attention heads side by side have a width of their own."""
        return self.n_layers <= n_layers and (self.writes == HEADS or self.d_model == d_model)

    def encoder(self, layer: int, indices: Sequence[int]) -> Encoder:
        """What decides the activations of the given features, in the given order."""
        file = self._rows(layer, indices)
        rivals = Competition(tuple(indices), file.layout.width, lambda: self._rivals(layer))
        competition = rivals if file.layout.activation.competes else None
        scale = self._lengths(layer, indices) if file.layout.rescaled else None
        return self._encoder(file, file.rows(file.layout.W_enc, indices), indices, scale, competition)

    def decoder(self, layer: int, indices: Sequence[int]) -> Float[Tensor, "k *write d_model"]:
        """What one unit of each of the given features writes: [k d_model]; of a CLT [k n_writes d_model].

        Of SAEs that normalise their input, before the token's own scale (`output_scale`).
        """
        file = self._rows(layer, indices)
        rows = file.rows(file.layout.W_dec, indices)
        rows = rows / _length(rows)[:, None] if file.layout.rescaled else rows
        return rows * decoder_scale(file.layout.normalisation)

    def direct(self, layer: int, indices: Sequence[int]) -> Float[Tensor, "k d_model"]:
        """All that one unit of each feature adds to the residual stream, over the layers that it writes to.

        TranscoderError for features of attention heads, which are not in the stream.
        """
        if self.writes == HEADS:
            raise TranscoderError(f"{self.name}: its features are in the attention heads, not in the residual stream")
        rows = self.decoder(layer, indices)
        return rows.sum(1) if rows.dim() == 3 else rows

    def output_scale(self, layer: int, x: Float[Tensor, "... d_in"]) -> Float[Tensor, "..."] | None:
        """What a change is multiplied with at each token before it is written; None where that is 1 everywhere."""
        return output_scale(x, self._rows(layer, ()).layout.normalisation)

    def encode_all(self, layer: int, x: Float[Tensor, "n d_in"]) -> Float[Tensor, "n d_transcoder"]:
        """The activations of every feature of a layer; for one feature `activations` gives the same number."""
        file = self._rows(layer, ())
        prepared = self._input(file).prepared(x.to(self.device).float())
        if not file.layout.activation.competes:
            parts = (activated(prepared @ block.encoder.W_enc.T, block.encoder) for block in self._blocks(layer))
            return torch.cat(list(parts), dim=-1)
        blocks = self._blocks(layer)
        pre = [pre_activations(prepared @ block.encoder.W_enc.T, block.encoder) for block in blocks]
        return gated(torch.cat(pre, dim=-1), file.layout.activation, None, None)

    def decode_all(
        self,
        layer: int,
        activations: Float[Tensor, "n d_transcoder"] | Mapping[int, Float[Tensor, "n d_transcoder"]],
        x: Float[Tensor, "n d_in"],
    ) -> Float[Tensor, "n d_model"]:
        """What the transcoder says that is written for x: activations @ W_dec + b_dec + x @ W_skip.

        For a CLT, `activations` has those of every layer up to this one, by layer.
        """
        sources = activations if isinstance(activations, Mapping) else {layer: activations}
        if missing := [source for source in range(layer) if self.kind == "clt" and source not in sources]:
            lacking = ", ".join(map(str, missing))
            raise TranscoderError(f"{self.name}: layer {layer} is written to by all before it; not given: {lacking}")
        return self.finished(layer, [self.written(one, values, layer) for one, values in sources.items()], x)

    def written(
        self, source: int, activations: Float[Tensor, "n d_transcoder"], layer: int
    ) -> Float[Tensor, "n d_model"]:
        """What the features of the layer `source` write to `layer`, before biases, skip term and scale."""
        output = torch.zeros(len(activations), self.d_model, device=self.device)
        for part in self._rows(source, ()).blocks():
            output = output + activations[:, part] @ self._decoder_block(source, part, layer)
        return output

    def finished(
        self, layer: int, parts: Sequence[Float[Tensor, "n d_model"]], x: Float[Tensor, "n d_in"]
    ) -> Float[Tensor, "n d_model"]:
        """What the transcoder says that is written to a layer, from what each source writes there."""
        file = self._rows(layer, ())
        b_dec, skip = file.maybe(file.layout.b_dec), file.maybe(file.layout.W_skip)
        output = torch.zeros(len(x), self.d_model, device=self.device) if b_dec is None else b_dec.expand(len(x), -1)
        for part in parts:
            output = output + part
        output = denormalised(output, x.float(), file.layout.normalisation)
        return output if skip is None else output + x @ skip

    def decoder_norms(self, layer: int) -> Float[Tensor, " d_transcoder"]:
        """The length of what one unit of each feature writes, over all layers that it writes to."""
        stored, lengths = self._rows(layer, ()).layout, self._all_lengths(layer)
        lengths = torch.ones_like(lengths) if stored.rescaled else lengths
        return decoder_scale(stored.normalisation) * (lengths if lengths.dim() == 1 else _length(lengths))

    @cached_property
    def statistics(self) -> Statistics | None:
        """Those of the `statistics.safetensors` beside the weights, or else what the gate measured on `model`.

        None where neither can be: there is no such file and no model. Raises TranscoderError.
        """
        if self.layout.statistics is not None:
            return _statistics(self.layout.statistics, 1 + self.layers[-1], max(self.widths.values()))
        if self.model is None:
            return None
        return Statistics(*(Measured(field.name, self._measured) for field in fields(Statistics)))

    def statistics_at(self, layer: int, index: int) -> FeatureStatistics | None:
        """A feature's statistics; None where nobody has measured its layer."""
        known = self.layout.statistics is not None or self._kept(layer) is not None
        return self.statistics.at(layer, index) if self.statistics is not None and known else None

    def examples(self, layer: int, index: int) -> list[Example]:
        """The feature's top activating examples, strongest first; empty where none are stored."""
        require_feature(self.name, self.widths, layer, index)
        return [
            Example(tuple(entry["tokens"]), tuple(entry["activations"]), entry["peak"])
            for entry in self._examples.get(f"{layer}/{index}", ())
        ]

    def weight_hash(self) -> str:
        """SHA-256 over the configs, every layer file and what the user stated in their place (hex).

        Reads them all once, so ask when a run begins.
        """
        return self._weight_hash

    def statistics_hash(self) -> str | None:
        """SHA-256 (hex) of the statistics, which units and matched controls rest on; None where there are none."""
        if self.layout.statistics is not None:
            return sha256_of(self.layout.statistics)
        kept = [sha256_of(file) for layer in self.layers if (file := self._kept(layer)) is not None]
        return hashlib.sha256("\n".join(kept).encode()).hexdigest() if kept else None

    @cached_property
    def _weight_hash(self) -> str:
        parts = (*map(sha256_of, self.layout.files), *self.layout.stated)
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

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

    def _kept(self, layer: int) -> Path | None:
        """The file of what the gate measured of a layer on the model; None where it did not."""
        if self.model is None:
            return None
        file = statistics_of(model_hash(self.model), layer_hash(self.layout, layer))
        return file if file.is_file() else None

    def _measured(self, layer: int) -> Mapping[str, Tensor]:
        if layer not in self._statistics:
            file = self._kept(layer)
            if file is None:
                raise RunError(
                    f"{self.name} brings no statistics.safetensors, and on this model those of layer {layer} were not"
                    " measured: `steer gate` with this experiment file does it (for unit max_act alone, `max_act:` on"
                    " the feature will do)"
                )
            self._statistics[layer] = _of_a_layer(file, self.widths[layer])
        return self._statistics[layer]

    def _rows(self, layer: int, indices: Sequence[int]) -> LayerFile:
        for index in indices or (0,):
            require_feature(self.name, self.widths, layer, index)
        if layer not in self._files:
            self._files[layer] = LayerFile(self.layout.layers[layer], self.device)
        return self._files[layer]

    def _input(self, file: LayerFile) -> Input:
        return Input(file.layout.normalisation, file.maybe(file.layout.b_in))

    def _encoder(
        self,
        file: LayerFile,
        W_enc: Tensor,
        indices: Sequence[int],
        scale: Tensor | None,
        competition: Competition | None = None,
    ) -> Encoder:
        stored = file.layout
        b_enc = file.maybe(stored.b_enc, indices)
        return Encoder(
            W_enc=W_enc,
            b_enc=torch.zeros(len(indices), device=self.device) if b_enc is None else b_enc,
            threshold=file.thresholds(indices),
            activation=stored.activation,
            competition=competition,
            input=self._input(file),
            scale=scale,
            b_gate=file.maybe(stored.b_gate, indices),
            r_mag=file.maybe(stored.r_mag, indices),
        )

    def _blocks(self, layer: int) -> Iterator[Block]:
        return (self._block(layer, part) for part in self._rows(layer, ()).blocks())

    def _block(self, layer: int, part: slice) -> Block:
        file = self._rows(layer, ())
        scale = self._all_lengths(layer)[part] if file.layout.rescaled else None
        W_enc = file.block(file.layout.W_enc, part.start, part.stop)
        return Block(part.start, self._encoder(file, W_enc, range(part.start, part.stop), scale))

    def _rivals(self, layer: int) -> Iterator[Block]:
        """All features of a layer where they compete: every generated token asks for them, so HELD bytes are kept."""
        for part in self._rows(layer, ()).blocks():
            place = layer, part.start
            block = self._held.get(place) or self._block(layer, part)
            size = block.encoder.W_enc.nbytes
            if place not in self._held and size <= self._room:
                self._held[place] = block
                self._room -= size
            yield block

    def _decoder_block(self, source: int, part: slice, layer: int) -> Float[Tensor, "block d_model"]:
        """What a run of features of the layer `source` writes to `layer`."""
        file = self._rows(source, ())
        stored = file.layout.W_dec
        rows = file.block(stored if len(stored.shape) == 2 else stored.only(layer - source), part.start, part.stop)
        return rows / self._all_lengths(source)[part][:, None] if file.layout.rescaled else rows

    def _lengths(self, layer: int, indices: Sequence[int]) -> Float[Tensor, " k"]:
        """|W_dec[f]| of the given features."""
        file = self._rows(layer, indices)
        return _length(file.rows(file.layout.W_dec, indices))

    def _all_lengths(self, layer: int) -> Float[Tensor, " d_transcoder"]:
        if layer not in self._norms:
            file = self._rows(layer, ())
            parts = (file.block(file.layout.W_dec, part.start, part.stop) for part in file.blocks())
            self._norms[layer] = torch.cat([_length(part) for part in parts])
        return self._norms[layer]


def _length(rows: Float[Tensor, "k d_model"]) -> Float[Tensor, " k"]:
    lengths: Tensor = rows.norm(dim=-1)
    return lengths


def _statistics(path: Path, n_layers: int, width: int) -> Statistics:
    """A set held in part may come with the statistics of all its layers."""
    tensors = _tensors(path)
    for name, tensor in tensors.items():
        if tensor.dim() != 2 or tensor.shape[0] < n_layers or tensor.shape[1] != width:
            found = f"{path}: {name} is {list(tensor.shape)}"
            raise TranscoderError(f"{found}, expected [n_layers d_transcoder] {[n_layers, width]}")
    return Statistics(**tensors)


def _of_a_layer(path: Path, width: int) -> Mapping[str, Tensor]:
    """What the gate keeps: the same tensors with one layer."""
    tensors = _tensors(path)
    for name, tensor in tensors.items():
        if tensor.shape != (1, width):
            raise TranscoderError(f"{path}: {name} is {list(tensor.shape)}, expected {[1, width]}")
    return {name: tensor[0] for name, tensor in tensors.items()}


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            return {field.name: file.get_tensor(field.name).float() for field in fields(Statistics)}
    except (SafetensorError, OSError) as error:
        names = ", ".join(field.name for field in fields(Statistics))
        raise TranscoderError(f"{path}: not the statistics of a transcoder ({names}): {error}") from error
