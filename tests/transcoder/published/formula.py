"""What the publishers' own arithmetic gives, in float64, written from the published formulas alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

WIDTH, D_IN, D_OUT, N = 23, 14, 9, 40  # no two of them equal, so that nothing fits by luck


@dataclass(frozen=True)
class Formula:
    """One layer: activations [n d_transcoder] of x [n d_in], and the output [n d_out] for activations and x."""

    encode: Callable[[Tensor], Tensor]
    decode: Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Release:
    """A folder as it was published, and the numbers that its authors would get from it."""

    folder: Path
    format: str
    layers: Mapping[int, Formula]
    reads: str
    writes: str
    d_in: int = D_IN
    width: int = WIDTH


@dataclass(frozen=True)
class CrossLayerFormula:
    """All layers of a CLT: activations of one layer, and what every layer's features together write at one layer."""

    encode: Callable[[int, Tensor], Tensor]
    decode: Callable[[int, Mapping[int, Tensor], Tensor], Tensor]
    rows: Callable[[int], Tensor]  # layer -> [d_transcoder n_writes d_out], the layer itself first


@dataclass(frozen=True)
class CrossLayerRelease:
    """The same for a CLT."""

    folder: Path
    format: str
    n_layers: int
    formula: CrossLayerFormula
    reads: str
    writes: str


def drawn(seed: int, *shape: int, scale: float = 1.0) -> Tensor:
    """Float32 numbers, all different."""
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def weights(seed: int, d_in: int = D_IN, d_out: int | None = None) -> dict[str, Tensor]:
    """Rows are features; decoder vectors of many lengths; biases so large that a wrong rule for them shows."""
    d_out = d_in if d_out is None else d_out
    lengths = torch.linspace(0.2, 3, WIDTH)[:, None]
    return {
        "W_enc": drawn(1000 + seed, WIDTH, d_in, scale=0.4),
        "W_dec": drawn(2000 + seed, WIDTH, d_out, scale=0.5) * lengths,
        "b_enc": drawn(3000 + seed, WIDTH, scale=0.7),
        "b_dec": drawn(4000 + seed, d_out, scale=3.0),
    }


def thresholds(seed: int) -> Tensor:
    """Some below zero: there it shows whether a layout cuts activations at zero."""
    return torch.linspace(-1.5, 2, WIDTH)[torch.randperm(WIDTH, generator=torch.Generator().manual_seed(5000 + seed))]


def inputs(d_in: int = D_IN, seed: int = 0, n: int = N) -> Tensor:
    """What a transcoder reads: of many lengths, and with a mean that is not zero."""
    x = drawn(6000 + seed, n, d_in) * torch.linspace(0.5, 4, n)[:, None]
    return x + 0.7


def relu(p: Tensor) -> Tensor:
    return torch.where(p > 0, p, 0.0)


def jumprelu(p: Tensor, threshold: Tensor) -> Tensor:
    """As Gemma Scope and SAELens have it: relu(p) where p is above the threshold."""
    return torch.where(p > threshold, relu(p), 0.0)


def jumprelu_unrectified(p: Tensor, threshold: Tensor) -> Tensor:
    """As circuit-tracer has it: p where p is above the threshold, also below zero."""
    return torch.where(p > threshold, p, 0.0)


def topk(p: Tensor, k: int) -> Tensor:
    """The k largest of each row as they are, the rest zero."""
    kept = torch.zeros_like(p)
    for row, values in enumerate(p.tolist()):
        for index in sorted(range(len(values)), key=lambda i: -values[i])[:k]:
            kept[row, index] = values[index]
    return kept


def signed_topk(p: Tensor, k: int) -> Tensor:
    """The k farthest from zero of each row as they are, the rest zero."""
    return torch.where(topk(p.abs(), k) > 0, p, 0.0)


def groupmax(p: Tensor, k: int) -> Tensor:
    """The largest of each of k equal runs of each row, if it is above zero."""
    kept = torch.zeros_like(p)
    size = p.shape[-1] // k
    for row, values in enumerate(p.tolist()):
        for start in range(0, len(values), size):
            index = max(range(start, start + size), key=values.__getitem__)
            kept[row, index] = max(values[index], 0)
    return kept


def standardised(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(normalised, mean, standard deviation) per token; n - 1 in the deviation, and 1e-5 added to it."""
    mean = x.mean(-1, keepdim=True)
    deviation = ((x - mean).square().sum(-1, keepdim=True) / (x.shape[-1] - 1)).sqrt()
    return (x - mean) / (deviation + 1e-5), mean, deviation


def rescaled(x: Tensor) -> tuple[Tensor, Tensor]:
    """(x at the norm sqrt(d), the coefficient) per token."""
    coefficient = x.shape[-1] ** 0.5 / x.square().sum(-1, keepdim=True).sqrt()
    return x * coefficient, coefficient


def wide(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key: tensor.double() for key, tensor in tensors.items()}
