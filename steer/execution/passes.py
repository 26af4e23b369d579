"""The passes over a batch's texts: unedited, and edited where its rows differ.

What the unedited model did is known (`Known`) before an edited row runs. A row is the unedited model up to the first
layer and before the first column that it changes, so its pass starts there: with the known residual stream, changed,
and the known keys and values of the columns before. A row that changes nothing is not run. `Engine.shortcuts` switches
this off.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from steer.execution.parts import Part, parts, pieces
from steer.intervention.hooks import Editing
from steer.intervention.reference import Hooks, Reference, Wanted, capture, norm_points
from steer.intervention.rows import Row
from steer.intervention.slots import Layout
from steer.intervention.watch import Watch
from steer.model.cache import RoomyCache
from steer.model.generation import padded
from steer.model.language_model import LanguageModel
from steer.transcoder.transcoder import Transcoders

Ids = tuple[int, ...]
TOKENS = 1024  # more are not faster; measured on a Llama of 38 million parameters and on pocket, CPU
TOKENS_ELSEWHERE = 8192  # of a Gemma-2-2B in bfloat16 a pass of so many is arithmetic, not launching; not measured


@dataclass(frozen=True)
class Engine:
    """A model and the transcoders whose features are edited; without `shortcuts` every row runs whole."""

    model: LanguageModel
    transcoders: Transcoders
    shortcuts: bool = True

    @property
    def resumes(self) -> bool:
        """Whether rows start where they differ: asked for, and the model can."""
        return self.shortcuts and self.model.resumable

    @property
    def tokens(self) -> int:
        """Tokens of a pass at most, where nothing is generated and rows start where they differ."""
        return TOKENS if self.model.device.type == "cpu" else TOKENS_ELSEWHERE

    def wanted(self, rows: Sequence[Row]) -> Wanted:
        return Wanted.by(rows, self.model.n_layers, self.resumes)

    def ended(self, hooks: Hooks, columns: Int[Tensor, " n"]) -> AbstractContextManager[object]:
        """The last block answers at the columns that are asked for alone, where no hook looks at it."""
        last = f"blocks.{self.model.n_layers - 1}."
        looked_at = any(name.startswith(last) for name, _ in hooks)
        return self.model.answering_at(columns) if self.resumes and not looked_at else nullcontext()

    def capture(self, wanted: Wanted) -> tuple[Reference, Hooks]:
        norms = norm_points(self.model.n_layers, self.model.hook_dict)
        return capture(wanted, self.transcoders.reads, self.transcoders.mlp_out, self.model.n_layers, norms)


@dataclass(frozen=True)
class Text:
    """Prompts (padded on the left) with given text behind them (padded on the right)."""

    ids: Int[Tensor, "batch pos"]
    mask: Bool[Tensor, "batch pos"]
    layout: Layout

    @classmethod
    def of(cls, prompts: Sequence[Ids], behind: Sequence[Ids], pad_id: int, device: torch.device) -> Text:
        """The text of a teacher-forced pass; `behind` may be empty everywhere."""
        width, extra = max(map(len, prompts)), max(map(len, behind))
        ids, mask = padded(prompts, pad_id)
        right = torch.tensor([list(b) + [pad_id] * (extra - len(b)) for b in behind], dtype=torch.long)
        real = torch.tensor([[True] * len(b) + [False] * (extra - len(b)) for b in behind], dtype=torch.bool)
        lengths = tuple(map(len, prompts))
        return cls(
            torch.cat([ids, right.view(len(prompts), extra)], 1).to(device),
            torch.cat([mask, real.view(len(prompts), extra)], 1).to(device),
            Layout(lengths, width, width + extra),
        )


@dataclass(frozen=True)
class Known:
    """What the unedited model does on some texts: logits at `columns`, and what rows that run later need of it.

    `cache` is there where rows can take their first columns from it.
    """

    columns: tuple[int, ...]
    logits: Float[Tensor, "text n d_vocab"]
    reference: Reference
    watch: Watch
    cache: RoomyCache | None


def unedited_pass(engine: Engine, text: Text, rows: Sequence[Row], watch: Watch, columns: Sequence[int]) -> Known:
    """One pass over the texts of `rows`."""
    reference, hooks = engine.capture(engine.wanted(rows))
    cache = engine.model.new_cache(0) if engine.resumes else None
    kept = cache if cache is not None and cache.divisible else None
    hooks, at = [*hooks, *watch.hooks()], torch.tensor(columns)
    with torch.inference_mode(), engine.ended(hooks, at), engine.model.hooked(hooks):
        logits = engine.model.forward_pass(text.ids, text.mask, kept, at)
    return Known(tuple(columns), logits, reference, watch, kept)


@dataclass(frozen=True)
class Edited:
    """The rows of a batch on their way through the model, with room for `steps` tokens behind their texts.

    `text_of` says which of the known texts each row is.
    """

    engine: Engine
    text: Text
    text_of: Int[Tensor, " batch"]
    known: Known
    editing: Editing
    watch: Watch
    steps: int

    @classmethod
    def start(
        cls,
        engine: Engine,
        text: Text,
        text_of: Sequence[int],
        known: Known,
        rows: Sequence[Row],
        watch: Watch,
        steps: int = 0,
    ) -> Edited:
        model, layout = engine.model, text.layout
        index = torch.tensor(text_of, device=model.device)
        room = Layout(layout.lengths, layout.width, layout.total + steps)
        editing = Editing(rows, room, engine.transcoders, known.reference, index, model.devices, model.device)
        watch.start(known.watch, index)
        return cls(engine, text, index, known, editing, watch, steps)

    @cached_property
    def starts(self) -> tuple[list[int], list[int]]:
        """The block and the column from which each row runs (`Editing.starts`).

        Without known keys and values a row's pass covers all of its text, and nothing is known to go on from.
        """
        layout, n_layers = self.text.layout, self.engine.model.n_layers
        divided = self.known.cache is not None
        if not self.engine.resumes or (self.steps and not divided):
            return [0] * len(layout.lengths), [0] * len(layout.lengths)
        layers, columns = self.editing.starts(n_layers, layout.total)
        pads = [layout.width - length for length in layout.lengths]
        return layers, columns if divided else [min(pair) for pair in zip(columns, pads, strict=True)]

    def over_text(self) -> tuple[Float[Tensor, "batch n d_vocab"], RoomyCache | None]:
        """Logits at the known columns; and, where there are steps to come, the keys and values of all rows."""
        logits, cache = self.known.logits[self.text_of], self._cache()
        for part in self._parts():
            rows = torch.tensor(part.rows, device=self.engine.model.device)
            covered = torch.tensor(
                [n for n, at in enumerate(self.known.columns) if at >= part.column], dtype=torch.long
            )
            logits[rows[:, None], covered] = self._climb(part, torch.tensor(self.known.columns)[covered], cache)
        return logits, cache

    def _parts(self) -> Iterator[Part]:
        """What runs together. Where text is generated the keys and values of all rows are held anyway."""
        total, joining = self.text.layout.total, not self.editing.across
        for part in parts(*self.starts, self.engine.model.n_layers, total, joining):
            bounded = self.engine.resumes and not self.steps
            yield from pieces(part, total, self.engine.tokens) if bounded else [part]

    def _climb(
        self, part: Part, columns: Int[Tensor, " n"], cache: RoomyCache | None
    ) -> Float[Tensor, "rows n d_vocab"]:
        """Logits of a part's rows, which come in one after the other on the way up."""
        device, n_layers = self.engine.model.device, self.engine.model.n_layers
        ends = [block for block, _ in part.joins[1:]]
        rows, stream = torch.tensor([], dtype=torch.long, device=device), None
        for (block, joining), end in zip(part.joins, [*ends, None], strict=True):
            rows = torch.cat([rows, torch.tensor(joining, device=device)])
            stream = self._joined(stream, joining, block, part.column)
            blocks, at = range(block, n_layers if end is None else end), columns if end is None else columns[:0]
            logits, stream = self._pass(part, rows, blocks, stream, at, cache)
        return logits

    def _joined(self, stream: Tensor | None, joining: Sequence[int], block: int, column: int) -> Tensor | None:
        """What leaves the block before, for the rows that came in below and for those that come in now.

        Of the latter it is known but for their own change. None before the first block.
        """
        if block == 0:
            return None
        rows, columns = torch.tensor(joining, device=self.engine.model.device), slice(column, self.text.layout.total)
        editing = self.editing.among(rows, columns, range(block - 1, block))
        known = self.known.reference.streams[block - 1]
        new = editing.begin(block - 1, known[editing.text_of.to(known.device), column:])
        return new if stream is None else torch.cat([stream.to(new.device), new])

    def _pass(
        self,
        part: Part,
        rows: Int[Tensor, " rows"],
        blocks: range,
        stream: Float[Tensor, "rows pos d_model"] | None,
        columns: Int[Tensor, " n"],
        cache: RoomyCache | None,
    ) -> tuple[Float[Tensor, "rows n d_vocab"], Float[Tensor, "rows pos d_model"] | None]:
        """Rows through some blocks: logits at columns, and what leaves the last of the blocks."""
        model, where = self.engine.model, (rows, slice(part.column, self.text.layout.total), blocks)
        editing = self.editing.among(*where)
        hooks = [*editing.hooks(), *self.watch.among(*where).hooks()]
        editing.begun()
        left: list[Tensor] = []
        if len(columns) == 0:
            hooks.append((f"blocks.{blocks.stop - 1}.hook_resid_post", lambda x, hook: left.append(x)))
        ids, mask = self.text.ids[rows, part.column :], self.text.mask[rows, self._first(part) :]
        kv, at = self._before(part, rows, blocks, cache), columns - part.column
        partly = model.running(blocks, stream) if self.engine.resumes else nullcontext()
        with partly, self.engine.ended(hooks, at), model.hooked(hooks):
            logits = model.forward_pass(ids, mask, kv, at)
        if cache is not None and kv is not None and kv is not cache:
            cache.put(rows, self._first(part), kv, blocks)
        return logits, left[0] if left else None

    def _cache(self) -> RoomyCache | None:
        """Where the keys and values of all rows go, with what is known of them; None where none are needed."""
        if self.steps == 0:
            return None
        if self.known.cache is None:
            return self.engine.model.new_cache(self.steps)
        return self.known.cache.taken(self.text_of, slice(0, self.text.layout.total), self.steps)

    def _before(
        self, part: Part, rows: Int[Tensor, " rows"], blocks: range, cache: RoomyCache | None
    ) -> RoomyCache | None:
        """The keys and values that a pass starts with, and adds its own to; None where it does without."""
        first, known = self._first(part), self.known.cache
        if known is None:
            return cache  # a single part
        if cache is None and (first == part.column or not blocks):
            return None
        room = self.text.layout.total - part.column
        layers = {0, *blocks}  # the first says how long the text is
        return known.taken(self.text_of[rows], slice(first, part.column), room, layers)

    def _first(self, part: Part) -> int:
        """The column of a part's first token, or where it starts if that is before."""
        layout = self.text.layout
        return min(part.column, layout.width - max(layout.lengths[b] for b in part.rows))


def edited_pass(
    engine: Engine, text: Text, text_of: Sequence[int], known: Known, rows: Sequence[Row]
) -> Float[Tensor, "batch n d_vocab"]:
    """Logits of given text under the edits, at the known columns."""
    watch = Watch((), engine.transcoders, len(text_of), 0, engine.model.device)
    with torch.inference_mode():
        return Edited.start(engine, text, text_of, known, rows, watch).over_text()[0]
