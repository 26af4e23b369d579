"""Measures the finished `pocket`: per-feature statistics, top activating contexts, and how good the transcoders are.

Everything here runs in float32 on the bfloat16-rounded weights, over reference text that training never drew; `<bos>`
is left out.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import LlamaForCausalLM

from steer.model.explained import Sums
from steer.model.pocket.batches import encoded
from steer.model.pocket.corpus.mixture import reference_text
from steer.model.pocket.pretraining import held_out_loss
from steer.model.pocket.recipe import Recipe
from steer.model.pocket.transcoders import mlp_traffic

EXAMPLES = 8
BEFORE, AFTER = 10, 4
Weights = dict[str, Tensor]


def activations(weights: Weights, read: Tensor) -> Tensor:
    """JumpReLU: `p * (p > threshold)` with `p = read @ W_enc.T + b_enc`; `[... d_model]` -> `[... d_transcoder]`."""
    pre = read @ weights["W_enc"].T + weights["b_enc"]
    return pre * (pre > weights["activation_function.threshold"])


def decoded(weights: Weights, activation: Tensor) -> Tensor:
    return activation @ weights["W_dec"] + weights["b_dec"]


@dataclass
class Peaks:
    """The strongest tokens of each feature so far: value, document and position, `[EXAMPLES d_transcoder]` each."""

    value: Tensor
    document: Tensor
    position: Tensor

    def add(self, activation: Tensor, document: Tensor, position: Tensor) -> None:
        value, row = activation.topk(min(EXAMPLES, len(activation)), dim=0)
        value, order = torch.cat([self.value, value]).topk(EXAMPLES, dim=0)
        self.document = torch.cat([self.document, document[row]]).gather(0, order)
        self.position = torch.cat([self.position, position[row]]).gather(0, order)
        self.value = value


def no_peaks(width: int) -> Peaks:
    return Peaks(torch.zeros(EXAMPLES, width), *torch.zeros(2, EXAMPLES, width, dtype=torch.int64))


def places(ids: Tensor, first_document: int, pad: int) -> tuple[Tensor, Tensor]:
    """Document and position of the tokens that `mlp_traffic` keeps, in its order."""
    kept = (ids != pad) & (torch.arange(ids.shape[1]) > 0)
    row, position = kept.nonzero(as_tuple=True)
    return row + first_document, position


def padded_batches(rows: list[list[int]], pad: int, size: int = 64) -> Iterator[tuple[int, Tensor]]:
    for start in range(0, len(rows), size):
        chunk = rows[start : start + size]
        width = max(map(len, chunk))
        yield start, torch.tensor([row + [pad] * (width - len(row)) for row in chunk])


@torch.no_grad()
def surveyed(model: LlamaForCausalLM, layers: list[Weights], rows: list[list[int]]) -> tuple[list[Sums], list[Peaks]]:
    """One pass over the reference text."""
    width = len(layers[0]["b_enc"])
    sums, peaks = [Sums.empty(width) for _ in layers], [no_peaks(width) for _ in layers]
    for start, ids in padded_batches(rows, model.config.pad_token_id):
        where = places(ids, start, model.config.pad_token_id)
        for weights, total, top, seen in zip(layers, sums, peaks, mlp_traffic(model, ids), strict=True):
            activation = activations(weights, seen.read)
            total.add(activation, seen.wrote, decoded(weights, activation))
            top.add(activation, *where)
    return sums, peaks


def statistics(layers: list[Weights], sums: list[Sums]) -> Weights:
    """Largest, mean, density (share of tokens where it fires), decoder norm: `[layer d_transcoder]` each, float32."""
    return {
        "max_act": torch.stack([each.largest for each in sums]),
        "mean": torch.stack([each.mean() for each in sums]),
        "density": torch.stack([each.density() for each in sums]),
        "decoder_norm": torch.stack([weights["W_dec"].norm(dim=1) for weights in layers]),
    }


@torch.no_grad()
def replaced_loss(
    model: LlamaForCausalLM, layers: list[Weights], tokenizer: Tokenizer, recipe: Recipe, n: int
) -> float:
    """Held-out loss with every MLP's output replaced by its transcoder's, except at `<bos>`, where none was trained."""
    with ExitStack() as stack:
        for layer, weights in zip(model.model.layers, layers, strict=True):
            hook = layer.mlp.register_forward_hook(replacing(weights))
            stack.callback(hook.remove)
        return held_out_loss(model.eval(), tokenizer, recipe, n)


def replacing(weights: Weights) -> Any:
    def hook(_: Any, read: tuple[Tensor, ...], wrote: Tensor) -> Tensor:
        return torch.cat(
            [wrote[:, :1], decoded(weights, activations(weights, read[0].float()))[:, 1:].to(wrote.dtype)], dim=1
        )

    return hook


def report(
    model: LlamaForCausalLM, layers: list[Weights], sums: list[Sums], tokenizer: Tokenizer, recipe: Recipe
) -> dict[str, Any]:
    """How good model and transcoders are; what a reader should look at before believing an edit."""
    n = recipe.held_out_documents
    per_layer = [
        {
            "layer": layer,
            "unexplained_variance": round(each.unexplained(), 5),
            "mean_l0": round(each.l0(), 2),
            "dead_share": round(each.dead(), 4),
        }
        for layer, each in enumerate(sums)
    ]
    return {
        "layers": per_layer,
        "tokens": sums[0].tokens,
        "held_out_loss": round(held_out_loss(model, tokenizer, recipe, n), 4),
        "held_out_loss_replaced": round(replaced_loss(model, layers, tokenizer, recipe, n), 4),
    }


def context(layer: Weights, read: Tensor, tokens: list[str], feature: int, peak: int) -> dict[str, Any]:
    """A few tokens around a peak and the feature's activation at each."""
    first, last = max(0, peak - BEFORE), min(len(tokens), peak + AFTER + 1)
    pre = read[first:last] @ layer["W_enc"][feature] + layer["b_enc"][feature]
    values = (pre * (pre > layer["activation_function.threshold"][feature])).tolist()
    return {"tokens": tokens[first:last], "activations": [round(value, 2) for value in values], "peak": peak - first}


Spot = tuple[int, int, int, int]


def spots(peaks: list[Peaks]) -> dict[int, list[Spot]]:
    """Per document, which (layer, feature, rank, position) are wanted of it."""
    found: dict[int, list[Spot]] = {}
    for layer, top in enumerate(peaks):
        for rank, feature in top.value.nonzero().tolist():
            spot = (layer, feature, rank, int(top.position[rank, feature]))
            found.setdefault(int(top.document[rank, feature]), []).append(spot)
    return found


@torch.no_grad()
def examples(
    model: LlamaForCausalLM, layers: list[Weights], peaks: list[Peaks], rows: list[list[int]], tokenizer: Tokenizer
) -> dict[str, Any]:
    """`{"layer/index": [{tokens, activations, peak}, ...]}`, strongest first, for features that fire at all."""
    ranked: dict[tuple[int, int, int], dict[str, Any]] = {}
    for document, wanted in spots(peaks).items():
        reads = mlp_inputs(model, rows[document])
        words = [tokenizer.decode([token], skip_special_tokens=False) for token in rows[document]]
        for layer, feature, rank, position in wanted:
            ranked[layer, feature, rank] = context(layers[layer], reads[layer], words, feature, position)
    found: dict[str, Any] = {}
    for layer, feature, rank in sorted(ranked):
        found.setdefault(f"{layer}/{feature}", []).append(ranked[layer, feature, rank])
    return found


def mlp_inputs(model: LlamaForCausalLM, row: list[int]) -> list[Tensor]:
    """What each MLP reads over one document, `[pos d_model]` a layer."""
    reads: list[Tensor] = []
    with ExitStack() as stack:
        for layer in model.model.layers:
            hook = layer.mlp.register_forward_hook(lambda _, read, wrote: reads.append(read[0][0]))
            stack.callback(hook.remove)
        model.model(torch.tensor([row]), use_cache=False)
    return reads


def reference_rows(tokenizer: Tokenizer, recipe: Recipe) -> list[list[int]]:
    return encoded(tokenizer, reference_text(recipe.reference_documents))


def write_examples(found: dict[str, Any], path: Path) -> None:
    """Gzip without a time stamp, so that equal examples are equal bytes."""
    text = json.dumps(found, ensure_ascii=False, separators=(",", ":"))
    path.write_bytes(gzip.compress(text.encode(), mtime=0))
