"""pyvene: the same edits as an intervention of its own kind on the outputs of MLPs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from benchmarks.contenders.by_hand import Deltas, HandBatch, in_batches
from benchmarks.contenders.contender import Contender
from benchmarks.workloads import Workload
from benchmarks.world import World

NAME = "pyvene"


def pyvene(world: World, workload: Workload) -> Contender:
    """One intervenable model for every layer that is edited."""
    from pyvene import IntervenableConfig, IntervenableModel, SourcelessIntervention

    class Moved(SourcelessIntervention):
        """Adds what a batch's clamps move; told which batch by `deltas`."""

        deltas: Deltas

        def forward(self, base: Tensor, source: Any = None, subspaces: Any = None, args: Any = None) -> Tensor:
            return base + self.deltas.of(args)

    hf = world.hf()
    layers = sorted({row.clamp.layer for row in workload.rows if row.clamp})
    moved = {layer: Moved(keep_last_dim=True) for layer in layers}

    def intervenable(layer: int) -> Any:
        point = {"layer": layer, "component": f"model.layers[{layer}].mlp.output", "intervention": moved[layer]}
        return IntervenableModel(IntervenableConfig([point]), model=hf, as_adaptor=True)

    models = {layer: intervenable(layer) for layer in layers}

    def one(batch: HandBatch) -> Tensor:
        [(layer, deltas)] = batch.deltas.items()
        moved[layer].deltas = deltas
        return _run(models[layer], workload.new_tokens, batch)

    return in_batches(NAME, world, workload, one)


def _run(model: Any, new_tokens: int, batch: HandBatch) -> Tensor:
    everywhere = {"unit_locations": {"sources->base": ([None], [None])}}
    if not new_tokens:
        base = {"input_ids": batch.ids, "attention_mask": batch.mask, "logits_to_keep": 1}
        return model(base, **everywhere, use_cache=False)[1].logits[:, -1]
    base = {"input_ids": batch.ids, "attention_mask": batch.real}
    whole = model.generate(base, **everywhere, max_new_tokens=new_tokens, do_sample=False)[1]
    return torch.as_tensor(whole)[:, batch.ids.shape[1] :]
