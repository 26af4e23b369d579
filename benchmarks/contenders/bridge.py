"""TransformerLens: its bridge around a Hugging Face model, with hooks at the points that a transcoder is about."""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.contenders.by_hand import Deltas, HandBatch, in_batches
from benchmarks.contenders.contender import Contender
from benchmarks.workloads import Workload
from benchmarks.world import Rows, World

ONE_ROW, WHOLE = "TransformerBridge, one row of the encoder", "TransformerBridge, whole encoder"


def bridge(world: World, workload: Workload, whole: bool) -> Contender:
    """As TransformerLens 4.3 offers it, weights as they are; `whole` encodes every feature to read one of them."""
    from transformer_lens.model_bridge import TransformerBridge

    model = TransformerBridge.boot_transformers(str(world.model), device=world.device, dtype=torch.float32)
    encoder = lru_cache(maxsize=None)(world.rows) if whole else None

    def one(batch: HandBatch) -> Tensor:
        pairs = [pair for layer in batch.deltas for pair in _pairs(layer, batch, encoder and encoder(layer))]
        with model.hooks(fwd_hooks=pairs):
            return _run(model, workload.new_tokens, batch)

    return in_batches(WHOLE if whole else ONE_ROW, world, workload, one)


def _run(model: Any, new_tokens: int, batch: HandBatch) -> Tensor:
    if not new_tokens:
        return model(batch.ids, attention_mask=batch.mask, return_type="logits", logits_to_keep=1)[:, -1]
    given = {"do_sample": False, "stop_at_eos": False, "verbose": False, "return_type": "tokens"}
    whole = model.generate(batch.ids, attention_mask=batch.real, max_new_tokens=new_tokens, **given)
    return whole[:, batch.ids.shape[1] :]


def _pairs(layer: int, batch: HandBatch, encoder: Rows | None) -> list[tuple[str, Any]]:
    seen: dict[str, Tensor] = {}
    read = partial(_read, deltas=batch.deltas[layer], encoder=encoder, index=batch.index, seen=seen)
    write = partial(_write, deltas=batch.deltas[layer], seen=seen)
    return [(f"blocks.{layer}.mlp.hook_in", read), (f"blocks.{layer}.hook_mlp_out", write)]


def _read(x: Tensor, hook: Any, deltas: Deltas, encoder: Rows | None, index: Tensor, seen: dict[str, Tensor]) -> None:
    if encoder is None:
        seen["a"] = deltas.activation(x)
    else:
        every = encoder.activations(x)
        seen["a"] = every.gather(-1, index[:, None, None].expand(-1, x.shape[1], 1))[..., 0]


def _write(out: Tensor, hook: Any, deltas: Deltas, seen: dict[str, Tensor]) -> Tensor:
    return out + deltas.from_activation(seen.pop("a"))
