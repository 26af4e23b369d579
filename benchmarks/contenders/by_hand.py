"""Hugging Face alone, and with the forward hooks that somebody writes who knows what to do: whole batches at a time.

Rows of one batch may clamp other features to other values; a layer's hook computes each row's own activation and adds
what that moves. Batches are the workload's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from benchmarks.contenders.contender import Answer, Contender
from benchmarks.workloads import Row, Workload
from benchmarks.world import World
from steer.model.generation import padded
from steer.model.linear import with_onednn

PLAIN, HOOKS = "plain Hugging Face", "hand-written hooks"
ON_ONEDNN = "hand-written hooks, linear layers by oneDNN"


@dataclass(frozen=True)
class Deltas:
    """The clamps of a batch in one layer; rows without one write along zero."""

    W_enc: Float[Tensor, "batch d_model"]
    b_enc: Float[Tensor, "batch 1"]
    threshold: Float[Tensor, "batch 1"]
    W_dec: Float[Tensor, "batch 1 d_model"]
    value: Float[Tensor, "batch 1"]

    def of(self, x: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "batch pos d_model"]:
        """What is added to the MLP's output where it read x."""
        return self.from_activation(self.activation(x))

    def activation(self, x: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "batch pos"]:
        pre = (x @ self.W_enc[..., None])[..., 0] + self.b_enc
        return torch.where(pre > self.threshold, pre, 0.0)

    def from_activation(self, a: Float[Tensor, "batch pos"]) -> Float[Tensor, "batch pos d_model"]:
        return (self.value - a)[..., None] * self.W_dec


@dataclass(frozen=True)
class HandBatch:
    """One batch: its tokens, which columns are tokens (`mask` is None where all are), the clamps by layer.

    `index` is the feature of each row, whatever its layer.
    """

    ids: Int[Tensor, "batch pos"]
    real: Int[Tensor, "batch pos"]
    mask: Int[Tensor, "batch pos"] | None
    index: Int[Tensor, " batch"]
    deltas: dict[int, Deltas]


One = Callable[[HandBatch], Tensor]
"""Runs a batch: its last logits [batch d_vocab], or the tokens that are generated [batch new_tokens]."""


def in_batches(name: str, world: World, workload: Workload, one: One, steers: bool = True) -> Contender:
    """A contender that takes the workload's batches one after another."""
    batches = hand_batches(world, workload)

    def work(batches: Sequence[HandBatch]) -> list[Tensor]:
        with torch.inference_mode():
            return [one(batch) for batch in batches]

    return Contender(name, lambda: batches, work, partial(gathered, workload), steers)


def plain(world: World, workload: Workload) -> Contender:
    """Hugging Face on the same rows, not steered."""
    model = world.hf()
    return in_batches(PLAIN, world, workload, partial(run, model, workload.new_tokens), steers=False)


def hooks(world: World, workload: Workload) -> Contender:
    """One forward hook on the MLP of every layer in use."""
    return _hooks(HOOKS, world.hf(), world, workload)


def hooks_on_onednn(world: World, workload: Workload) -> Contender:
    """The same on linear layers as this project's are."""
    return _hooks(ON_ONEDNN, with_onednn(world.hf()), world, workload)


def _hooks(name: str, model: Any, world: World, workload: Workload) -> Contender:
    def one(batch: HandBatch) -> Tensor:
        with hooked(model, batch.deltas):
            return run(model, workload.new_tokens, batch)

    return in_batches(name, world, workload, one)


def run(model: Any, new_tokens: int, batch: HandBatch) -> Tensor:
    """Hugging Face's own pass over a batch, or its own `generate`."""
    if not new_tokens:
        return model(batch.ids, attention_mask=batch.mask, use_cache=False, logits_to_keep=1).logits[:, -1]
    whole = model.generate(batch.ids, attention_mask=batch.real, max_new_tokens=new_tokens, do_sample=False)
    return whole[:, batch.ids.shape[1] :]


@contextmanager
def hooked(model: Any, deltas: dict[int, Deltas]) -> Iterator[None]:
    """Inside, the MLPs' outputs are moved."""
    mlps = {layer: model.model.layers[layer].mlp for layer in deltas}
    handles = [mlp.register_forward_hook(partial(_hook, deltas[layer])) for layer, mlp in mlps.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _hook(deltas: Deltas, mlp: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
    return output + deltas.of(args[0])


def gathered(workload: Workload, done: Sequence[Tensor]) -> Answer:
    """What the batches gave, in the workload's order of rows."""
    given = torch.cat(list(done)).cpu()
    order = torch.tensor([row for batch in workload.batches for row in batch]).argsort()
    return Answer(said=given[order].tolist()) if workload.new_tokens else Answer(logits=given[order])


# --- batches --------------------------------------------------------------------------------------------------


def hand_batches(world: World, workload: Workload) -> list[HandBatch]:
    """The workload's batches as tensors."""
    return [_batch(world, workload, rows) for rows in workload.batches]


def _batch(world: World, workload: Workload, which: tuple[int, ...]) -> HandBatch:
    rows = [workload.rows[r] for r in which]
    prompts = [workload.prompts[row.prompt] for row in rows]
    ids, mask = padded(prompts, 0)
    layers = sorted({row.clamp.layer for row in rows if row.clamp})
    real = mask.long().to(world.device)
    return HandBatch(
        ids.to(world.device),
        real,
        None if bool(mask.all()) else real,
        torch.tensor([row.clamp.index if row.clamp else 0 for row in rows], device=world.device),
        {layer: _deltas(world, layer, rows) for layer in layers},
    )


def _deltas(world: World, layer: int, rows: Sequence[Row]) -> Deltas:
    indices = sorted({row.clamp.index for row in rows if row.clamp and row.clamp.layer == layer})
    stored = world.rows(layer, indices)
    here = [row.clamp if row.clamp and row.clamp.layer == layer else None for row in rows]
    at = torch.tensor([0 if clamp is None else indices.index(clamp.index) for clamp in here], device=world.device)
    on = torch.tensor([[float(clamp is not None)] for clamp in here], device=world.device)
    threshold = torch.zeros_like(stored.b_enc) if stored.threshold is None else stored.threshold
    return Deltas(
        stored.W_enc[at],
        stored.b_enc[at][:, None],
        threshold[at][:, None],
        (stored.W_dec[at] * on)[:, None],
        torch.tensor([[0.0 if clamp is None else clamp.value] for clamp in here], device=world.device),
    )
