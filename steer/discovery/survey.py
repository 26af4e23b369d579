"""One pass over many prompts: every feature's activation, a number a prompt, summed up by group.

Activations of all tokens are never held: a batch is reduced to a row a prompt, and rows to sums.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from steer.discovery.inputs import Reading
from steer.execution.passes import Engine
from steer.intervention.reference import Wanted
from steer.model.generation import padded

VALUES = 2**25  # activations of one layer held at a time (128 MB): it bounds the tokens of a batch

Reduce = Literal["max", "mean"]


@dataclass(frozen=True)
class Moments:
    """Prompts, sum and sum of squares of the prompts' activations by group, for some layers."""

    layers: tuple[int, ...]
    count: NDArray[np.float64]  # [group]
    total: NDArray[np.float64]  # [group layer d_transcoder]
    squares: NDArray[np.float64]

    def mean(self) -> NDArray[np.float64]:
        """Mean activation of each group, `[group layer d_transcoder]`."""
        return np.asarray(self.total / self.count[:, None, None])


def survey(
    engine: Engine, readings: Sequence[Reading], groups: Sequence[int], layers: tuple[int, ...], reduce: Reduce
) -> Moments:
    """The moments of every feature; prompt i belongs to group `groups[i]`, and each group has a prompt."""
    width = max(engine.transcoders.widths[layer] for layer in layers)
    shape = max(groups) + 1, len(layers), width
    total, squares = torch.zeros(shape, dtype=torch.float64), torch.zeros(shape, dtype=torch.float64)
    for batch in _batches(readings, VALUES // width):
        values = _reduced(engine, [readings[i] for i in batch], layers, reduce).cpu().double()
        where = torch.tensor([groups[i] for i in batch])
        total.index_add_(0, where, values)
        squares.index_add_(0, where, values.square())
    return Moments(layers, np.bincount(groups).astype(float), total.numpy(), squares.numpy())


def _batches(readings: Sequence[Reading], tokens: int) -> Iterator[list[int]]:
    """Indices of prompts that share a pass, in the order of their length, so that little is padded."""
    batch: list[int] = []
    for i in sorted(range(len(readings)), key=lambda i: len(readings[i].ids)):
        if batch and (len(batch) + 1) * len(readings[i].ids) > tokens:
            yield batch
            batch = []
        batch.append(i)
    yield batch


def _reduced(
    engine: Engine, batch: Sequence[Reading], layers: tuple[int, ...], reduce: Reduce
) -> Float[Tensor, "prompt layer d_transcoder"]:
    """Each feature's largest or mean activation over the positions read in a prompt."""
    model, transcoders = engine.model, engine.transcoders
    ids, mask = (tensor.to(model.device) for tensor in padded([one.ids for one in batch], model.tokens.pad_id))
    reference, hooks = engine.capture(Wanted(reads=frozenset(layers)))
    with torch.inference_mode(), model.hooked(hooks):
        model.forward_pass(ids, mask)
        row = [b for b, one in enumerate(batch) for _ in one.positions]
        column = [ids.shape[1] - len(one.ids) + p for one in batch for p in one.positions]
        lengths = [len(one.positions) for one in batch]
        each = (transcoders.encode_all(layer, reference.reads[layer][row, column].float()) for layer in layers)
        return torch.stack([_by_prompt(values, lengths, reduce) for values in each], dim=1)


def _by_prompt(
    values: Float[Tensor, "n d_transcoder"], lengths: list[int], reduce: Reduce
) -> Float[Tensor, "prompt d_transcoder"]:
    parts = torch.split(values, lengths)
    return torch.stack([part.amax(0) if reduce == "max" else part.mean(0) for part in parts])
