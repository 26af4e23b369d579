"""A batch under its edits: its prompts, and what is generated after them, token by token."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from steer.execution.passes import Edited, Engine, Ids, Known, Text
from steer.intervention.hooks import Editing
from steer.intervention.reference import Hooks, Wanted
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


@dataclass
class SteeredDecoder:
    """A decode step with the batch's edits; `shadow`, where baseline units need it, reads the same tokens unedited."""

    engine: Engine
    editing: Editing
    cache: RoomyCache
    watch: Watch
    shadow: RoomyCache | None
    column: int
    hooks: Hooks = field(default_factory=list)

    @contextmanager
    def hooked(self) -> Iterator[None]:
        """The hooks are there from step to step; beside a shadow they come and go."""
        self.hooks = [*self.editing.hooks(), *self.watch.hooks()]
        with self.engine.model.hooked(self.hooks) if self.shadow is None else nullcontext():
            yield

    def step(self, ids: Int[Tensor, "batch 1"], mask: Bool[Tensor, "batch context"]) -> Float[Tensor, "batch d_vocab"]:
        columns, model = slice(self.column, self.column + 1), self.engine.model
        self.editing.begun()
        self.editing.at(columns)
        self.watch.at(columns)
        if self.shadow is not None:
            reference, hooks = self.engine.capture(Wanted(reads=frozenset(self.editing.slots)))
            with model.hooked(hooks):
                model.forward_pass(ids, mask, self.shadow)
            self.editing.measure_levels(reference.reads)
        with model.hooked(self.hooks) if self.shadow is not None else nullcontext():
            logits = model.forward_pass(ids, mask, self.cache)[:, 0]
        self.column += 1
        return logits

    def keep(self, kept: Int[Tensor, " rows"]) -> None:
        self.cache.batch_select_indices(kept)
        if self.shadow is not None:
            self.shadow.batch_select_indices(kept)
        self.editing.keep(kept)
        self.watch.keep(kept)


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
    decoder = SteeredDecoder(
        engine,
        edited.editing.among(index, columns, every),
        cache,
        edited.watch.among(index, columns, every),
        _shadow(edited, index) if shadowed else None,
        layout.width,
    )
    with decoder.hooked():
        done = generate(
            decoder,
            engine.model.tokens,
            last[index],
            [prompts[b] for b in said],
            edited.text.mask[index],
            sampling,
            [seeds[b] for b in said],
        )
    edited.watch.repeat(same, columns)
    return tuple(done[said.index(b)] for b in same)


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
