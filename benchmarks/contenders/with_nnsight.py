"""nnsight: the same edits, written into a trace of the model."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import AutoTokenizer

from benchmarks.contenders.by_hand import HandBatch, in_batches
from benchmarks.contenders.contender import Contender
from benchmarks.workloads import Workload
from benchmarks.world import World

NAME = "nnsight"


def nnsight(world: World, workload: Workload) -> Contender:
    """One trace a batch."""
    from nnsight import TransformersModel

    model = TransformersModel(world.hf(), tokenizer=AutoTokenizer.from_pretrained(world.model))

    def traced(batch: HandBatch) -> Tensor:
        with model.trace(batch.ids, attention_mask=batch.mask, use_cache=False, logits_to_keep=1):
            for layer, deltas in batch.deltas.items():
                mlp = model.model.layers[layer].mlp
                x = mlp.input
                mlp.output = mlp.output + deltas.of(x)
            logits = model.output.logits.save()
        return logits[:, -1]

    def generated(batch: HandBatch) -> Tensor:
        steps, width = workload.new_tokens, batch.ids.shape[1]
        given = {"attention_mask": batch.real, "max_new_tokens": steps, "do_sample": False}
        with model.generate(batch.ids, **given) as tracer:
            for _ in tracer.iter[:steps]:
                for layer, deltas in batch.deltas.items():
                    mlp = model.model.layers[layer].mlp
                    x = mlp.input
                    mlp.output = mlp.output + deltas.of(x)
            whole = tracer.result.save()
        return torch.as_tensor(whole)[:, width:]

    return in_batches(NAME, world, workload, generated if workload.new_tokens else traced)
