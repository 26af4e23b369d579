"""From what a transcoder reads to its features' activations, in the order in which the publisher computes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from typing_extensions import assert_never

from steer.transcoder.canonical import Activation, Normalisation

EPSILON = 1e-5  # added to the standard deviation in `layer_norm`
SHORTEST = 1e-12  # what counts as a length in `constant_norm`: some models are zero at padding, and stay zero so


@dataclass(frozen=True)
class Input:
    """What is done to a token's input before it meets an encoder row."""

    normalisation: Normalisation | None = None
    b_in: Float[Tensor, " d_in"] | None = None

    def prepared(self, x: Float[Tensor, "... d_in"]) -> Float[Tensor, "... d_in"]:
        """normalised(x) - b_in, each where the layout has it."""
        normalised = x if self.normalisation is None else _normalised(x, self.normalisation)
        return normalised if self.b_in is None else normalised - self.b_in


@dataclass(frozen=True)
class Block:
    """A run of a layer's features; `start` is the index of the first."""

    start: int
    encoder: Encoder


@dataclass(frozen=True)
class Competition:
    """What a TopK or group-max feature competes with: all `width` features of its layer, read in blocks.

    `indices` are the encoder's own.
    """

    indices: tuple[int, ...]
    width: int
    blocks: Callable[[], Iterator[Block]]


@dataclass(frozen=True)
class Encoder:
    """The encoder rows of k features of one layer, float32 on one device.

    `scale` multiplies a pre-activation (the length of the feature's decoder vector, where a layout rescales by it);
    `b_gate` and `r_mag` belong to gated layouts, where `b_enc` is the magnitude's bias.
    """

    W_enc: Float[Tensor, "*k d_in"]
    b_enc: Float[Tensor, "*k"]
    threshold: Float[Tensor, "*k"] | None
    activation: Activation
    competition: Competition | None = None
    input: Input = Input()
    scale: Float[Tensor, "*k"] | None = None
    b_gate: Float[Tensor, "*k"] | None = None
    r_mag: Float[Tensor, "*k"] | None = None

    def at(self, index: Any) -> Encoder:
        """The same with every per-feature tensor indexed."""
        chosen: dict[str, Any] = {name: value[index] for name, value in self._tensors()}
        return replace(self, **chosen)

    def to(self, device: torch.device) -> Encoder:
        """The same on another device."""
        moved: dict[str, Any] = {name: value.to(device) for name, value in self._tensors()}
        b_in = None if self.input.b_in is None else self.input.b_in.to(device)
        return replace(self, **moved, input=replace(self.input, b_in=b_in))

    def _tensors(self) -> Iterator[tuple[str, Tensor]]:
        each = ((field.name, getattr(self, field.name)) for field in fields(self))
        return ((name, value) for name, value in each if isinstance(value, Tensor))


def activations(x: Float[Tensor, "... d_in"], encoder: Encoder) -> Float[Tensor, "... k"]:
    """The features' activations on what the transcoder reads, in the dtype of the encoder (float32).

    p = normalised(x) @ W_enc.T + b_enc, then the activation function: ReLU max(p, 0), JumpReLU p * (p > threshold),
    TopK p where it is among the k largest of all the layer's features, group-max where it is the largest of its group,
    or gated. What competes takes p from the same product as its rivals, because a product with one feature's row alone
    rounds differently and could put the k-th feature on the wrong side; exact ties all fire. Computed where the encoder
    is, given back where `x` is.
    """
    prepared = encoder.input.prepared(x.to(encoder.W_enc.device, encoder.W_enc.dtype))
    if encoder.competition is None:
        return activated(prepared @ encoder.W_enc.mT, encoder).to(x.device)
    flat = prepared.reshape(-1, prepared.shape[-1])
    pre, bar = _competing(flat, encoder.competition, encoder.activation)
    return gated(pre, encoder.activation, None, bar).reshape(*x.shape[:-1], pre.shape[-1]).to(x.device)


def activated(product: Float[Tensor, "... k"], encoder: Encoder) -> Float[Tensor, "... k"]:
    """The activations of features that compete with nobody, from what their encoder rows make of the input."""
    if encoder.activation.kind == "gated":
        assert encoder.b_gate is not None and encoder.r_mag is not None
        magnitude = (product * encoder.r_mag.exp() + encoder.b_enc).clamp(min=0)
        return magnitude.masked_fill(product + encoder.b_gate <= 0, 0.0)
    return gated(pre_activations(product, encoder), encoder.activation, encoder.threshold, None)


def pre_activations(product: Float[Tensor, "... k"], encoder: Encoder) -> Float[Tensor, "... k"]:
    """With the bias, and rescaled where the layout does so."""
    pre = product + encoder.b_enc
    return pre if encoder.scale is None else pre * encoder.scale


def gated(
    pre: Float[Tensor, "... k"],
    activation: Activation,
    threshold: Float[Tensor, "... k"] | None,
    bar: Float[Tensor, "... #k"] | None,
) -> Float[Tensor, "... k"]:
    """The activation function. `bar` is what wins the competition, where `pre` are not all of the layer's."""
    match activation.kind:
        case "relu":
            return pre.clamp(min=0)
        case "jumprelu":
            assert threshold is not None
            kept = pre > threshold
        case "topk" | "groupmax":
            kept = _strength(pre, activation) >= (_bar(pre, activation) if bar is None else bar)
        case "gated":
            raise AssertionError("a gated layer has two pre-activations: `activated`")
        case _:
            assert_never(activation.kind)
    return (pre.clamp(min=0) if activation.rectified else pre).masked_fill(~kept, 0.0)


def output_scale(x: Float[Tensor, "... d_in"], normalisation: Normalisation | None) -> Float[Tensor, "..."] | None:
    """What the decoder's output is multiplied with at each token, so an activation's change, too; None: with 1.

    A factor that is the same at every token is in the decoder vectors already.
    """
    if normalisation is None or not normalisation.undone:
        return None
    match normalisation.kind:
        case "layer_norm":
            deviation: Tensor = x.std(-1)
            return deviation
        case "constant_norm":
            scale: Tensor = x.norm(dim=-1) / x.shape[-1] ** 0.5
            return scale
        case "constant":
            return None
        case _:
            assert_never(normalisation.kind)


def decoder_scale(normalisation: Normalisation | None) -> float:
    """What the decoder vectors are multiplied with, at every token alike."""
    if normalisation is None or not normalisation.undone or normalisation.kind != "constant":
        return 1.0
    return 1 / normalisation.factor


def denormalised(
    output: Float[Tensor, "n d_out"], x: Float[Tensor, "n d_in"], normalisation: Normalisation | None
) -> Float[Tensor, "n d_out"]:
    """The decoder's output in the scale of what was read."""
    scale = output_scale(x, normalisation)
    if normalisation is None or scale is None:
        return output * decoder_scale(normalisation)
    scaled = output * scale[..., None]
    return scaled + x.mean(-1, keepdim=True) if normalisation.kind == "layer_norm" else scaled


def _normalised(x: Float[Tensor, "... d_in"], normalisation: Normalisation) -> Float[Tensor, "... d_in"]:
    match normalisation.kind:
        case "layer_norm":
            centred = x - x.mean(-1, keepdim=True)
            return centred / (centred.std(-1, keepdim=True) + EPSILON)
        case "constant_norm":
            length = x.norm(dim=-1, keepdim=True).clamp(min=SHORTEST)
            coefficient: Tensor = x.shape[-1] ** 0.5 / length
            return x * coefficient
        case "constant":
            return x * normalisation.factor
        case _:
            assert_never(normalisation.kind)


# --- competitions ---------------------------------------------------------------------------------------------


def _competing(
    x: Float[Tensor, "n d_in"], competition: Competition, activation: Activation
) -> tuple[Float[Tensor, "n k"], Float[Tensor, "n #k"]]:
    """Pre-activations of the competition's own features, and what each needs to win, in one pass over the layer."""
    indices = torch.tensor(competition.indices, device=x.device, dtype=torch.long)
    own = x.new_empty(len(x), len(indices))
    best = _unbeaten(x, activation)
    for block in competition.blocks():
        pre = pre_activations(x @ block.encoder.W_enc.T.to(x.dtype), block.encoder)
        here = (indices >= block.start) & (indices < block.start + pre.shape[-1])
        own[:, here] = pre[:, indices[here] - block.start]
        best = _beaten(best, _strength(pre, activation), block.start, competition.width, activation)
    return own, best[:, -1:] if activation.kind == "topk" else best[:, _groups(indices, competition.width, activation)]


def _strength(pre: Float[Tensor, "... k"], activation: Activation) -> Float[Tensor, "... k"]:
    """What is compared."""
    return pre.abs() if activation.signed else pre


def _bar(pre: Float[Tensor, "... k"], activation: Activation) -> Float[Tensor, "... #k"]:
    """What a feature needs to win, from all pre-activations of the layer."""
    strength = _strength(pre, activation)
    if activation.kind == "topk":
        return strength.topk(activation.k or 0).values[..., -1:]
    groups = strength.reshape(*strength.shape[:-1], activation.k or 1, -1)
    bar: Tensor = groups.amax(-1, keepdim=True).expand_as(groups).flatten(-2)
    return bar


def _unbeaten(x: Float[Tensor, "n d_in"], activation: Activation) -> Float[Tensor, "n best"]:
    """What the first block is compared with: nothing, or in every group nobody."""
    groups = activation.k if activation.kind == "groupmax" else 0
    return x.new_full((len(x), groups or 0), float("-inf"))


def _beaten(
    best: Float[Tensor, "n best"], strength: Float[Tensor, "n block"], start: int, width: int, activation: Activation
) -> Float[Tensor, "n next"]:
    """The k best so far, or the best of each group, after a block of features."""
    if activation.kind == "topk":
        best = torch.cat([best, strength], dim=-1)
        return best.topk(min(activation.k or 0, best.shape[-1])).values
    features = torch.arange(start, start + strength.shape[-1], device=best.device)
    return best.scatter_reduce(-1, _groups(features, width, activation).expand_as(strength), strength, "amax")


def _groups(features: Int[Tensor, " k"], width: int, activation: Activation) -> Int[Tensor, " k"]:
    """The group of each feature: `activation.k` runs of equal length."""
    return features // (width // (activation.k or 1))
