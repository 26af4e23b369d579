"""A batch under its edits: its prompts, and what is generated after them, token by token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from steer.execution.decoders import CudaGraphs, GraphedDecoder, SteeredDecoder, capturable
from steer.execution.passes import Edited, Engine, Ids, Known, Text
from steer.intervention.hooks import Editing
from steer.intervention.rows import Row
from steer.intervention.watch import Watch
from steer.model.cache import RoomyCache
from steer.model.generation import Completion, Sampling, generate


@dataclass(frozen=True)
class Steered:
    """What a batch did under its edits."""

    logits: Float[Tensor, "batch n d_vocab"]
    completions: tuple[Completion, ...] | None
    editing: Editing


def steered_pass(
    engine: Engine,
    prompts: Sequence[Ids],
    text: Text,
    text_of: Sequence[int],
    known: Known,
    rows: Sequence[Row],
    watch: Watch,
    sampling: Sampling | None,
    seeds: Sequence[int],
) -> Steered:
    """The prompts under the edits, and what is generated after them; their last column has to be a known one."""
    steps = 0 if sampling is None else sampling.max_new_tokens
    with torch.inference_mode():
        edited = Edited.start(engine, text, text_of, known, rows, watch, steps)
        logits, cache = edited.over_text()
        if sampling is None or cache is None:
            return Steered(logits, None, edited.editing)
        shadowed = any(row.needs_shadow for row in rows)
        last = logits[:, known.columns.index(text.layout.width - 1)]
        done = _decoded(edited, last, cache, prompts, sampling, seeds, shadowed)
    return Steered(logits, done, edited.editing)


def _decoded(
    edited: Edited,
    last: Float[Tensor, "batch d_vocab"],
    cache: RoomyCache,
    prompts: Sequence[Ids],
    sampling: Sampling,
    seeds: Sequence[int],
    shadowed: bool,
) -> tuple[Completion, ...]:
    """Each row's completion; rows that are the unedited model say what the first of them says."""
    engine, layout = edited.engine, edited.text.layout
    same = _same(edited, seeds)
    said = sorted(set(same))
    index = torch.tensor(said, device=engine.model.device)
    columns, every = slice(layout.width, layout.width + sampling.max_new_tokens), range(engine.model.n_layers)
    if len(said) < len(same):
        cache.batch_select_indices(index)
    mask = edited.text.mask[index]
    steered = SteeredDecoder(
        engine,
        edited.editing.among(index, columns, every),
        cache,
        edited.watch.among(index, columns, every),
        _shadow(edited, index) if shadowed else None,
        layout.width,
    )
    decoder = _graphed(steered, mask, sampling.max_new_tokens)
    with decoder.hooked():
        done = generate(
            decoder,
            engine.model.tokens,
            last[index],
            [prompts[b] for b in said],
            mask,
            sampling,
            [seeds[b] for b in said],
        )
    edited.watch.repeat(same, columns)
    return tuple(done[said.index(b)] for b in same)


def _graphed(steered: SteeredDecoder, mask: Bool[Tensor, "rows pos"], steps: int) -> SteeredDecoder | GraphedDecoder:
    """The decoder with steps that are replayed, where they can be."""
    if not capturable(steered.engine, steered.editing, steered.watch, steps):
        return steered
    return GraphedDecoder.of(steered, mask, steps, CudaGraphs.on(mask.device))


def _same(edited: Edited, seeds: Sequence[int]) -> list[int]:
    """The row that each row is the same as: itself, or the first that is unedited, too, with this text and seed."""
    depth, beyond = edited.engine.model.n_layers, edited.editing.act_from(edited.text.layout.width)
    first: dict[tuple[int, int], int] = {}
    same = []
    for b, (text, seed) in enumerate(zip(edited.text_of.tolist(), seeds, strict=True)):
        plain = edited.starts[0][b] > depth and not beyond[b]
        same.append(first.setdefault((text, seed), b) if plain else b)
    return same


def _shadow(edited: Edited, rows: Int[Tensor, " rows"]) -> RoomyCache:
    """The cache of an unedited run over the prompts, for rows that measure their dose on the unedited model."""
    engine, text = edited.engine, edited.text
    if edited.known.cache is not None:
        return edited.known.cache.taken(edited.text_of[rows], slice(0, text.layout.total), edited.steps)
    cache = engine.model.new_cache(edited.steps)
    engine.model.forward_pass(text.ids[rows], text.mask[rows], cache)
    return cache
